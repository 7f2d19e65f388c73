"""The settings of named queries: `[[queries]]`, with a section for each parameter, and `[query]`, what holds for all.

In: what TOML holds. Out: sections in which names, paths and cache keys fit together; what the SQL says of the parameters is
PostgreSQL's to tell, when the query is prepared. `collide` holds the queries of all files against one another, and
against the paths that the service answers at itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from afresh_cache.patterns import Template
from afresh_notifier.settings_errors import AT_ODDS, refuse_twice
from afresh_notifier.settings_values import Duration, Pattern, Period, Section

#: Where the service answers by itself. What is below the last is all its own.
OWN_PATHS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/views",
    "/views/{name}/refresh",
    "/api/refresh-views",
    "/api/queries",
    "/openapi.json",
    "/ws",
    "/events",
    "/static",
)

#: What an answer as CSV is asked for by, at the end of a path.
CSV_ENDING = ".csv"

_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}", re.ASCII)


def _path(value: str) -> str:
    if not re.fullmatch(r"(?:/(?:[A-Za-z0-9._~-]+|\{[A-Za-z_]\w*\}))+", value, re.ASCII):
        raise ValueError("expected a path such as /api/clients or /api/clients/{client_id}")
    return value


#: A path with `{parameter}` segments.
UrlPath = Annotated[str, AfterValidator(_path)]


class ParameterSettings(Section):
    """One parameter; its place in the list is its number in the SQL."""

    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        description="What clients call the parameter; the first of them is `$1` in the SQL, the second `$2`.",
    )
    type: str | None = Field(None, description="Its type in PostgreSQL, held against what the SQL makes of it.")
    default: Any = Field(None, description="What it is where it is left out; without one it must be given.")
    nullable: bool = Field(
        False, description="Whether it may be NULL: left out where there is no default, or `null` in JSON."
    )
    enum: tuple[Any, ...] | None = Field(None, min_length=1, description="The only values that it takes.")
    embed: str | None = Field(
        None,
        description="It is not sent, but made: the embedding (see `[embedding]`) of the text parameter of this name.",
    )
    dimensions: int | None = Field(None, ge=1, le=16_000, description="How many numbers that embedding has.")
    description: str = Field("", description="What it is, for `/openapi.json`.")

    @model_validator(mode="after")
    def _sent_or_made(self) -> Self:
        if (self.embed is None) != (self.dimensions is None):
            raise PydanticCustomError(AT_ODDS, "embed and dimensions belong together: write both, or neither", {})
        if self.embed is not None and (self.default is not None or self.nullable or self.enum is not None):
            raise PydanticCustomError(
                AT_ODDS, "{name} is made by embed, so that default, nullable and enum have no use", {"name": self.name}
            )
        return self

    @property
    def required(self) -> bool:
        """Whether a client must give it."""
        return self.default is None and not self.nullable and self.embed is None


class ChatStep(Section):
    """What a writing query that answers with one row does after it, with a chat model or without."""

    messages: str = Field(
        description="The column with what a chat model is sent: a JSON array of `role` and `content`."
    )
    answer: str = Field(description="The text column with the answer, which a chat model's takes the place of.")
    then: str | None = Field(
        None, description="A statement that is run with the answer: `$1` is the row as jsonb; a path like `file`."
    )


class QuerySettings(Section):
    """One named query; what is left out is taken from `[query]`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,50}$", description="What the query is called.")
    path: UrlPath | None = Field(
        None, description="Where it answers, with `{parameter}` segments; left out: `/api/queries/<name>`."
    )
    method: Literal["GET", "POST"] = Field(
        "GET", description="`GET`: parameters in the query string; `POST`: in a JSON object."
    )
    file: str = Field(min_length=1, description="Its SQL, one SELECT: a path from the folder of this file.")
    writes: bool = Field(
        False,
        description="It may write: run each time for whoever POSTs, never kept; an INSERT … RETURNING will do too.",
    )
    one: bool = Field(False, description="Answer with its one row as an object; 404 where there is none.")
    role: str | None = Field(None, min_length=1, description="The role as which it is run (`SET LOCAL ROLE`).")
    session: dict[str, str] = Field(
        {},
        description="Settings of its transaction, for policies to read (`current_setting`); `{parameter}` is a value.",
    )
    chat: ChatStep | None = Field(None, description="What follows its one row, where that is a turn in a chat.")
    cache_key: Pattern | None = Field(
        None,
        description="What makes its answers stale: any pattern that this key begins with. `{parameter}` stands for a "
        "value; left out: `<name>:{first}:{second}` and so on.",
    )
    ttl: Period | None = Field(None, description="How long an answer is good if nothing makes it stale before.")
    stale_ttl: Duration = Field(
        0.0, description="How much longer it is given to those who come while it is being asked for anew."
    )
    timeout: Period | None = Field(None, description="See `[query]`.")
    max_rows: int | None = Field(None, ge=1, le=1_000_000, description="See `[query]`.")
    description: str = Field("", description="What it answers, for `/openapi.json`.")
    parameters: tuple[ParameterSettings, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = Counter(parameter.name for parameter in self.parameters)
        for name, count in known.items():
            if count > 1:
                raise PydanticCustomError(
                    AT_ODDS,
                    "the parameter {name} is there {count} times; each is one section",
                    {"name": name, "count": count},
                )
        for key, places in (("path", places_in(self.url_path)), ("cache_key", self.template.columns)):
            for place in places:
                if place not in known:
                    raise PydanticCustomError(
                        AT_ODDS,
                        "{key} has a place for {place}, which is no parameter; known here: {known}",
                        {"key": key, "place": place, "known": ", ".join(known) or "none"},
                    )
                if self._is_made(place):
                    raise PydanticCustomError(
                        AT_ODDS, "{key} has a place for {place}, which no client sends", {"key": key, "place": place}
                    )
        if len(set(places_in(self.url_path))) < len(places_in(self.url_path)):
            raise PydanticCustomError(AT_ODDS, "path has two places for one parameter", {})
        made = {parameter.name: parameter.embed for parameter in self.parameters if parameter.embed is not None}
        for name, source in made.items():
            if source not in known or source in made:
                raise PydanticCustomError(
                    AT_ODDS, "{name} is made of {source}, which no client sends", {"name": name, "source": source}
                )
        return self

    @model_validator(mode="after")
    def _allowed_together(self) -> Self:
        kept = self.cache_key is not None or self.ttl is not None or self.stale_ttl > 0
        if self.writes and (self.method != "POST" or kept):
            raise PydanticCustomError(
                AT_ODDS, 'a query with writes = true has method = "POST", and neither cache_key, ttl nor stale_ttl', {}
            )
        if self.chat is not None and not (self.writes and self.one):
            raise PydanticCustomError(AT_ODDS, "chat needs writes = true and one = true", {})
        for key, value in self.session.items():
            if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", key, re.ASCII):
                raise PydanticCustomError(
                    AT_ODDS, "session: expected names with a dot in them, such as app.tenant, not {key}", {"key": key}
                )
            for place in places_in(value):
                if place not in {parameter.name for parameter in self.parameters} or self._is_made(place):
                    raise PydanticCustomError(
                        AT_ODDS,
                        "session.{key} has a place for {place}, which no client sends",
                        {"key": key, "place": place},
                    )
        return self

    def _is_made(self, name: str) -> bool:
        return any(parameter.name == name and parameter.embed is not None for parameter in self.parameters)

    @property
    def url_path(self) -> str:
        """Where it answers."""
        return self.path or f"/api/queries/{self.name}"

    @property
    def template(self) -> Template:
        """Its cache key."""
        sent = (parameter.name for parameter in self.parameters if parameter.embed is None)
        default = ":".join([self.name, *(f"{{{name}}}" for name in sent)])
        return Template.parse(self.cache_key or default)


class QueryDefaults(Section):
    """What holds for every named query that does not say otherwise."""

    concurrency: int = Field(8, ge=1, le=200, description="Named queries that may run at the same time: connections.")
    timeout: Period = Field(5.0, description="Longest a query may run; then it is stopped, and the answer is 504.")
    max_rows: int = Field(10_000, ge=1, le=1_000_000, description="Most rows in one answer; the others are cut off.")
    cache_bytes: int = Field(67_108_864, ge=1024, description="Memory for the answers that are kept, in bytes.")


def places_in(path: str) -> list[str]:
    """The parameters that stand in a path."""
    return _PLACE.findall(path)


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with the values in the places of these parameters."""
    return _PLACE.sub(lambda place: values[place[1]], text)


def anchored(queries: Iterable[QuerySettings], folder: Path) -> tuple[QuerySettings, ...]:
    """The queries with their files as paths from where we are; ``folder`` is that of the file that names them."""
    made = []
    for query in queries:
        update: dict[str, Any] = {"file": str(folder / query.file)}
        if query.chat is not None and query.chat.then is not None:
            update["chat"] = query.chat.model_copy(update={"then": str(folder / query.chat.then)})
        made.append(query.model_copy(update=update))
    return tuple(made)


def _each_once(queries: tuple[QuerySettings, ...]) -> tuple[QuerySettings, ...]:
    refuse_twice(((query.name,) for query in queries), "rename one")
    for problem in collisions(queries):
        raise PydanticCustomError(AT_ODDS, "{problem}", {"problem": problem})
    return queries


#: The `[[queries]]` of one file.
Queries = Annotated[tuple[QuerySettings, ...], AfterValidator(_each_once)]


def collisions(queries: Iterable[QuerySettings]) -> Iterator[str]:
    """A line for each two of these queries that one request could mean, and for each that is in our own way."""
    listed = list(queries)
    for query in listed:
        for own in OWN_PATHS:
            if any(_meet(path, own) for path in _paths(query)) or query.url_path.startswith("/static/"):
                yield f"{query.name}: the path {query.url_path} is the service's own; choose another"
                break
    for one, other in combinations(listed, 2):
        if one.method == other.method and any(_meet(a, b) for a in _paths(one) for b in _paths(other)):
            yield (
                f"{one.name} and {other.name} both answer {one.method} {one.url_path}"
                + ("" if one.url_path == other.url_path else f", which {other.url_path} means too")
                + "; give one another path"
            )


def _paths(query: QuerySettings) -> tuple[str, str]:
    return query.url_path, query.url_path + CSV_ENDING


def _meet(one: str, other: str) -> bool:
    """Whether there is a path that both mean."""
    mine, theirs = one.split("/"), other.split("/")
    return len(mine) == len(theirs) and all(_may_be_one(a, b) for a, b in zip(mine, theirs, strict=True))


def _may_be_one(one: str, other: str) -> bool:
    """Whether one segment can be meant by both; `{id}.csv` means what ends so, and `{id}` anything."""
    if one == other:
        return True
    patterns = [re.compile(_PLACE.sub("[^/]+", segment.replace(".", r"\."))) for segment in (one, other)]
    examples = [_PLACE.sub("x", one), _PLACE.sub("x", other)]
    return bool(patterns[0].fullmatch(examples[1]) or patterns[1].fullmatch(examples[0]))
