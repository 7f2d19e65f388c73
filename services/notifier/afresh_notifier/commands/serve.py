"""`afresh serve`: the service itself."""

from __future__ import annotations

import click
import uvloop

from afresh_notifier import app, logs
from afresh_notifier.commands.shared import Invocation, dsn_option, pass_invocation, run


@click.command(short_help="Run the service.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on. [default: settings]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes any free one. [default: settings]"
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is worth a line.",
)
@click.option("--log-json/--log-text", default=None, help="How a line looks. [default: text at a terminal, else JSON]")
@dsn_option
@pass_invocation
def serve(
    invocation: Invocation, host: str | None, port: int | None, log_level: str, log_json: bool | None, dsn: str | None
) -> None:
    """Run the service until SIGTERM or Ctrl-C."""
    logs.configure(level=log_level, json=log_json)
    settings = invocation.settings
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(
        update={"database": invocation.database(dsn), "server": settings.server.model_copy(update=given)}
    )
    run(app.serve(settings), loop_factory=uvloop.new_event_loop)
