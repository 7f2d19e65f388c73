"""The migrations of the pack ``client_health``: up and down, over tables that are there, over orphans, beside writers."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from conftest import PATIENCE, eventually
from packs.client_health_support import CLIENT_HEALTH, FOREIGN_KEYS, TABLES, VIEWS, load_sample, pack_down, pack_up
from packs.every_pack import detail, notices, objects


async def tables_there(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT unnest($1::text[]) AS name", list(TABLES))
    return {
        r["name"] for r in rows if await connection.fetchval("SELECT to_regclass('public.' || $1::text)", r["name"])
    }


async def test_down_keeps_every_row_and_says_so(db: asyncpg.Connection) -> None:
    await load_sample(db, 20)
    counts = {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    heard = notices(db)
    await pack_down(db)
    assert [line for line in heard if "stays" in line] == [
        f"public.{table} stays: it holds rows"
        for table in (
            "segmentation_event_compliance",
            "segmentation_events",
            "tier_event_requirements",
            "segmentation_event_types",
            "segmentation_tiers",
            "actions",
            "unified_meetings",
            "nps_responses",
            "nps_clients",
        )
    ]
    await pack_up(db)
    assert counts == {table: await db.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert await db.fetchval("SELECT count(*) FROM client_health_summary") == 20


async def test_down_drops_the_empty_tables_and_keeps_those_with_rows(db: asyncpg.Connection) -> None:
    await db.execute("INSERT INTO nps_clients (client_name) VALUES ('Acme')")
    await db.execute("INSERT INTO actions (\"Client\", \"Status\") VALUES ('Acme', 'Open')")
    await pack_down(db)
    assert await tables_there(db) == {"nps_clients", "actions"}
    assert await db.fetchval('SELECT "Client" FROM actions') == "Acme"


async def test_down_takes_away_views_foreign_keys_and_triggers(db: asyncpg.Connection) -> None:
    await load_sample(db, 5)
    await pack_down(db)
    assert await db.fetchval("SELECT count(*) FROM pg_matviews WHERE matviewname = ANY ($1)", list(VIEWS)) == 0
    assert await db.fetchval("SELECT to_regclass('public.client_health_summary_live')") is None
    assert await db.fetchval("SELECT to_regclass('public.event_compliance_summary_live')") is None
    assert await db.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 0
    assert await db.fetchval("SELECT count(*) FROM afresh.watched") == 0


async def test_down_keeps_tables_that_were_there_before_even_if_they_are_empty(bare: asyncpg.Connection) -> None:
    await bare.execute(
        "CREATE TABLE unified_meetings (meeting_id uuid PRIMARY KEY, client_name varchar(80), meeting_date timestamptz)"
    )
    await pack_up(bare)
    heard = notices(bare)
    await pack_down(bare)
    assert await tables_there(bare) == {"unified_meetings"}
    assert "public.unified_meetings stays: it was there before the pack client_health" in heard


async def test_down_keeps_a_table_on_which_something_else_depends(db: asyncpg.Connection) -> None:
    await db.execute("CREATE VIEW mine AS SELECT client_name FROM nps_clients")
    heard = notices(db)
    await pack_down(db)
    assert await tables_there(db) == {"nps_clients"}
    assert "public.nps_clients stays: other objects depend on it" in heard


async def test_tables_that_are_there_keep_their_shape_and_rows(bare: asyncpg.Connection) -> None:
    await bare.execute("""
        CREATE TABLE nps_clients (
            id uuid PRIMARY KEY, client_name varchar(80), segment text, cse text, owner_note text,
            created_at timestamp, updated_at timestamp
        );
        CREATE INDEX by_name ON nps_clients (client_name);
        INSERT INTO nps_clients VALUES
            ('00000000-0000-0000-0000-000000000001', 'Acme', 'Gold', 'Kim', 'mind the gap', NULL, NULL),
            ('00000000-0000-0000-0000-000000000002', NULL, NULL, NULL, 'nameless', NULL, NULL),
            ('00000000-0000-0000-0000-000000000003', NULL, NULL, NULL, 'nameless too', NULL, NULL);
        CREATE TABLE nps_responses (client_name text, score numeric, response_date timestamptz);
        INSERT INTO nps_responses VALUES ('Acme', 10, now()), ('Acme', NULL, now()), (NULL, 0, now());
        CREATE TABLE segmentation_event_compliance (
            client_name text, event_type_id text, year integer, compliance_percentage double precision
        );
        INSERT INTO segmentation_event_compliance
        VALUES ('Acme', 'x', extract(year FROM now() AT TIME ZONE 'UTC'), 40),
               ('Acme', 'x', extract(year FROM now() AT TIME ZONE 'UTC'), 60);
    """)
    await pack_up(bare)
    assert await bare.fetchval("SELECT owner_note FROM nps_clients WHERE client_name = 'Acme'") == "mind the gap"
    rows = await bare.fetch(
        "SELECT client_name, nps_score, response_count, compliance_percentage FROM client_health_summary"
    )
    assert [tuple(row) for row in rows] == [("Acme", 100, 1, 50)]
    assert await bare.fetchval("SELECT count(*) FROM event_compliance_summary") == 1
    indexes = {
        r["indexname"]
        for r in await bare.fetch("SELECT indexname FROM pg_indexes WHERE tablename = ANY ($1)", list(TABLES))
    }
    assert indexes >= {
        "nps_clients_client_name_unique",
        "idx_nps_responses_client_date",
        "idx_unified_meetings_client_date",
        "idx_actions_client_status",
        "idx_segmentation_events_client_year",
        "idx_segmentation_compliance_client_year",
    }
    assert {r["conname"] for r in await bare.fetch("SELECT conname FROM pg_constraint WHERE contype = 'f'")} >= set(
        FOREIGN_KEYS
    )


async def test_a_table_of_ours_has_no_second_unique_index(db: asyncpg.Connection) -> None:
    assert await db.fetchval("SELECT to_regclass('nps_clients_client_name_unique')") is None
    assert await db.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'segmentation_event_compliance'") == 2


async def test_tables_that_lack_columns_are_reported_together_and_nothing_is_changed(bare: asyncpg.Connection) -> None:
    await bare.execute("""
        CREATE TABLE nps_clients (id bigint, client_name text, segment text, created_at date, updated_at date);
        CREATE TABLE actions (client text, "Status" integer, "Due_Date" date);
        CREATE VIEW unified_meetings AS SELECT ''::text AS client_name, current_date AS meeting_date;
    """)
    before = await objects(bare)
    with pytest.raises(MigrationError) as raised:
        await pack_up(bare)
    assert detail(raised.value) == [
        'public.actions has no column "Client" (text)',
        'public.actions."Status" is of type integer, where the views need text',
        "public.nps_clients has no column cse (text)",
        "public.unified_meetings is not a table",
    ]
    assert "Add the columns" in raised.value.hint
    assert [line for line in await objects(bare) if "pogo" not in line] == [
        line for line in before if "pogo" not in line
    ]


async def test_duplicate_client_names_stop_the_first_migration(bare: asyncpg.Connection) -> None:
    await bare.execute("""
        CREATE TABLE nps_clients (id bigint, client_name text, segment text, cse text, created_at date, updated_at date);
        INSERT INTO nps_clients (client_name) VALUES ('Acme'), ('Acme');
    """)
    with pytest.raises(MigrationError, match=r"Key \(client_name\)=\(Acme\) is duplicated"):
        await pack_up(bare)
    assert await tables_there(bare) == {"nps_clients"}


ORPHANED = """
    INSERT INTO nps_clients (client_name) VALUES ('Acme');
    INSERT INTO segmentation_event_types (event_name) VALUES ('Visit');
    INSERT INTO nps_responses (client_name, score) VALUES ('Acme', 9);
    INSERT INTO nps_responses (client_name, score)
        SELECT 'Ghost ' || n, 5 FROM generate_series(1, 7) AS n, generate_series(1, n);
    INSERT INTO actions ("Client") VALUES ('O''Hara'), (NULL), ('Acme');
    INSERT INTO segmentation_event_compliance (client_name, event_type_id, year, compliance_percentage, status)
        SELECT 'acme', id, 2024, 50, 'at-risk' FROM segmentation_event_types;
"""

GHOSTS = "'Ghost 7' (7), 'Ghost 6' (6), 'Ghost 5' (5), 'Ghost 4' (4), 'Ghost 3' (3), …"


async def test_orphans_are_reported_table_by_table_and_nothing_is_changed(bare: asyncpg.Connection) -> None:
    await pack_up(bare)
    await load_sample(bare, 1)
    await pack_down(bare)
    await bare.execute(f"TRUNCATE {', '.join(TABLES)}")
    await bare.execute(ORPHANED)
    before = await objects(bare)
    with pytest.raises(MigrationError) as raised:
        await pack_up(bare)
    assert "the foreign keys to public.nps_clients cannot be added as the data are" in str(raised.value)
    nobody = "names none of the clients"
    assert detail(raised.value) == [
        f"public.nps_responses: 28 row(s) whose client_name {nobody}; 7 such name(s), with their rows: {GHOSTS}",
        f"public.actions: 1 row(s) whose \"Client\" {nobody}; 1 such name(s), with their rows: 'O''Hara' (1)",
        f"public.{TABLES[-1]}: 1 row(s) whose client_name {nobody}; 1 such name(s), with their rows: 'acme' (1)",
    ]
    assert "UPDATE" in raised.value.hint
    assert "INSERT INTO public.nps_clients" in raised.value.hint
    assert await objects(bare) == before
    assert await bare.fetchval("SELECT count(*) FROM nps_responses") == 29

    await bare.execute("""
        INSERT INTO nps_clients (client_name)
            SELECT DISTINCT client_name FROM nps_responses WHERE client_name LIKE 'Ghost%';
        UPDATE actions SET "Client" = 'Acme' WHERE "Client" = 'O''Hara';
        DELETE FROM segmentation_event_compliance WHERE client_name = 'acme';
    """)
    assert await pack_up(bare) == CLIENT_HEALTH.migrations[1:]
    assert await bare.fetchval("SELECT count(*) FROM client_health_summary") == 8


@pytest.mark.parametrize("name", FOREIGN_KEYS)
async def test_a_client_with_records_cannot_be_deleted_and_takes_them_along_when_renamed(
    db: asyncpg.Connection, name: str
) -> None:
    table, column = FOREIGN_KEYS[name]
    await load_sample(db, 3)
    client = await db.fetchval(f'SELECT "{column}" FROM {table} LIMIT 1')
    records = await db.fetchval(f'SELECT count(*) FROM {table} WHERE "{column}" = $1', client)
    # The other keys are out of the way, so that it is this one that is tried.
    for other, (elsewhere, _) in FOREIGN_KEYS.items():
        if other != name:
            await db.execute(f"ALTER TABLE {elsewhere} DROP CONSTRAINT {other}")

    with pytest.raises(asyncpg.exceptions.IntegrityConstraintViolationError) as raised:
        await db.execute("DELETE FROM nps_clients WHERE client_name = $1", client)
    assert raised.value.constraint_name == name
    await db.execute("UPDATE nps_clients SET client_name = 'Renamed Ltd' WHERE client_name = $1", client)
    assert await db.fetchval(f"SELECT count(*) FROM {table} WHERE \"{column}\" = 'Renamed Ltd'") == records
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute(f"UPDATE {table} SET \"{column}\" = 'Nobody' WHERE \"{column}\" = 'Renamed Ltd'")
    await db.execute(f"DELETE FROM {table} WHERE \"{column}\" = 'Renamed Ltd'")
    await db.execute("DELETE FROM nps_clients WHERE client_name = 'Renamed Ltd'")


async def test_a_foreign_key_that_is_there_already_is_kept_and_validated(bare: asyncpg.Connection) -> None:
    await bare.execute("""
        CREATE TABLE nps_clients (
            id bigint, client_name text UNIQUE, segment text, cse text, created_at date, updated_at date
        );
        CREATE TABLE nps_responses (client_name text, score integer, response_date date);
        ALTER TABLE nps_responses ADD CONSTRAINT fk_nps_responses_client FOREIGN KEY (client_name)
            REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID;
    """)
    kept = await bare.fetchval("SELECT oid FROM pg_constraint WHERE conname = 'fk_nps_responses_client'")
    await pack_up(bare)
    after = await bare.fetchrow("SELECT oid, convalidated FROM pg_constraint WHERE conname = 'fk_nps_responses_client'")
    assert after is not None
    assert (after["oid"], after["convalidated"]) == (kept, True)


@pytest.mark.parametrize(
    "definition",
    [
        "FOREIGN KEY (client_name) REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE CASCADE",
        "FOREIGN KEY (client_name) REFERENCES nps_clients (client_name) ON DELETE RESTRICT",
        "FOREIGN KEY (reference) REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE RESTRICT",
        "CHECK (client_name <> '')",
    ],
)
async def test_another_constraint_of_a_key_s_name_is_an_error_and_stays(
    bare: asyncpg.Connection, definition: str
) -> None:
    await bare.execute(f"""
        CREATE TABLE nps_clients (
            id bigint, client_name text UNIQUE, segment text, cse text, created_at date, updated_at date
        );
        CREATE TABLE nps_responses (client_name text, score integer, response_date date, reference text);
        ALTER TABLE nps_responses ADD CONSTRAINT fk_nps_responses_client {definition};
    """)
    with pytest.raises(MigrationError) as raised:
        await pack_up(bare)
    assert "public.nps_responses has a constraint fk_nps_responses_client already, and it is another one" in str(
        raised.value
    )
    assert "RENAME CONSTRAINT" in raised.value.hint
    assert await bare.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 1


async def waits_for_a_lock(observer: asyncpg.Connection, waiting: asyncpg.Connection) -> bool:
    return bool(
        await observer.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'relation' AND NOT granted",
            waiting.get_server_pid(),
        )
    )


async def test_the_foreign_keys_wait_for_a_writer_and_see_what_he_wrote(db: asyncpg.Connection, pack_dsn: str) -> None:
    await db.execute("INSERT INTO nps_clients (client_name) VALUES ('Acme')")
    await db.execute("INSERT INTO unified_meetings (client_name, meeting_date) VALUES ('Acme', current_date)")
    await db.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Acme', 9)")
    await pack_down(db)
    writer = await asyncpg.connect(pack_dsn)
    observer = await asyncpg.connect(pack_dsn)
    try:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Nobody', 1)")
        migration = asyncio.create_task(pack_up(db), name="migrate up")
        await eventually(lambda: waits_for_a_lock(observer, db))
        await writer.execute("COMMIT")
        with pytest.raises(MigrationError, match=r"Nobody"):
            await migration
    finally:
        await writer.close()
        await observer.close()
    assert await db.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 0


BARE_TABLES = """
    CREATE TABLE nps_clients (id bigint, client_name text, segment text, cse text, created_at date, updated_at date);
    CREATE TABLE nps_responses (client_name text, score integer, response_date date);
    INSERT INTO nps_clients (client_name) VALUES ('Acme');
    INSERT INTO nps_responses (client_name, score) VALUES ('Acme', 9);
"""


@pytest.fixture(params=["indexes", "foreign keys"])
async def locking(request: pytest.FixtureRequest, bare: asyncpg.Connection) -> asyncpg.Connection:
    """A database in which migrating up has to lock nps_clients and nps_responses for what the parameter says."""
    await bare.execute(BARE_TABLES)
    if request.param == "foreign keys":
        await pack_up(bare)
        await pack_down(bare)
    return bare


async def test_a_deadlock_with_a_writer_is_never_resolved_at_the_writer_s_cost(
    locking: asyncpg.Connection, dsn: str
) -> None:
    writer = await asyncpg.connect(dsn)
    observer = await asyncpg.connect(dsn)
    try:
        await writer.execute("BEGIN")
        await writer.execute("UPDATE nps_responses SET score = 10")
        migration = asyncio.create_task(pack_up(locking), name="migrate up")
        await eventually(lambda: waits_for_a_lock(observer, locking))
        # The migration holds nps_clients and waits for nps_responses; the writer now wants it the other way round.
        await writer.execute("UPDATE nps_clients SET segment = 'Gold'")
        await writer.execute("COMMIT")
        assert await migration == CLIENT_HEALTH.migrations
    finally:
        await writer.close()
        await observer.close()
    assert await locking.fetchval("SELECT segment FROM client_health_summary") == "Gold"


async def test_while_the_migration_waits_for_one_table_writers_get_through_to_the_others(
    locking: asyncpg.Connection, dsn: str
) -> None:
    holder = await asyncpg.connect(dsn)
    writer = await asyncpg.connect(dsn)
    try:
        await holder.execute("BEGIN")
        await holder.execute("UPDATE nps_responses SET score = 10")
        migration = asyncio.create_task(pack_up(locking), name="migrate up")
        await eventually(lambda: waits_for_a_lock(holder, locking))
        await writer.execute("UPDATE nps_clients SET segment = 'Gold'", timeout=PATIENCE)
        assert not migration.done()
        await holder.execute("COMMIT")
        assert await migration == CLIENT_HEALTH.migrations
    finally:
        await holder.close()
        await writer.close()
