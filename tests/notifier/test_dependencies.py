"""Dependencies: what the catalogue says hangs on what, and what is answered from a picture of it."""

from __future__ import annotations

from dataclasses import replace

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afresh_notifier import dependencies
from afresh_notifier.dependencies import Catalogue, Tree, View
from support.catalogues import view, watched

# Answers from a picture.

#: t -> a -> b -> d, t -> c -> d, u -> c; e stands on nothing that is known.
PICTURE = Catalogue.of(
    [
        view("d", parents=["b", "c"]),
        view("b", parents=["a"]),
        view("c", tables=["t", "u"]),
        view("a", tables=["t"]),
        view("e", parents=["elsewhere"]),
    ],
    watched("t", "lonely"),
)


def test_parents_come_before_children() -> None:
    order = list(PICTURE.views)
    assert set(order) == {"a", "b", "c", "d", "e"}
    assert order.index("a") < order.index("b") < order.index("d")
    assert order.index("c") < order.index("d")


def test_a_change_dirties_the_views_that_read_the_table_themselves() -> None:
    assert set(PICTURE.reading("t")) == {"a", "c"}
    assert PICTURE.reading("u") == ("c",)
    assert PICTURE.reading("lonely") == ()
    assert PICTURE.reading("unheard of") == ()


def test_a_refresh_dirties_the_views_that_read_the_view() -> None:
    assert PICTURE.children("a") == ("b",)
    assert set(PICTURE.children("b")) == {"d"}
    assert PICTURE.children("d") == ()


def test_everything_hangs_on_a_table_that_it_reaches() -> None:
    assert PICTURE.hanging_on("t") == {"a", "b", "c", "d"}
    assert PICTURE.hanging_on("u") == {"c", "d"}
    assert PICTURE.hanging_on("lonely") == frozenset()


def test_ancestors_are_all_views_below() -> None:
    assert PICTURE.ancestors("d") == {"a", "b", "c"}
    assert PICTURE.ancestors("b") == {"a"}
    assert PICTURE.ancestors("e") == frozenset()


def test_a_table_is_known_that_is_watched_or_read() -> None:
    assert [PICTURE.knows(table) for table in ("t", "u", "lonely", "unheard of")] == [True, True, True, False]


def test_blind_spots_are_told_in_words() -> None:
    spots = view("v", unwatched=["t"], foreign_tables=["f"], opaque_functions=["g()"]).blind_spots
    assert spots == ["table t is not watched", "foreign table f cannot be watched", "function g() hides what it reads"]


@given(st.lists(st.tuples(st.sets(st.integers(0, 11)), st.sets(st.sampled_from("tuv"))), max_size=12))
def test_a_picture_of_any_shape_is_consistent(shape: list[tuple[set[int], set[str]]]) -> None:
    """Views may name only those before them; they are handed over in the opposite order."""
    views = [
        view(f"v{number}", tables=tables, parents=[f"v{parent}" for parent in parents if parent < number])
        for number, (parents, tables) in enumerate(shape)
    ]
    picture = Catalogue.of(reversed(views))
    place = {name: number for number, name in enumerate(picture.views)}
    assert place.keys() == {one.name for one in views}
    for one in views:
        ancestors = picture.ancestors(one.name)
        assert one.parents <= ancestors
        assert all(place[parent] < place[one.name] for parent in ancestors)
        assert all(one.name in picture.children(parent) for parent in one.parents)
        below = {table for name in (*ancestors, one.name) for table in picture.views[name].tables}
        for table in "tuv":
            assert (one.name in picture.hanging_on(table)) == (table in below)


# Pictures of a real database.


async def look(db: asyncpg.Connection) -> Catalogue:
    return await dependencies.load(db)


def otherwise(now: Catalogue, before: Catalogue) -> set[str]:
    """The views that were made or changed since ``before``."""
    return {
        name
        for name, view in now.views.items()
        if name not in before.views or before.views[name].fingerprint != view.fingerprint
    }


async def one_view(db: asyncpg.Connection, name: str = "public.v") -> View:
    return (await look(db)).views[name]


@pytest.fixture
async def tables(db: asyncpg.Connection) -> asyncpg.Connection:
    """Two tables, of which one is watched."""
    await db.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY, n int);
        CREATE TABLE u (id int PRIMARY KEY, n int);
        SELECT afresh.watch('t');
        """
    )
    return db


async def test_an_empty_database_has_no_views(db: asyncpg.Connection) -> None:
    catalogue = await look(db)
    assert catalogue.views == {}
    assert catalogue.watched == {}


async def test_a_view_hangs_on_the_tables_it_reads(tables: asyncpg.Connection) -> None:
    await tables.execute(
        "CREATE MATERIALIZED VIEW v AS SELECT t.id FROM t WHERE EXISTS (SELECT FROM u WHERE u.id = t.id) WITH NO DATA"
    )
    found = await one_view(tables)
    assert found.tables == {"public.t", "public.u"}
    assert found.unwatched == {"public.u"}
    assert found.parents == frozenset()
    assert not found.populated
    assert not found.usable_index
    assert (await look(tables)).watched.keys() == {"public.t"}


async def test_a_view_hangs_on_tables_behind_plain_views(tables: asyncpg.Connection) -> None:
    await tables.execute(
        """
        CREATE VIEW inner_view AS SELECT id FROM t;
        CREATE VIEW outer_view AS SELECT i.id FROM inner_view i JOIN u ON u.id = i.id;
        CREATE MATERIALIZED VIEW v AS SELECT * FROM outer_view;
        """
    )
    found = await one_view(tables)
    assert found.tables == {"public.t", "public.u"}
    assert found.populated


async def test_the_walk_ends_at_a_materialized_view(tables: asyncpg.Connection) -> None:
    await tables.execute(
        """
        CREATE MATERIALIZED VIEW parent AS SELECT id FROM t;
        CREATE VIEW between_them AS SELECT id FROM parent;
        CREATE MATERIALIZED VIEW v AS SELECT b.id FROM between_them b JOIN u ON u.id = b.id;
        """
    )
    catalogue = await look(tables)
    assert list(catalogue.views) == ["public.parent", "public.v"]
    assert catalogue.views["public.v"].tables == {"public.u"}
    assert catalogue.views["public.v"].parents == {"public.parent"}
    assert catalogue.hanging_on("public.t") == {"public.parent", "public.v"}


async def test_a_view_hangs_on_tables_behind_functions_with_a_parsed_body(tables: asyncpg.Connection) -> None:
    await tables.execute(
        """
        CREATE FUNCTION seen() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM t; END;
        CREATE MATERIALIZED VIEW v AS SELECT seen();
        """
    )
    found = await one_view(tables)
    assert found.tables == {"public.t"}
    assert found.opaque_functions == frozenset()
    assert found.blind_spots == []


async def test_a_function_with_an_opaque_body_is_a_blind_spot_unless_it_reads_nothing(
    tables: asyncpg.Connection,
) -> None:
    await tables.execute(
        """
        CREATE FUNCTION hidden() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.t';
        CREATE FUNCTION pure(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n + 1';
        CREATE MATERIALIZED VIEW v AS SELECT hidden(), pure(1);
        """
    )
    found = await one_view(tables)
    assert found.opaque_functions == {"hidden()"}
    assert found.blind_spots == ["function hidden() hides what it reads"]


async def test_a_partition_stands_for_its_whole_tree(db: asyncpg.Connection) -> None:
    await db.execute(
        """
        CREATE TABLE tree (id int, at date) PARTITION BY RANGE (at);
        CREATE TABLE branch PARTITION OF tree FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (id);
        CREATE TABLE leaf PARTITION OF branch FOR VALUES IN (1);
        SELECT afresh.watch('tree');
        CREATE MATERIALIZED VIEW v AS SELECT id FROM leaf;
        CREATE MATERIALIZED VIEW w AS SELECT id FROM tree;
        """
    )
    catalogue = await look(db)
    members = {"public.tree", "public.branch", "public.leaf"}
    assert catalogue.views["public.v"].tables == members
    assert catalogue.views["public.w"].tables == members
    assert all(tree.triggers for tree in catalogue.watched.values())
    trees = {name: replace(tree, triggers="") for name, tree in catalogue.watched.items()}
    assert trees == {name: Tree(root="public.tree", kin=frozenset(members - {name})) for name in members}
    for name in members:
        assert set(catalogue.reading(name)) == {"public.v", "public.w"}


async def test_odd_names_are_quoted_as_the_server_does(db: asyncpg.Connection) -> None:
    await db.execute(
        """
        CREATE SCHEMA "Odd.Schema";
        CREATE TABLE "Odd.Schema"."Some Table" (id int PRIMARY KEY);
        CREATE MATERIALIZED VIEW "Odd.Schema"."V" AS SELECT id FROM "Odd.Schema"."Some Table";
        """
    )
    found = await one_view(db, '"Odd.Schema"."V"')
    assert found.tables == {'"Odd.Schema"."Some Table"'}


@pytest.mark.parametrize(
    ("index", "usable"),
    [
        ("CREATE UNIQUE INDEX ON v (id)", True),
        ("CREATE UNIQUE INDEX ON v (id, n)", True),
        ("CREATE INDEX ON v (id)", False),
        ("CREATE UNIQUE INDEX ON v (id) WHERE n > 0", False),
        ("CREATE UNIQUE INDEX ON v ((id + 0))", False),
    ],
)
async def test_an_index_is_usable_as_concurrently_has_it(
    tables: asyncpg.Connection, index: str, *, usable: bool
) -> None:
    await tables.execute("CREATE MATERIALIZED VIEW v AS SELECT id, n FROM t")
    await tables.execute(index)
    assert (await one_view(tables)).usable_index == usable
    try:
        await tables.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY v")
    except asyncpg.ObjectNotInPrerequisiteStateError:
        assert not usable
    else:
        assert usable


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE OR REPLACE VIEW live AS SELECT id, n + 1 AS n, seen() AS s FROM t",
        "CREATE OR REPLACE FUNCTION seen() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1 + count(*) FROM public.t'",
        "ALTER TABLE t ALTER n TYPE bigint USING n + 1",
        "TRUNCATE t",
        "CREATE TABLE heir () INHERITS (t)",
        "CREATE UNIQUE INDEX ON v (id)",
        "SELECT afresh.unwatch('t'); SELECT afresh.watch('t', '{id}')",
        "ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL",
        "DROP MATERIALIZED VIEW v; CREATE MATERIALIZED VIEW v AS SELECT * FROM live",
    ],
)
async def test_what_may_change_the_content_changes_the_fingerprint(tables: asyncpg.Connection, statement: str) -> None:
    await tables.execute(
        """
        CREATE FUNCTION seen() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.t';
        CREATE VIEW live AS SELECT id, n, seen() AS s FROM t;
        CREATE MATERIALIZED VIEW v AS SELECT * FROM live;
        CREATE MATERIALIZED VIEW other AS SELECT id FROM u;
        """
    )
    if "ALTER n TYPE" in statement:  # a column that a view shows cannot change its type
        await tables.execute("CREATE OR REPLACE VIEW live AS SELECT id, 0 AS n, seen() AS s FROM t")
    before = await look(tables)
    assert otherwise(await look(tables), before) == set()
    await tables.execute(statement)
    assert otherwise(await look(tables), before) == {"public.v"}


async def test_ordinary_writing_changes_no_fingerprint(tables: asyncpg.Connection) -> None:
    await tables.execute("CREATE MATERIALIZED VIEW v AS SELECT id FROM t; CREATE UNIQUE INDEX ON v (id)")
    before = await look(tables)
    await tables.execute("INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n; ANALYZE t; CREATE INDEX ON t (n)")
    await tables.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY v")
    await tables.execute("REFRESH MATERIALIZED VIEW v")
    await tables.execute("SELECT afresh.watch('u')")
    assert otherwise(await look(tables), before) == set()
