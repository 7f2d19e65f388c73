"""`afresh tail`: invalidations as they happen, in a terminal."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import click
import orjson
from rich.text import Text

from afresh_cache import client
from afresh_cache.errors import SubscriptionRefused
from afresh_cache.messages import Invalidate, Position, Resync, Status
from afresh_notifier.commands.shared import Invocation, console, pass_invocation, run
from afresh_notifier.errors import AfreshError


@click.command(short_help="Show invalidations as they happen.")
@click.option("--url", metavar="ADDRESS", help="The service. [default: server.host and server.port of the settings]")
@click.option("--patterns", metavar="A,B", help="Hear only of these prefixes. [default: all]")
@click.option("--since", metavar="EPOCH:OFFSET", help="Begin after this position. [default: now]")
@click.option("--count", type=click.IntRange(1), help="End after this many messages.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_invocation
def tail(
    invocation: Invocation, url: str | None, patterns: str | None, since: str | None, count: int | None, as_json: bool
) -> None:
    """Show invalidations as they happen; reconnects and resumes by itself."""
    url = url or invocation.service_address()
    wanted = [pattern for pattern in patterns.split(",") if pattern] if patterns is not None else None
    try:
        position = None if since is None else Position.parse(since)
        client.websocket_url(url)
    except ValueError as error:
        raise AfreshError(str(error)) from error
    run(_tail(url, wanted, position, count, as_json=as_json))


async def _tail(
    url: str, patterns: list[str] | None, since: Position | None, count: int | None, *, as_json: bool
) -> None:
    out = console()
    heard, connected = 0, True
    try:
        async with contextlib.aclosing(client.listen(url, patterns=patterns, since=since)) as events:
            async for event in events:
                if as_json:
                    click.echo(orjson.dumps({"event": type(event).__name__.lower(), **_plain(event)}))
                elif connected or not isinstance(event, client.Disconnected):
                    out.print(_line(event, url))  # of tries that fail one after the other, the first says it all
                connected = not isinstance(event, client.Disconnected)
                heard += isinstance(event, Invalidate | Resync)
                if count is not None and heard >= count:
                    return
    except SubscriptionRefused as error:
        raise AfreshError(
            f"{url} refuses the subscription: {error}", hint="check the address: it must be the service's own"
        ) from error


def _plain(event: client.Event) -> dict[str, object]:
    return dict(orjson.loads(orjson.dumps(event)))


def _line(event: client.Event, url: str) -> Text:
    text = Text(datetime.now(UTC).astimezone().strftime("%H:%M:%S.%f")[:-3] + "  ", style="dim")
    match event:
        case client.Connected():
            text.append(f"connected at {event.position.offset}", style="green")
        case client.Disconnected():
            text.append(f"no service at {url} ({event.reason}): trying again until there is one", style="yellow")
        case Invalidate():
            text.append(f"{event.offset:>6}  ", style="cyan")
            text.append(" ".join(event.patterns), style="bold")
            text.append("".join(f"  {name}" for name in event.views), style="dim")
            text.append(f"  ← {' '.join(event.tables)}" if event.tables else "", style="dim")
        case Status(current=True):
            text.append("the service can read its log again", style="green")
        case Status():
            text.append("the service cannot read its log: it tells of nothing until it can", style="yellow")
        case Resync():
            text.append(f"{event.offset:>6}  ", style="cyan")
            text.append(f"resync ({event.reason}): drop everything", style="bold red")
    return text
