"""What the commands share: the settings of this invocation, one way into the event loop, and how things are printed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
import click
from rich.console import Console
from rich.progress import Progress, ProgressColumn

from afresh_notifier import packs, settings
from afresh_notifier.database import raised_by_us, said
from afresh_notifier.errors import AfreshError, DatabaseError
from afresh_notifier.packs import InstalledPack
from afresh_notifier.settings import DatabaseSettings, Settings, http_address

P = ParamSpec("P")
T = TypeVar("T")

#: The width of what is not printed to a terminal: wide enough that no line is broken for a program that reads it.
_WIDE = 1000


class Invocation:
    """One run of the command; settings are read when they are first asked for."""

    def __init__(self, config: Path | None) -> None:
        self.config = config

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises `SettingsError`."""
        return settings.load(self.config)

    def database(self, dsn: str | None) -> DatabaseSettings:
        """How the database is reached; ``dsn`` goes before the settings. Raises `SettingsError`."""
        database = self.settings.database
        return database.model_copy(update={"dsn": dsn}) if dsn else database

    def packs(self, names: Sequence[str] = ()) -> list[InstalledPack]:
        """The packs named, or those of the settings, with what they require. Raises `PackError` or `SettingsError`."""
        return packs.find_all(names or self.settings.packs)

    def service_address(self) -> str:
        """Where the service of these settings answers. Raises `AfreshError` where they do not say."""
        server = self.settings.server
        if server.port == 0:
            raise AfreshError(
                "server.port is 0, so the settings do not say where the service is", hint="give its address with --url"
            )
        return http_address(server.host, server.port)


_pass_invocation = click.make_pass_decorator(Invocation)


def pass_invocation(function: Callable[Concatenate[Invocation, P], T]) -> Callable[P, T]:
    """Gives a command the invocation, and the option `--config`, which may stand before the command's name as well."""
    return config_option(expose_value=False, callback=_configure)(_pass_invocation(function))


def config_option(**more: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """The option `--config`."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path),
        help="The settings' file; afresh.toml in the current folder, if there is one, when this is left out.",
        **more,
    )


def _configure(ctx: click.Context, _parameter: click.Parameter, config: Path | None) -> None:
    """What stands after the command goes before what stands in front of it."""
    if config is not None:
        ctx.ensure_object(Invocation).config = config


def dsn_option(function: Callable[P, T]) -> Callable[P, T]:
    """The option `--dsn`."""
    return click.option(
        "--dsn", metavar="ADDRESS", help="The database: postgresql://user:password@host/name. [default: settings]"
    )(function)


def pack_option(function: Callable[P, T]) -> Callable[P, T]:
    """The option `--pack`, which may be given several times."""
    return click.option(
        "--pack", "names", multiple=True, metavar="PACK", help="A pack, by name or path; may be repeated."
    )(function)


def run(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Carry out an asynchronous command; what the database refuses becomes a `DatabaseError`."""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main)
    except asyncpg.PostgresError as error:
        raise refused(error) from error
    except (asyncpg.InterfaceError, TimeoutError, ConnectionResetError) as error:
        raise DatabaseError(f"the connection to PostgreSQL was lost: {error}", hint="try again") from error


def note(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
    """Show what our functions and migrations want known, without PostgreSQL's own chatter ("does not exist, skipping").

    It listens to a connection's log: `connection.add_log_listener(note)`.
    """
    if raised_by_us(message):
        click.echo("\n".join(filter(None, (f"Note: {message.message}", message.detail, message.hint))), err=True)


def counted(count: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def raise_all(failures: Sequence[AfreshError]) -> None:
    """Raises one `AfreshError` for all of them: each thing was tried by itself, and the others are done."""
    if failures:
        raise AfreshError(
            "\n".join(failure.problem for failure in failures),
            hint="\n".join(dict.fromkeys(failure.hint for failure in failures if failure.hint)),
        )


def refused(error: asyncpg.PostgresError) -> DatabaseError:
    """What PostgreSQL said, whole: its message, detail and hint."""
    what, hint = said(error)
    return DatabaseError(what, hint=hint)


def console() -> Console:
    """Where to print. What is printed is data, so brackets and colons in it mean nothing."""
    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _WIDE
    return made


def progress(*columns: ProgressColumn) -> Progress:
    """What moves while something runs; nothing where nobody looks. Print beside it with its `console`."""
    screen = console()
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)
