"""What is true of every pack: settings, migrations, sample data, checks, refreshes, demo, endpoints, its page."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier import dependencies, pack_page, packs
from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest
from packs.every_pack import (
    PackUnderTest,
    clone,
    counts,
    identity_of_rows,
    notices,
    qualified,
    relations,
    schema_of,
    undone,
)
from support.named_queries import Asking

PAGES = Path(__file__).resolve().parents[2] / "docs/packs"


@pytest.fixture(scope="module", params=packs.available())
def subject(request: pytest.FixtureRequest) -> PackUnderTest:
    """Each pack in turn."""
    return PackUnderTest(request.param)


def text_of(file: str) -> str:
    """What the file holds."""
    return Path(file).read_text(encoding="utf-8")


# Settings


def test_every_kept_answer_is_made_stale_by_what_it_is_read_from(subject: PackUnderTest) -> None:
    settings = subject.pack.settings
    for query in settings.queries:
        text = text_of(query.file)
        read = [view for view in settings.views if re.search(rf"\b{re.escape(view.name)}\b", text)]
        made_stale = [view.patterns for view in read]
        if not read:
            made_stale = [view.patterns for view in settings.views] + [table.patterns for table in settings.tables]
        patterns = [pattern for some in made_stale for pattern in some or ()]
        assert query.writes or any(query.template.literal.startswith(p.partition("{")[0]) for p in patterns), query.name


async def test_views_depend_on_the_tables_of_the_settings_and_all_of_these_are_watched(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    catalogue = await dependencies.load(db)
    declared = {qualified(table.name): list(table.keys) for table in subject.pack.settings.tables}
    assert set(catalogue.views) == set(subject.views)
    assert {table for view in catalogue.views.values() for table in view.tables} == (
        declared.keys() - subject.expected.no_view_reads
    )
    for view in catalogue.views.values():
        assert (view.blind_spots, view.usable_index) == ([], True), view.name
    watched = await db.fetch("SELECT table_name, keys, level, complete FROM afresh.watched")
    assert {row["table_name"]: row["keys"] for row in watched} == declared
    assert all(row["complete"] and row["level"] == "statement" for row in watched)


async def test_every_statement_of_the_settings_can_be_prepared_with_its_parameters(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    for query in subject.pack.settings.queries:
        statement = await db.prepare(text_of(query.file))
        assert len(statement.get_parameters()) == len(query.parameters), query.name
    for job in subject.pack.settings.jobs:
        assert (await db.prepare(text_of(job.file))).get_parameters() == (), job.name


async def test_every_query_can_be_run_by_the_service(ask: Asking) -> None:
    assert (await ask("/api/queries")).json["queries"]


# Migrations


async def test_up_down_up_leaves_an_identical_schema_and_loses_no_row_that_it_keeps(
    subject: PackUnderTest, bare: asyncpg.Connection, dsn: str
) -> None:
    before = await schema_of(bare, dsn)
    assert await subject.up(bare) == subject.migrations
    assert await subject.up(bare) == []
    with_pack = await schema_of(bare, dsn)
    assert await subject.down(bare) == subject.migrations[::-1]
    without = await schema_of(bare, dsn)
    # Nothing is left but an extension, which somebody else may use by now.
    left = [line for line in without.splitlines() if line not in before and "EXTENSION" not in line]
    assert left == []
    assert re.findall("CREATE EXTENSION .*", without) == re.findall("CREATE EXTENSION .*", with_pack)
    await subject.up(bare)
    assert await schema_of(bare, dsn) == with_pack
    tables = await relations(bare)
    assert all(f"CREATE TABLE {table} (" in with_pack for table in tables)
    await subject.down(bare)
    assert await schema_of(bare, dsn) == without

    await subject.up(bare)
    await subject.load_sample(bare, 20)
    rows = await counts(bare, tables)
    heard = notices(bare)
    await subject.down(bare)
    kept = {line.partition(" stays: ")[0] for line in heard if " stays: " in line}
    assert set(await relations(bare, "rvmfp")) == {
        name for name in kept if "(" not in name
    }  # a function stays with its table
    assert await bare.fetchval("SELECT count(*) FROM afresh.watched") == 0
    if not kept:
        assert await schema_of(bare, dsn) == without
    await subject.up(bare)
    assert await schema_of(bare, dsn) == with_pack
    assert all(count == rows[table] for table, count in (await counts(bare, tables)).items() if table in kept)


async def test_down_refuses_to_drop_what_somebody_built_on_a_view(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    for view in subject.views:
        await db.execute(f"CREATE VIEW mine AS SELECT * FROM {view}")
        bare_name = view.removeprefix("public.")
        with pytest.raises(MigrationError, match=f"view mine depends on materialized view {re.escape(bare_name)}"):
            await subject.down(db)
        assert await db.fetchval("SELECT count(*) FROM mine") is not None
        await db.execute("DROP VIEW mine")
        await subject.up(db)


async def test_everything_that_a_user_sees_says_what_it_is(subject: PackUnderTest, db: asyncpg.Connection) -> None:
    silent = await db.fetch(
        """
        WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$|afresh$)')
        SELECT relname FROM pg_class
        WHERE relnamespace IN (TABLE ours) AND relkind IN ('r', 'v', 'm') AND relname !~ '^_pogo'
            AND obj_description(oid, 'pg_class') IS NULL
        UNION ALL
        SELECT oid::regprocedure::text FROM pg_proc
        WHERE pronamespace IN (TABLE ours) AND obj_description(oid, 'pg_proc') IS NULL
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
            AND proname <> 'notify_event_refresh'
        """
    )
    assert silent == []


# Checks


async def test_everything_is_ok_on_an_empty_database(subject: PackUnderTest, db: asyncpg.Connection) -> None:
    assert await subject.failed_checks(db) == set()


async def test_verify_works_without_public_on_the_search_path_and_in_any_style(
    subject: PackUnderTest, filled: asyncpg.Connection
) -> None:
    async with filled.transaction():
        await subject.refresh(filled)
        await filled.execute("SET search_path = ''; SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'")
        assert await subject.failed_checks(filled) == set()


async def test_verify_works_where_nothing_is_installed(
    subject: PackUnderTest, pack_template: str, bare: asyncpg.Connection
) -> None:
    del pack_template  # Roles are the cluster's, and are there.
    every = {row["check"] for row in await bare.fetch(subject.pack.read("verify.sql"))}
    assert every - await subject.failed_checks(bare) == subject.expected.ok_without


# Sample data


async def test_sample_data_of_every_size_fill_every_table_and_pass_every_check(
    server: ServerUnderTest, pack_template: str, subject: PackUnderTest
) -> None:
    expected = subject.expected
    for size in expected.sizes:
        async with clone(server, pack_template) as db:
            await subject.load_sample(db, size)
            if size >= expected.full_from:
                rows = await counts(db, await relations(db))
                assert {table for table, many in rows.items() if not many} <= expected.unfilled, size
            assert expected.stale(await subject.failed_checks(db)), size
            async with db.transaction():  # at one moment, for views that change by the clock
                await subject.refresh(db)
                assert await subject.failed_checks(db) == set(), size
            assert await counts(db, expected.sized) == {name: many(size) for name, many in expected.sized.items()}


async def test_sample_data_are_of_size_fifty_unless_said_otherwise(
    subject: PackUnderTest, filled: asyncpg.Connection
) -> None:
    sized = subject.expected.sized
    assert await counts(filled, sized) == {name: rows(50) for name, rows in sized.items()}


async def test_sample_data_are_the_same_every_time(
    server: ServerUnderTest, pack_template: str, subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    statements = list(subject.expected.digests)
    for table in await relations(db):
        plain = await db.fetch(
            "SELECT quote_ident(attname) AS name FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            " AND NOT attisdropped AND atttypid = ANY (ARRAY['text', 'boolean', 'numeric']::regtype[])",
            table,
        )
        statements.append(f"SELECT concat_ws(',', 0, {', '.join(row['name'] for row in plain) or 'NULL'}) FROM {table}")

    async def digest(connection: asyncpg.Connection) -> dict[str, str | None]:
        async with connection.transaction():
            await subject.load_sample(connection, 100)
            return {
                statement: await connection.fetchval(
                    f"SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ({statement}) AS t (r)"
                )
                for statement in statements
            }

    first = await digest(db)
    async with clone(server, pack_template) as other:
        # Another plan: nothing may hang on the order in which rows are made.
        await other.execute("SET enable_hashjoin = off; SET enable_nestloop = off; SET work_mem = '64kB'")
        await other.execute("SET TimeZone = 'Asia/Kathmandu'")
        assert await digest(other) == first


async def test_sample_data_refuse_each_table_that_holds_rows(
    subject: PackUnderTest, filled: asyncpg.Connection
) -> None:
    before = await counts(filled, await relations(filled))
    for table in before.keys() - subject.expected.unfilled:
        async with undone(filled):
            await filled.execute("SET LOCAL session_replication_role = replica")
            for other in before.keys() - {table}:
                await filled.execute(f"DELETE FROM {other}")
            with pytest.raises(
                asyncpg.ObjectNotInPrerequisiteStateError, match=rf"{re.escape(table)} holds rows"
            ) as raised:
                await subject.load_sample(filled, 5)
            assert "empty the tables" in (raised.value.hint or "")
    assert await counts(filled, before) == before


async def test_a_sample_size_that_is_none_is_refused(subject: PackUnderTest, db: asyncpg.Connection) -> None:
    tables = await relations(db)
    for size in ("0", "-1", "many", "1.5", "99999999", f"1; DROP TABLE {tables[0]}"):
        async with db.transaction():
            await db.execute("SELECT set_config('afresh.sample_size', $1, true)", size)
            wanted = rf"which is not a number of {subject.expected.sample_of}\n"
            with pytest.raises(asyncpg.InvalidParameterValueError, match=wanted):
                await subject.load_sample(db, None)
    assert not any((await counts(db, tables)).values())


async def test_sample_data_leave_nothing_temporary_behind(subject: PackUnderTest, db: asyncpg.Connection) -> None:
    settings = "SELECT name, setting FROM pg_settings WHERE category <> 'Customized Options' ORDER BY name"
    before = await db.fetch(settings)
    await subject.load_sample(db, 5)
    assert await db.fetch(settings) == before
    for catalogue, column in (("pg_class", "relnamespace"), ("pg_proc", "pronamespace"), ("pg_type", "typnamespace")):
        assert await db.fetchval(f"SELECT count(*) FROM {catalogue} WHERE {column} = pg_my_temp_schema()") == 0


# Refreshes


async def test_a_concurrent_refresh_with_unchanged_data_rewrites_no_row(
    subject: PackUnderTest, filled: asyncpg.Connection
) -> None:
    by_the_clock = {qualified(view.name) for view in subject.pack.settings.views if view.next_change is not None}
    views = [view for view in subject.views if view not in by_the_clock | subject.expected.restless]
    today = "SELECT (now() AT TIME ZONE 'UTC')::date"
    day = await filled.fetchval(today)
    await subject.refresh(filled)
    before = {view: await identity_of_rows(filled, view) for view in views}
    assert all(before.values())
    await filled.execute("SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'German'")
    # An update without any change moves the rows in the tables, and so the order in which they are read.
    for table in await relations(filled):
        column = await filled.fetchval(
            "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0"
            " AND attgenerated = '' AND attidentity = '' AND NOT attisdropped ORDER BY attnum LIMIT 1",
            table,
        )
        await filled.execute(f"UPDATE {table} AS t SET {column} = {column} WHERE hashtext(t::text) % 2 = 0")
    await subject.refresh(filled)
    if await filled.fetchval(today) == day:
        assert {view: await identity_of_rows(filled, view) for view in views} == before


# The demo


async def test_demo_change_shows_in_the_subjects_row_every_time(
    subject: PackUnderTest, filled: asyncpg.Connection
) -> None:
    chosen = await filled.fetchval(subject.pack.read("demo/subject.sql"))
    assert chosen is not None
    row = subject.pack.read("demo/row.sql")
    before = await filled.fetchrow(row, chosen)
    assert before is not None
    for _ in range(6):
        assert await filled.execute(subject.pack.read("demo/change.sql"), chosen) in ("UPDATE 1", "INSERT 0 1")
        await subject.refresh(filled)
        after = await filled.fetchrow(row, chosen)
        assert after is not None
        assert after != before
        assert subject.expected.shown(chosen, before, after), (before, after)
        before = after


async def test_demo_has_no_subject_and_no_traffic_where_there_are_no_rows(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    assert await db.fetchval(subject.pack.read("demo/subject.sql")) is None
    for number in range(20):
        await db.execute("SELECT setseed($1)", number / 20)
        async with db.transaction():
            await db.execute(subject.pack.read("demo/traffic.sql"))
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is None


async def test_demo_traffic_changes_something_each_time_and_lets_nothing_grow_for_ever(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    expected = subject.expected
    await subject.load_sample(db, expected.traffic_over)
    tables = await relations(db)
    before = await counts(db, tables)
    written = await db.prepare(
        " UNION ALL ".join(f"SELECT '{t}' WHERE EXISTS (SELECT FROM {t} WHERE xmin = $1)" for t in tables)
    )
    traffic = subject.pack.read("demo/traffic.sql")
    changed: Counter[str] = Counter()
    for number in range(expected.rounds):
        await db.execute("SELECT setseed($1)", number / expected.rounds)
        async with db.transaction():
            await db.execute(traffic)
            assert expected.rests or await db.fetchval("SELECT pg_current_xact_id_if_assigned()") is not None
            changed.update(row[0] for row in await written.fetch(await db.fetchval("SELECT pg_current_xact_id()::xid")))
    assert expected.busy <= set(changed)
    assert not expected.quiet & set(changed)
    for statement, most in expected.bounds.items():
        assert await db.fetchval(statement) <= most, statement
    if expected.steady:
        assert await counts(db, tables) == before
    async with db.transaction():
        await subject.refresh(db)
        assert await subject.failed_checks(db) == set()


# Pages


async def test_the_page_of_a_pack_is_that_of_its_settings_and_comments(
    subject: PackUnderTest, db: asyncpg.Connection
) -> None:
    text = await pack_page.page(db, subject.pack)
    written = (PAGES / f"{subject.pack.name}.md").read_text(encoding="utf-8")
    assert pack_page.written(written, text) == written, "write it anew: python -m afresh_notifier.pack_page docs/packs"
    assert "||" not in text.replace("| |", ""), "something has no comment"


def test_a_page_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected <!-- pack -->"):
        pack_page.written("# A page", "text")
