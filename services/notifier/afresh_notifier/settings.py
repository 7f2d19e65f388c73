"""Settings: `afresh.toml`, the packs it names, and the environment, as frozen objects built once at the start.

In: a TOML file, `AFRESH_…` variables (which override it; `__` steps into a section), `DATABASE_URL`. Out: `Settings`,
in which everything is checked for its form; whether a table or a view exists is the database's to say.
Every problem is reported at once, in the words of `settings_errors`.
"""

from __future__ import annotations

import contextlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from afresh_notifier.errors import SettingsError
from afresh_notifier.settings_errors import complaints, refuse_twice, unknown_variables
from afresh_notifier.settings_queries import Queries, QueryDefaults, anchored
from afresh_notifier.settings_values import (
    Duration,
    Names,
    Origin,
    Pattern,
    Period,
    RelationName,
    Section,
    folded_name,
    names,
)
from afresh_notifier.settings_work import (
    ChatModelSettings,
    EmbeddingModelSettings,
    Embeddings,
    Jobs,
    anchored_jobs,
)
from afresh_notifier.statements import statements_in

#: Where settings are looked for when nothing is said.
DEFAULT_FILE = Path("afresh.toml")


class DatabaseSettings(Section):
    """How PostgreSQL is reached."""

    dsn: str | None = Field(None, description="Address of the database, `postgresql://user:password@host/name`.")
    connect_timeout: Period = Field(5.0, description="How long one attempt to connect may take.")
    probe_interval: Period = Field(0.5, description="How often the listening connection is asked whether it lives.")
    probe_timeout: Period = Field(1.0, description="How long it may take to answer before it is given up.")
    catalogue_poll: Period = Field(
        5.0, description="How often the catalogue is read for new or changed views, where no event trigger tells."
    )


class ServerSettings(Section):
    """The HTTP side."""

    host: str = Field("127.0.0.1", description="Address to listen on; `0.0.0.0` for every interface.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    origins: Annotated[tuple[Origin, ...], BeforeValidator(names)] = Field(
        (), description="Other web origins whose pages may connect (`https://app.example.com`, or `*`)."
    )
    flush: Duration = Field(0.01, description="Least time between two messages to one client; what meets is merged.")
    heartbeat: Period = Field(20.0, description="How often a quiet connection is pinged.")
    position_interval: Period = Field(30.0, description="How often a quiet client is told its resume position.")
    max_clients: int = Field(10_000, ge=1, description="Connections beyond this are refused with 503.")
    max_frame: int = Field(65_536, ge=256, description="Largest WebSocket frame taken from a client, in bytes.")
    client_buffer: int = Field(
        262_144, ge=1024, description="Bytes that may wait for one client before its messages are merged instead."
    )
    shutdown_timeout: Period = Field(10.0, description="How long a clean shutdown may take before it is cut short.")


class RefreshSettings(Section):
    """What holds for every view that does not say otherwise."""

    concurrency: int = Field(4, ge=1, le=64, description="Refreshes that may run at the same time.")
    debounce: Duration = Field(0.1, description="Quiet time after a change before a busy view is refreshed.")
    max_wait: Period = Field(2.0, description="Longest wait for that quiet; then it is refreshed all the same.")
    max_load: float = Field(0.2, gt=0, le=1, description="Largest share of time that a view may spend being refreshed.")
    timeout: Period = Field(300.0, description="Longest a refresh may run; then it is cancelled and tried again.")
    lock_timeout: Period = Field(
        0.2,
        description="Longest a refresh may wait for a lock; then it is tried again. Autovacuum, where it is at "
        "work on the view, is given about ten seconds; then a try waits longer by `deadlock_timeout`, and it gives way.",
    )
    retry_first: Period = Field(0.1, description="Wait after a first failure; doubled after each further one.")
    retry_max: Period = Field(30.0, description="Longest wait between two tries.")


class CaptureSettings(Section):
    """How the leader learns of what writers put into the change log."""

    bell: Literal["auto", "never"] = Field(
        "auto",
        description="Whether writers ring (a NOTIFY) while changes come slowly; `never` where they use "
        "PREPARE TRANSACTION, which a NOTIFY makes fail.",
    )
    threshold: float = Field(50.0, gt=0, description="Changes in a second above which the bell is silenced.")
    busy_pace: Period = Field(0.005, description="How often the log is looked at while changes come fast.")
    slow_pace: Period = Field(0.02, description="How often it is looked at while they do not, if the bell never rings.")
    idle_pace: Period = Field(0.25, description="How often it is looked at while they do not, and the bell rings.")


class LeaseSettings(Section):
    """Which of several instances leads."""

    length: Period = Field(3.0, description="How long a lease holds unless it is renewed; then another instance leads.")
    renew: Period = Field(1.0, description="How often it is renewed; twice and more within its length.")

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if 2 * self.renew > self.length:
            raise PydanticCustomError(
                "renewal",
                "expected renew to be at most half of length, so that one lost renewal does not lose the lease",
            )
        return self


class LogSettings(Section):
    """The invalidations kept for clients that resume, in the database and in the memory of each instance."""

    max_entries: int = Field(10_000, ge=1, description="Invalidations kept for clients that resume.")
    max_age: Period = Field(3600.0, description="How long they are kept.")


class TableSettings(Section):
    """One watched table."""

    name: RelationName = Field(description="The table, with its schema unless that is `public`.")
    keys: tuple[str, ...] = Field((), description="Columns whose values are carried in a change (`afresh watch`).")
    patterns: tuple[Pattern, ...] | None = Field(
        None, description="Cache keys that a change of it makes stale; left out: the table's own name."
    )


class ViewSettings(Section):
    """One materialized view; what is left out is taken from `[refresh]`. Loaded, ``next_change`` is what the file says."""

    name: RelationName = Field(description="The materialized view, with its schema unless that is `public`.")
    patterns: tuple[Pattern, ...] | None = Field(
        None, description="Cache keys that a refresh of it makes stale; left out: the view's own name."
    )
    every: Period | None = Field(None, description="Refresh at least this often, for views that read the clock.")
    next_change: str | None = Field(
        None,
        min_length=1,
        description="A file with one SELECT of the instant after `now()` at which its content will be another although no "
        "row is written, or NULL; it is refreshed then. A path from the folder of this file.",
    )
    debounce: Duration | None = Field(None, description="See `[refresh]`.")
    max_wait: Period | None = Field(None, description="See `[refresh]`.")
    max_load: float | None = Field(None, gt=0, le=1, description="See `[refresh]`.")
    timeout: Period | None = Field(None, description="See `[refresh]`.")
    blocking: bool = Field(
        False, description="Allow a refresh that locks readers out where the view has no usable unique index."
    )
    enabled: bool = Field(True, description="`false` leaves the view alone.")


Named = TypeVar("Named", TableSettings, ViewSettings)


def _each_once(sections: tuple[Named, ...]) -> tuple[Named, ...]:
    """Of two sections of one file about one relation it could not be said which holds."""
    refuse_twice(((folded_name(section.name),) for section in sections), "write all of it in one section")
    return sections


#: The `[[tables]]` and `[[views]]` of one file.
Tables = Annotated[tuple[TableSettings, ...], AfterValidator(_each_once)]
Views = Annotated[tuple[ViewSettings, ...], AfterValidator(_each_once)]


class PackHeader(Section):
    """What a pack says of itself."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,50}$")
    title: str
    requires: tuple[str, ...] = ()


class Pack(Section):
    """One `pack.toml`."""

    pack: PackHeader
    tables: Tables = ()
    views: Views = ()
    queries: Queries = ()
    jobs: Jobs = ()
    embeddings: Embeddings = ()


class Settings(BaseSettings):
    """Everything that can be set. Build it with `load`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="AFRESH_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        enable_decoding=False,  # what a variable cannot say is then reported like any other wrong value
    )
    packs: Names = Field(
        (),
        description="Packs to run: the name of one that comes with Afresh, or, with a `/` in it, the path of a folder of "
        "your own, from the folder of this file (in the environment, from where the command runs).",
    )
    database: DatabaseSettings = DatabaseSettings()
    server: ServerSettings = ServerSettings()
    refresh: RefreshSettings = RefreshSettings()
    capture: CaptureSettings = CaptureSettings()
    lease: LeaseSettings = LeaseSettings()
    log: LogSettings = LogSettings()
    query: QueryDefaults = QueryDefaults()
    embedding: EmbeddingModelSettings = EmbeddingModelSettings()
    chat: ChatModelSettings = ChatModelSettings()
    tables: Tables = ()
    views: Views = ()
    queries: Queries = ()
    jobs: Jobs = ()
    embeddings: Embeddings = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides what is given to the constructor, which is the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


#: What names files: a pack, or the settings.
Sections = TypeVar("Sections", Pack, Settings)


def http_address(host: str, port: int) -> str:
    """Where a server that listens on this host and port answers a program on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def default_file() -> str:
    """What a hint calls the place where settings are written: it says so where there is no such file yet."""
    return str(DEFAULT_FILE) if DEFAULT_FILE.exists() else f"{DEFAULT_FILE} (there is none in {Path.cwd()})"


def load(path: Path | None = None) -> Settings:
    """The settings from ``path`` (or `afresh.toml` here, if there is one) and the environment.

    Raises `SettingsError` with a line for every problem.
    """
    file = path or DEFAULT_FILE
    if path is None and not file.exists():
        document: dict[str, Any] = {}
    else:
        document = read_toml(file)
    if "packs" in document:
        with contextlib.suppress(ValueError):  # whoever validates it says what is wrong
            document["packs"] = _beside(names(document["packs"]), file.parent)
    if os.environ.get("DATABASE_URL") and isinstance(document.setdefault("database", {}), dict):
        document["database"]["dsn"] = os.environ["DATABASE_URL"]
    unknown = unknown_variables(os.environ, Settings)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise SettingsError(complaints(error, str(file), Settings, os.environ) + unknown) from error
    if unknown:
        raise SettingsError(unknown)
    return _anchored(settings, file.parent)


def load_pack(file: Path) -> Pack:
    """One `pack.toml`. Raises `SettingsError`."""
    document = read_toml(file)
    if isinstance(head := document.get("pack"), dict) and "requires" in head:
        head["requires"] = _beside(head["requires"], file.parent)
    try:
        pack = Pack.model_validate(document)
    except ValidationError as error:
        raise SettingsError(complaints(error, str(file), Pack)) from error
    return _anchored(pack, file.parent)


def _beside(packs: object, folder: Path) -> object:
    """The packs that a file in ``folder`` names, absolute where it names them by paths, which are from there."""
    if not isinstance(packs, list):
        return packs
    return [str((folder / pack).absolute()) if isinstance(pack, str) and "/" in pack else pack for pack in packs]


def _anchored(sections: Sections, folder: Path) -> Sections:
    """The same with all files as paths from where we are, ``folder`` being that of the file that names them; and for views
    with what their files say. Raises `SettingsError` where one of those cannot be read."""
    files = {view.name: str(folder / view.next_change) for view in sections.views if view.next_change is not None}
    texts = statements_in((f"view {name}", file) for name, file in files.items())
    views = tuple(
        view if view.name not in files else view.model_copy(update={"next_change": texts[files[view.name]]})
        for view in sections.views
    )
    return sections.model_copy(
        update={
            "views": views,
            "queries": anchored(sections.queries, folder),
            "jobs": anchored_jobs(sections.jobs, folder),
        }
    )


def read_toml(file: Path) -> dict[str, Any]:
    """A TOML file's content. Raises `SettingsError` where it is missing, unreadable or no TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError([f"{file}: there is no such file"], hint="give its path with --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file}: cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{file}: is not valid TOML: {error}"]) from error
