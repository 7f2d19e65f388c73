"""Settings: `afresh.toml`, the packs it names, and the environment, as frozen objects built once at the start.

In: a TOML file, `AFRESH_…` variables (which override it; `__` steps into a section), `DATABASE_URL`. Out: `Settings`,
in which everything is checked for its form; whether a table or a view exists is the database's to say.
Every problem is reported at once, each with the file, the key, and what was expected.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from afresh_cache.patterns import Template
from afresh_notifier.errors import SettingsError

#: Where settings are looked for when nothing is said.
DEFAULT_FILE = Path("afresh.toml")

#: What pydantic says in words of its own.
_EXPECTED = {
    "model_type": "expected a section with keys of its own",
    "tuple_type": "expected a list",
    "string_type": "expected text in quotes",
    "bool_type": "expected true or false",
}

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: object) -> object:
    """``"100ms"``, ``"30s"``, ``"5m"``, ``"1h"``, ``"1d"`` or a plain number of seconds, as seconds."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*", value)
        if found:
            return float(found[1]) * _UNITS[found[2] or "s"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ValueError('expected a duration such as "100ms", "30s", "5m" or "1h"')


def _names(value: object) -> object:
    """A list written in one environment variable: `a,b`, or JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not valid JSON ({error}); write a,b") from error
    return [name for part in value.split(",") if (name := part.strip())]


def _template(value: str) -> str:
    Template.parse(value)
    return value


def _relation_name(value: str) -> str:
    part = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")+")'
    if not re.fullmatch(rf"{part}(?:\.{part})?", value):
        raise ValueError('expected a name as SQL writes it: orders, sales.orders or sales."Odd Name"')
    return value


#: A length of time, in seconds.
Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
#: A length of time that cannot be nothing, in seconds.
Period = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
#: A prefix of cache keys, with `{column}` where a change's key goes.
Pattern = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_template)]
#: A table or view as SQL writes it: `orders`, `sales.orders`, `"Odd Name"."Table"`.
RelationName = Annotated[str, AfterValidator(_relation_name)]


#: Several words, in an environment variable separated by commas.
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Section(BaseModel):
    """A part of the settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    origins: Names = Field(
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
    lock_timeout: Period = Field(0.2, description="Longest a refresh may wait for a lock; then it is tried again.")
    retry_first: Period = Field(0.1, description="Wait after a first failure; doubled after each further one.")
    retry_max: Period = Field(30.0, description="Longest wait between two tries.")


class LogSettings(Section):
    """The invalidations kept in memory, from which clients resume."""

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
    """One materialized view; what is left out is taken from `[refresh]`."""

    name: RelationName = Field(description="The materialized view, with its schema unless that is `public`.")
    patterns: tuple[Pattern, ...] | None = Field(
        None, description="Cache keys that a refresh of it makes stale; left out: the view's own name."
    )
    every: Period | None = Field(None, description="Refresh at least this often, for views that read the clock.")
    debounce: Duration | None = Field(None, description="See `[refresh]`.")
    max_wait: Period | None = Field(None, description="See `[refresh]`.")
    max_load: float | None = Field(None, gt=0, le=1, description="See `[refresh]`.")
    timeout: Period | None = Field(None, description="See `[refresh]`.")
    blocking: bool = Field(
        False, description="Allow a refresh that locks readers out where the view has no usable unique index."
    )
    enabled: bool = Field(True, description="`false` leaves the view alone.")


class PackHeader(Section):
    """What a pack says of itself."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,50}$")
    title: str
    requires: tuple[str, ...] = ()


class Pack(Section):
    """One `pack.toml`."""

    pack: PackHeader
    tables: tuple[TableSettings, ...] = ()
    views: tuple[ViewSettings, ...] = ()


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
        (), description="Packs to run: the name of one that comes with Afresh, or the path of a folder of your own."
    )
    database: DatabaseSettings = DatabaseSettings()
    server: ServerSettings = ServerSettings()
    refresh: RefreshSettings = RefreshSettings()
    log: LogSettings = LogSettings()
    tables: tuple[TableSettings, ...] = ()
    views: tuple[ViewSettings, ...] = ()

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


def http_address(host: str, port: int) -> str:
    """Where a server that listens on this host and port answers a program on the same machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(path: Path | None = None, **overrides: Any) -> Settings:
    """The settings from ``path`` (or `afresh.toml` here, if there is one), the environment, and ``overrides``.

    ``overrides`` are sections or top-level keys that win over the file, as the command line's options do.
    Raises `SettingsError` with a line for every problem.
    """
    file = path or DEFAULT_FILE
    if path is None and not file.exists():
        document: dict[str, Any] = {}
    else:
        document = read_toml(file)
    if os.environ.get("DATABASE_URL") and isinstance(document.setdefault("database", {}), dict):
        document["database"]["dsn"] = os.environ["DATABASE_URL"]
    unknown = _unknown_variables(os.environ)
    try:
        settings = Settings(**document)
    except ValidationError as error:
        raise SettingsError(_explain(error, str(file), Settings, from_environment=True) + unknown) from error
    if unknown:
        raise SettingsError(unknown)
    return settings.model_copy(update=overrides)


def load_pack(file: Path) -> Pack:
    """One `pack.toml`. Raises `SettingsError`."""
    try:
        return Pack.model_validate(read_toml(file))
    except ValidationError as error:
        raise SettingsError(_explain(error, str(file), Pack)) from error


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


def _explain(error: ValidationError, file: str, model: type[BaseModel], *, from_environment: bool = False) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        place = problem["loc"]
        where = (_variable(place) if from_environment else None) or f"{file}: {_dotted(place)}"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key; {_advice(str(place[-1]), _fields(model, place[:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: is missing")
        else:
            said = _EXPECTED.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
            lines.append(f"{where}: {said[0].lower()}{said[1:]}, got {_short(problem['input'])}")
    return lines


def _advice(unknown: str, known: list[str]) -> str:
    close = difflib.get_close_matches(unknown, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"


def _variable(place: tuple[int | str, ...]) -> str | None:
    """The environment variable that set what is at ``place``: itself, a part of it, or what contains it."""
    present = {variable.upper(): variable for variable in os.environ}
    for length in range(len(place), 0, -1):
        name = "AFRESH_" + "__".join(str(part).upper() for part in place[:length])
        if name in present:
            return present[name]
        if length == len(place):
            inside = sorted(variable for variable in present if variable.startswith(f"{name}__"))
            if inside:
                return present[inside[0]]
    return None


def _dotted(place: tuple[int | str, ...]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, looking into `tuple[Section, ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at ``place``."""
    for part in place:
        if isinstance(part, str):
            inner = _model_in(model.model_fields[part].annotation) if part in model.model_fields else None
            if inner is None:
                return []
            model = inner
    return list(model.model_fields)


def _unknown_variables(environment: typing.Mapping[str, str]) -> list[str]:
    """A line for each `AFRESH_…` variable that names no setting; `AFRESH_TEST_…` is the test suite's own.

    What a variable says inside a section is checked with the section.
    """
    problems = []
    known = list(Settings.model_fields)
    for variable in sorted(environment):
        name = variable.upper()
        if name.startswith("AFRESH_") and not name.startswith("AFRESH_TEST_"):
            first = name.removeprefix("AFRESH_").lower().split("__")[0]
            if first not in known:
                problems.append(f"{variable}: unknown setting; {_advice(first, known)}")
    return problems
