"""The command line's trunk: the group `afresh`, what its commands share, and what is said when one fails.

Settings are read when a command asks for them, so that `--help` and `sql` work where there are none. An `AfreshError`
ends a command with exit code 1, its problem and its hint on stderr, and no traceback (`--debug` shows it).
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from afresh_notifier.commands.compact import compact
from afresh_notifier.commands.demo import demo
from afresh_notifier.commands.doctor import doctor
from afresh_notifier.commands.embed import embed
from afresh_notifier.commands.jobs import jobs_command
from afresh_notifier.commands.migrate import migrate
from afresh_notifier.commands.refresh import refresh
from afresh_notifier.commands.serve import serve
from afresh_notifier.commands.shared import Invocation, config_option
from afresh_notifier.commands.sql import sql
from afresh_notifier.commands.tail import tail
from afresh_notifier.commands.verify import verify
from afresh_notifier.commands.watch import unwatch, watch
from afresh_notifier.errors import AfreshError

#: What a shell expects of a command that was ended by Ctrl-C: 128 and the signal's number.
INTERRUPTED = 130


class Trunk(click.Group):
    """A group that says in plain words why a command failed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; output that nobody reads any more ends it quietly (click sees to that)."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except AfreshError as error:
            if ctx.params.get("debug"):
                raise
            click.secho(f"Error: {error.problem}", err=True, fg="red")
            if error.hint:
                click.echo(f"Hint: {error.hint}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        return result


@click.group(cls=Trunk, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@config_option()
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(version("afresh"), prog_name="afresh")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Keeps materialized views, caches and dashboards on PostgreSQL fresh."""
    del debug  # read by Trunk.invoke
    ctx.obj = Invocation(config)


for command in (compact, demo, doctor, embed, jobs_command, migrate, refresh, serve, sql, tail, unwatch, verify, watch):
    cli.add_command(command)
