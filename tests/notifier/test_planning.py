"""The plan: what settings and packs say, applied to what the database has."""

from __future__ import annotations

import asyncpg
import pytest

from afresh_notifier import packs, planning
from afresh_notifier.dependencies import Catalogue
from afresh_notifier.planning import Reading, name_pattern
from afresh_notifier.settings import Settings, TableSettings, ViewSettings
from afresh_notifier.watching import Relation
from support.catalogues import view, watched

#: `t` and `u` are watched, `w` is not; `top` stands on `v`.
CATALOGUE = Catalogue.of(
    [
        view("public.v", ["public.t"], oid=1),
        view("public.top", parents=["public.v"], oid=2),
        view("public.alone", ["public.w"], oid=3),
    ],
    watched("public.t", "sales.u"),
)
FOUND = {
    asked: Relation(name=name, kind=kind, oid=0)
    for asked, name, kind in [
        ("t", "public.t", "r"),
        ("public.t", "public.t", "r"),
        ("sales.u", "sales.u", "p"),
        ("w", "public.w", "r"),
        ("v", "public.v", "m"),
        ("public.v", "public.v", "m"),
        ("top", "public.top", "m"),
        ("alone", "public.alone", "m"),
        ("plain", "public.plain", "v"),
    ]
}


def plan(
    tables: list[TableSettings] | None = None, views: list[ViewSettings] | None = None, settings: Settings | None = None
) -> Reading:
    return planning.make(CATALOGUE, settings or Settings(), tables or [], views or [], FOUND, {})


def patterns_of_table(reading: Reading, table: str) -> list[str]:
    return [template.text for template in reading.plan.patterns.tables.get(table, ())]


def patterns_of_view(reading: Reading, name: str) -> list[str]:
    return [template.text for template in reading.plan.patterns.views.get(name, ())]


def test_a_view_that_hangs_on_a_watched_table_is_refreshed_without_being_named() -> None:
    reading = plan()
    assert list(reading.plan.timings) == ["public.v", "public.top"]
    assert reading.plan.timings.keys() == reading.plan.limits.keys() == reading.plan.patterns.catalogue.views.keys()
    assert reading.ignored == ()


def test_a_view_that_hangs_on_nothing_watched_is_refreshed_where_it_is_named() -> None:
    assert "public.alone" in plan(views=[ViewSettings(name="alone")]).plan.timings


def test_a_view_that_is_not_enabled_is_left_alone_and_so_is_the_view_between() -> None:
    reading = plan(views=[ViewSettings(name="v", enabled=False)])
    assert list(reading.plan.timings) == ["public.top"]
    assert reading.plan.timings["public.top"].parents == frozenset()


def test_one_that_says_no_is_enough() -> None:
    reading = plan(views=[ViewSettings(name="v"), ViewSettings(name="public.v", enabled=False)])
    assert "public.v" not in reading.plan.timings


def test_parents_come_first_and_are_known_to_the_schedule() -> None:
    assert plan().plan.timings["public.top"].parents == {"public.v"}


def test_what_names_no_patterns_has_its_own_name() -> None:
    reading = plan()
    assert patterns_of_table(reading, "public.t") == ["t"]
    assert patterns_of_table(reading, "sales.u") == ["sales.u"]
    assert patterns_of_view(reading, "public.v") == ["v"]
    assert patterns_of_table(plan([TableSettings(name="t")]), "public.t") == ["t"]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("public.t", "t"), ("sales.t", "sales.t"), ('public."Odd Name"', "Odd Name"), ('"Odd {x}"."T"', "Odd x.T")],
)
def test_a_name_becomes_a_pattern_that_is_no_template(name: str, pattern: str) -> None:
    assert name_pattern(name) == pattern


def test_patterns_of_several_sources_add_up() -> None:
    reading = plan(
        [TableSettings(name="t", patterns=("a", "b")), TableSettings(name="public.t", patterns=("b", "c"))],
        [ViewSettings(name="v", patterns=("x",)), ViewSettings(name="v"), ViewSettings(name="v", patterns=("y", "x"))],
    )
    assert patterns_of_table(reading, "public.t") == ["a", "b", "c"]
    assert patterns_of_view(reading, "public.v") == ["x", "y"]


def test_no_patterns_is_not_the_same_as_none_named() -> None:
    reading = plan([TableSettings(name="t", patterns=())], [ViewSettings(name="v", patterns=())])
    assert patterns_of_table(reading, "public.t") == []
    assert patterns_of_view(reading, "public.v") == []


def test_what_the_users_file_says_goes_before_what_packs_say() -> None:
    """Packs come first in the list, the user's own file last."""
    reading = plan(
        views=[
            ViewSettings(name="v", every=300, debounce=9, max_wait=8, max_load=0.7, timeout=60),
            ViewSettings(name="v", every=5, max_load=0.05),
        ]
    )
    timing, limits = reading.plan.timings["public.v"], reading.plan.limits["public.v"]
    assert (timing.every, timing.debounce, timing.max_wait, timing.max_load) == (5, 9, 8, 0.05)
    assert limits.timeout == 60


def test_what_a_view_leaves_out_is_taken_from_the_general_settings() -> None:
    general = Settings.model_validate(
        {
            "refresh": {
                "debounce": 1,
                "max_wait": 2,
                "max_load": 0.3,
                "timeout": 4,
                "lock_timeout": 5,
                "retry_first": 6,
                "retry_max": 7,
            }
        }
    )
    reading = plan(settings=general)
    timing, limits = reading.plan.timings["public.v"], reading.plan.limits["public.v"]
    assert (timing.debounce, timing.max_wait, timing.max_load, timing.every) == (1, 2, 0.3, None)
    assert (timing.retry_first, timing.retry_max) == (6, 7)
    assert (limits.timeout, limits.lock_timeout, limits.blocking) == (4, 5, False)


def test_blocking_is_allowed_where_somebody_allows_it() -> None:
    reading = plan(views=[ViewSettings(name="v", blocking=True), ViewSettings(name="v")])
    assert reading.plan.limits["public.v"].blocking
    assert not reading.plan.limits["public.top"].blocking


@pytest.mark.parametrize(
    ("tables", "views", "problem", "hint"),
    [
        ([TableSettings(name="missing")], [], "there is no table missing", "afresh migrate up"),
        ([], [ViewSettings(name="missing")], "there is no materialized view missing", "afresh migrate up"),
        ([TableSettings(name="v")], [], "public.v is not a table", "only tables are watched"),
        ([], [ViewSettings(name="t")], "public.t is not a materialized view", "[[tables]]"),
        ([], [ViewSettings(name="plain")], "public.plain is not a materialized view", "[[tables]]"),
        ([TableSettings(name="w")], [], "public.w is not watched", "`afresh watch w`"),
    ],
)
def test_what_is_not_as_the_settings_say_is_reported_and_stops_nothing_else(
    tables: list[TableSettings], views: list[ViewSettings], problem: str, hint: str
) -> None:
    reading = plan(tables, views)
    [ignored] = reading.ignored
    assert problem in ignored.problem
    assert hint in ignored.hint
    assert list(reading.plan.timings) == ["public.v", "public.top"]
    assert patterns_of_table(reading, "public.t") == ["t"]


def test_a_table_that_is_not_watched_yet_has_its_patterns_ready() -> None:
    assert patterns_of_table(plan([TableSettings(name="w", patterns=("soon",))]), "public.w") == ["soon"]


def test_an_empty_plan_is_a_plan() -> None:
    reading = planning.make(Catalogue(), Settings(), [], [], {}, {})
    assert reading.plan.timings == {}
    assert reading.ignored == ()


async def test_names_are_found_in_the_database_as_sql_finds_them(db: asyncpg.Connection) -> None:
    await db.execute(
        """
        CREATE SCHEMA sales;
        CREATE TABLE sales."Odd Name" (id int PRIMARY KEY);
        CREATE TABLE orders (id int PRIMARY KEY) PARTITION BY LIST (id);
        CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);
        SELECT afresh.watch('orders'), afresh.watch('sales."Odd Name"');
        CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM orders;
        CREATE MATERIALIZED VIEW odd AS SELECT id FROM sales."Odd Name";
        SET search_path = public;
        """
    )
    settings = Settings.model_validate(
        {
            "tables": [
                {"name": 'sales."Odd Name"', "patterns": ["odd:{id}"]},
                {"name": "Orders", "patterns": ["orders"]},
                {"name": "gone"},
            ],
            "views": [{"name": "public.totals", "every": "5m"}],
        }
    )
    reading = await planning.read(db, settings, [])
    assert sorted(reading.plan.timings) == ["public.odd", "public.totals"]
    assert reading.plan.timings["public.totals"].every == 300
    assert patterns_of_table(reading, 'sales."Odd Name"') == ["odd:{id}"]
    assert patterns_of_table(reading, "public.orders") == ["orders"]
    assert patterns_of_table(reading, "public.orders_1") == ["orders"]
    assert [one.problem for one in reading.ignored] == ["there is no table gone"]


async def test_packs_and_settings_are_read_together(db: asyncpg.Connection) -> None:
    """The pack's relations are not there, which is said of each by name; the rest is planned all the same."""
    await db.execute(
        "CREATE TABLE t (id int); SELECT afresh.watch('t'); CREATE MATERIALIZED VIEW v AS SELECT id FROM t"
    )
    pack = packs.find("client_health")
    reading = await planning.read(db, Settings(), [pack])
    missing = {one.name for one in reading.ignored}
    named = {table.name for table in pack.settings.tables} | {view.name for view in pack.settings.views}
    assert missing == named
    assert list(reading.plan.timings) == ["public.v"]
