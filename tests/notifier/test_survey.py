"""The survey: what is otherwise than it was known to be is refreshed or told, and nothing else, whoever looked before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from afresh_notifier import invalidation_log, marks, survey
from afresh_notifier.changes import Key
from afresh_notifier.debounce import Dirt
from afresh_notifier.refresher import Refresher
from afresh_notifier.settings import Settings

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

TABLES = """
CREATE TABLE t (id int PRIMARY KEY, n int);
CREATE TABLE u (id int PRIMARY KEY, n int);
CREATE TABLE lonely (id int PRIMARY KEY);
SELECT afresh.watch('t', '{id}'), afresh.watch('u', '{id}'), afresh.watch('lonely');
CREATE VIEW v_live AS SELECT id, n FROM t;
CREATE MATERIALIZED VIEW v AS SELECT * FROM v_live;
CREATE MATERIALIZED VIEW child AS SELECT id FROM v;
CREATE MATERIALIZED VIEW w AS SELECT id, n FROM u;
"""


@dataclass
class Seen:
    """What came of one look: the views that are marked, and what is told."""

    suspects: set[str]
    marked: set[str]
    told: set[str]


class Leader:
    """Looks, as one process does or as many do, one after the other."""

    def __init__(self, db: asyncpg.Connection, **settings: Any) -> None:
        self.db = db
        self.term = 0
        self.settings(**settings)
        self.restart()

    def settings(self, **settings: Any) -> None:
        self._settings = Settings.model_validate(settings)

    def restart(self) -> None:
        """Another process leads."""
        self.term += 1
        pool = asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1)
        self.refresher = Refresher(pool, lambda _: None, lambda _: None, concurrency=1)
        self.refresher.lead(self.term)

    async def look(self, *, refresh: bool = True) -> Seen:
        """One look; then, unless told otherwise, every mark is cleared, as refreshes do."""
        newest = (await invalidation_log.read(self.db, 0, 1_000)).newest
        read = await survey.read(self.db, self._settings, (), leading=True)
        suspects, present, appended = await survey.adopt(self.db, read, self.refresher)
        self.refresher.replace(read.plan, suspects)
        marked = await marks.read(self.db)
        assert present == marked
        if refresh:
            await marks.clear(self.db, marked)
        entries = (await invalidation_log.read(self.db, newest, 1_000)).entries
        told = appended.entries if appended is not None else []
        assert [entry.offset for entry, _ in told] == [entry.offset for entry, _ in entries]
        return Seen(
            suspects={name.removeprefix("public.") for name in suspects},
            marked={mark.view.removeprefix("public.") for mark in marked},
            told={pattern for entry, _ in entries for pattern in entry.patterns},
        )


@pytest.fixture
async def schema(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(TABLES)
    return db


def both(views: set[str], told: set[str]) -> Seen:
    return Seen(suspects=views, marked=views, told=told)


NOTHING = both(set(), set())


@pytest.mark.parametrize("restarted", [True, False])
async def test_the_first_look_marks_all_and_tells_nothing_and_the_second_does_nothing(
    schema: asyncpg.Connection, restarted: bool
) -> None:
    leader = Leader(schema)
    assert await leader.look() == both({"v", "child", "w"}, set())
    if restarted:
        leader.restart()
    await schema.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 9) n; REFRESH MATERIALIZED VIEW v")
    assert await leader.look() == NOTHING


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize(
    ("statement", "views", "told"),
    [
        ("CREATE OR REPLACE VIEW v_live AS SELECT id, n + 1 AS n FROM t", {"v"}, set()),
        ("SELECT afresh.unwatch('t'); SELECT afresh.watch('t', '{id}')", {"v"}, {"t"}),
        ("ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL", {"v"}, {"t"}),
        ("SELECT afresh.unwatch('lonely'); SELECT afresh.watch('lonely')", set(), {"lonely"}),
        ("CREATE MATERIALIZED VIEW fresh AS SELECT n FROM u", {"fresh"}, set()),
        ("DROP MATERIALIZED VIEW w", set(), set()),
        ("DROP MATERIALIZED VIEW w; CREATE MATERIALIZED VIEW w AS SELECT id, n FROM u", {"w"}, set()),
        ("DROP TABLE lonely", set(), {"lonely"}),
        ("ALTER TABLE lonely RENAME TO lonelier", set(), {"lonely", "lonelier"}),
        ("CREATE TABLE later (id int); SELECT afresh.watch('later')", set(), {"later"}),
        ("CREATE TABLE idle (id int); CREATE VIEW idling AS SELECT * FROM idle", set(), set()),
    ],
)
async def test_what_is_otherwise_is_marked_or_told_once(
    schema: asyncpg.Connection, statement: str, views: set[str], told: set[str], restarted: bool
) -> None:
    leader = Leader(schema)
    await leader.look()
    await schema.execute(statement)
    if restarted:
        leader.restart()
    assert await leader.look() == both(views, told)
    leader.restart()
    assert await leader.look() == NOTHING


async def test_a_view_whose_tables_are_watched_no_more_is_refreshed_once_more_and_let_go(
    schema: asyncpg.Connection,
) -> None:
    leader = Leader(schema)
    await leader.look()
    await schema.execute("SELECT afresh.unwatch('u')")
    assert await leader.look() == both({"w"}, {"u"})
    assert await leader.look() == NOTHING
    assert "public.w" not in leader.refresher.plan.timings
    await schema.execute("SELECT afresh.watch('u')")
    assert await leader.look() == both({"w"}, {"u"})


@pytest.mark.parametrize("restarted", [True, False])
async def test_patterns_that_the_settings_changed_are_told_old_and_new(
    schema: asyncpg.Connection, restarted: bool
) -> None:
    leader = Leader(schema, tables=[{"name": "t", "patterns": ["old:{id}", "same"]}])
    await leader.look()
    leader.settings(tables=[{"name": "t", "patterns": ["same", "new"]}], views=[{"name": "w", "patterns": ["another"]}])
    if restarted:
        leader.restart()
    assert await leader.look() == both({"w"}, {"old:", "same", "new"})
    assert await leader.look() == NOTHING


async def test_what_is_not_a_matter_of_content_marks_nothing(schema: asyncpg.Connection) -> None:
    leader = Leader(schema)
    await leader.look()
    leader.settings(refresh={"debounce": 5, "max_wait": 7}, views=[{"name": "v", "max_load": 0.5}])
    leader.restart()
    assert await leader.look() == NOTHING


async def test_a_look_that_fails_is_made_again_whole(
    schema: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = Leader(schema)
    await leader.look()
    await schema.execute("CREATE OR REPLACE VIEW v_live AS SELECT id, n + 1 AS n FROM t; DROP TABLE lonely")
    with monkeypatch.context() as patch:

        async def fails(*_: object) -> None:
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

        patch.setattr(invalidation_log, "append", fails)
        with pytest.raises(asyncpg.QueryCanceledError):
            await leader.look()
    assert await marks.read(schema) == []
    leader.restart()
    assert await leader.look() == both({"v"}, {"lonely"})


async def put(leader: Leader, view: str, tables: set[str], keys: set[int] | None = None) -> None:
    """A change of ``tables`` was taken, and ``view`` lacks it."""
    found: set[Key] | None = None if keys is None else {(("id", key),) for key in keys}
    await marks.put(leader.db, [marks.of(f"public.{view}", Dirt(tables=tables, keys=found, heard_at=AT))])


@pytest.mark.parametrize("restarted", [True, False])
async def test_what_waited_for_a_view_that_was_dropped_is_told(schema: asyncpg.Connection, restarted: bool) -> None:
    shared = {
        "tables": [{"name": "u", "patterns": ["shared:{id}"]}],
        "views": [{"name": "w", "patterns": ["shared:{id}"]}],
    }
    leader = Leader(schema, **shared)
    await leader.look()
    await put(leader, "w", {"public.u"}, {7})
    await schema.execute("DROP MATERIALIZED VIEW w")
    if restarted:
        leader.restart()
    assert await leader.look(refresh=False) == both(set(), {"shared:7"})
    assert await marks.read(schema) == []
    assert await leader.look() == NOTHING


async def test_what_another_view_will_tell_is_not_told_for_one_that_was_dropped(schema: asyncpg.Connection) -> None:
    await schema.execute("CREATE MATERIALIZED VIEW x AS SELECT n FROM u")
    views = [{"name": name, "patterns": ["shared"]} for name in ("w", "x")]
    leader = Leader(schema, tables=[{"name": "u", "patterns": ["shared"]}], views=views)
    await leader.look()
    await put(leader, "w", {"public.u"})
    await put(leader, "x", {"public.u"})
    await schema.execute("DROP MATERIALIZED VIEW w")
    assert await leader.look() == Seen(suspects=set(), marked={"x"}, told=set())


async def test_the_marks_of_an_earlier_leader_are_found(schema: asyncpg.Connection) -> None:
    leader = Leader(schema)
    await leader.look()
    await put(leader, "v", {"public.t"}, {1})
    leader.restart()
    assert await leader.look() == Seen(suspects=set(), marked={"v"}, told=set())


async def test_a_follower_reads_the_plan_and_changes_nothing(schema: asyncpg.Connection) -> None:
    read = await survey.read(schema, Settings(), (), leading=False)
    assert set(read.plan.timings) == {"public.v", "public.child", "public.w"}
    assert await marks.read(schema) == []
    assert await schema.fetchval("SELECT count(*) FROM afresh.known") == 0
