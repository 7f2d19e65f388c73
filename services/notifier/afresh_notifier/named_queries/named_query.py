"""A named query, as the settings and its file say it: whether PostgreSQL can do anything with it is seen later.

In: `Settings` and packs. Out: a `NamedQuery` for each, with its SQL, and with what `[query]` says filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from afresh_cache.patterns import Template
from afresh_notifier.errors import PackError, SettingsError
from afresh_notifier.packs import InstalledPack
from afresh_notifier.settings import Settings
from afresh_notifier.settings_queries import ChatStep, ParameterSettings, QuerySettings, collisions
from afresh_notifier.statements import statements_in


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedQuery:
    """One query. ``source`` is the pack that brings it, or "" for the settings' own file; times are in seconds.

    ``then`` is the statement of its `chat` step, "" for none.
    """

    name: str
    source: str
    path: str
    method: Literal["GET", "POST"]
    file: str
    sql: str
    cache_key: Template
    ttl: float | None
    stale_ttl: float
    timeout: float
    max_rows: int
    description: str
    parameters: tuple[ParameterSettings, ...]
    writes: bool
    one: bool
    role: str | None
    session: Mapping[str, str]
    chat: ChatStep | None
    then: str

    @property
    def in_character(self) -> bool:
        """Whether it is run in a transaction that is otherwise than ours are: as somebody else, or to write."""
        return self.writes or self.role is not None or bool(self.session)


def collect(settings: Settings, packs: Sequence[InstalledPack]) -> list[NamedQuery]:
    """The queries of these packs, and those of the settings' own file.

    Raises `SettingsError` for files that cannot be read and for paths that collide, `PackError` for a name that is there
    twice.
    """
    sources = [(pack.name, pack.settings.queries) for pack in packs] + [("", settings.queries)]
    listed = [(source, section) for source, sections in sources for section in sections]
    first: dict[str, str] = {}
    for source, section in listed:
        if section.name in first:
            where = [f"pack {one}" if one else "the settings" for one in (first[section.name], source)]
            raise PackError(
                f"two queries are called {section.name!r}: in {where[0]} and in {where[1]}", hint="rename one"
            )
        first[section.name] = source
    problems = list(collisions(section for _, section in listed))
    try:
        texts = statements_in((f"query {section.name}", file) for _, section in listed for file in _files(section))
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return [_made(settings, source, section, texts) for source, section in listed]


def _files(section: QuerySettings) -> list[str]:
    then = section.chat.then if section.chat is not None else None
    return [section.file] if then is None else [section.file, then]


def _made(settings: Settings, source: str, section: QuerySettings, texts: Mapping[str, str]) -> NamedQuery:
    general, files = settings.query, _files(section)
    return NamedQuery(
        name=section.name,
        source=source,
        path=section.url_path,
        method=section.method,
        file=section.file,
        sql=texts[files[0]],
        cache_key=section.template,
        ttl=section.ttl,
        stale_ttl=section.stale_ttl,
        timeout=general.timeout if section.timeout is None else section.timeout,
        max_rows=1 if section.one else general.max_rows if section.max_rows is None else section.max_rows,
        description=section.description,
        parameters=section.parameters,
        writes=section.writes,
        one=section.one,
        role=section.role,
        session=section.session,
        chat=section.chat,
        then=texts[files[1]] if len(files) > 1 else "",
    )
