"""The pack ``learning`` as it is installed: its settings, migrations, checks, sample data, demo and refreshes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest, migrate_up
from packs.learning_support import (
    PACK,
    PREREQUISITES,
    TABLES,
    VIEWS,
    insert,
    known,
    load_sample,
    pack_down,
    pack_up,
    refresh,
    talk,
    vector,
)
from packs.test_client_health_migrations import detail, notices, objects, schema_of

MIGRATIONS = [
    "learning_0001_vector",
    "learning_0002_prerequisites",
    "learning_0003_tables",
    "learning_0004_queue",
    "learning_0005_similarity",
    "learning_0006_batch",
    "learning_0007_metrics",
    "learning_0008_watch",
    "learning_0009_embeddings",
]

FUNCTIONS = {
    "trigger_learning_from_negative_feedback": "",
    "trigger_learning_from_corrections": "",
    "update_learning_queue_timestamp": "",
    "check_similar_knowledge": "integer, text, vector, numeric",
    "batch_process_learning": "integer",
}

TRIGGERS = {
    "trg_feedback_learning": "conversation_feedback",
    "trg_corrections_learning": "owner_corrections",
    "trg_learning_queue_updated_at": "learning_queue",
}

INDEXES = {
    "conversation_feedback": {"idx_feedback_conversation", "idx_feedback_type", "idx_feedback_created"},
    "owner_corrections": {
        "idx_corrections_conversation",
        "idx_corrections_priority",
        "idx_corrections_created",
        "idx_corrections_pending",
    },
    "learning_queue": {
        "idx_learning_status",
        "idx_learning_shop",
        "idx_learning_created",
        "idx_learning_reviewer",
        "idx_learning_pending",
        "idx_learning_embedding",
    },
    "response_analytics": {
        "idx_analytics_conversation",
        "idx_analytics_type",
        "idx_analytics_engagement",
        "idx_analytics_variant",
        "idx_analytics_created",
    },
    "voice_transcripts": {
        "idx_transcripts_conversation",
        "idx_transcripts_sentiment",
        "idx_transcripts_negative",
        "idx_transcripts_embedding",
        "idx_transcripts_entities",
    },
    "learning_audit_log": {"idx_audit_record", "idx_audit_performed"},
    "daily_learning_metrics": {
        "idx_daily_learning_metrics_key",
        "idx_daily_learning_metrics_shop",
        "idx_daily_learning_metrics_status",
    },
    "response_performance_metrics": {
        "idx_response_performance_metrics_key",
        "idx_response_performance_metrics_type",
    },
    "knowledge_base": {"idx_knowledge_embedding", "idx_knowledge_text", "idx_knowledge_shop"},
}

CHECKS = 201


@pytest.fixture(scope="module")
def pack_template(server: ServerUnderTest) -> Iterator[str]:
    """A database that holds the engine and the pack ``learning``; cloned, never changed."""
    name = asyncio.run(server.create())
    asyncio.run(migrate_up(server.dsn(name), PACK.name))
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def installed(server: ServerUnderTest, pack_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of this test's own, with the pack in it."""
    name = await server.create(pack_template)
    connection = await asyncpg.connect(server.dsn(name))
    yield connection
    await connection.close()
    await server.drop(name)


@pytest.fixture(scope="module")
def filled_template(server: ServerUnderTest, pack_template: str) -> Iterator[str]:
    """The same, with the sample data of 50 conversations and fresh metrics; cloned, never changed."""

    async def fill() -> str:
        name = await server.create(pack_template)
        connection = await asyncpg.connect(server.dsn(name))
        await load_sample(connection, None)
        await refresh(connection)
        await connection.close()
        return name

    name = asyncio.run(fill())
    yield name
    asyncio.run(server.drop(name))


@pytest.fixture
async def filled(server: ServerUnderTest, filled_template: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of this test's own, with sample data and fresh metrics."""
    name = await server.create(filled_template)
    connection = await asyncpg.connect(server.dsn(name))
    yield connection
    await connection.close()
    await server.drop(name)


async def failed_checks(db: asyncpg.Connection) -> set[str]:
    """The checks of verify.sql that are not ok; every row is looked at for its form."""
    rows = await db.fetch(PACK.read("verify.sql"))
    assert len(rows) == len({row["check"] for row in rows}) == CHECKS
    for row in rows:
        assert list(row.keys()) == ["check", "expected", "found", "ok"]
        assert all(isinstance(row[column], str) and row[column] for column in ("check", "expected", "found"))
        assert isinstance(row["ok"], bool)
    return {row["check"] for row in rows if not row["ok"]}


# Settings


def test_settings_name_what_each_change_makes_stale_and_the_hourly_refreshes() -> None:
    assert {table.name: table.patterns for table in PACK.settings.tables} == {
        "learning_queue": ("learning-queue", "learning-metrics"),
        "response_analytics": ("response-metrics",),
        "knowledge_base": ("knowledge",),
    }
    assert {view.name: (view.patterns, view.every) for view in PACK.settings.views} == {
        "daily_learning_metrics": (("learning-metrics",), 3600),
        "response_performance_metrics": (("response-metrics",), 3600),
    }


def test_every_kept_answer_is_made_stale_by_some_table_or_view() -> None:
    patterns = {pattern for view in PACK.settings.views for pattern in view.patterns or ()}
    patterns |= {pattern for table in PACK.settings.tables for pattern in table.patterns or ()}
    for query in PACK.settings.queries:
        if not query.writes:
            assert any(query.template.literal.startswith(pattern) for pattern in patterns), query.name


async def test_embeddings_are_of_texts_and_columns_that_are_there(installed: asyncpg.Connection) -> None:
    assert {one.table for one in PACK.settings.embeddings} == {"knowledge_base", "learning_queue", "voice_transcripts"}
    for one in PACK.settings.embeddings:
        kinds = await installed.fetch(
            "SELECT attname::text, format_type(atttypid, atttypmod) AS kind FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attname = ANY ($2::text[])",
            one.table,
            [one.text, one.column],
        )
        assert {row["attname"]: row["kind"] for row in kinds} == {one.text: "text", one.column: "vector(768)"}
        assert one.dimensions == 768


async def test_the_job_processes_what_is_approved(installed: asyncpg.Connection) -> None:
    (job,) = PACK.settings.jobs
    assert (job.name, job.schedule) == ("process_learning", "*/5 * * * *")
    await insert(
        installed,
        "learning_queue",
        source_type="manual",
        status="approved",
        proposed_content="a",
        embedding=vector(1),
    )
    assert await installed.fetchval(PACK.read("jobs/process_learning.sql")) == 1


async def test_views_depend_on_no_table_that_is_not_watched(installed: asyncpg.Connection) -> None:
    rows = await installed.fetch(
        """
        WITH RECURSIVE reached (relation) AS (
            SELECT unnest($1::text[])::regclass::oid
            UNION
            SELECT depends.refobjid
            FROM reached
            JOIN pg_rewrite AS rule ON rule.ev_class = reached.relation
            JOIN pg_depend AS depends ON depends.classid = 'pg_rewrite'::regclass AND depends.objid = rule.oid
                AND depends.refclassid = 'pg_class'::regclass
        )
        SELECT c.relname FROM reached JOIN pg_class AS c ON c.oid = reached.relation WHERE c.relkind = 'r'
        """,
        list(VIEWS),
    )
    assert {row["relname"] for row in rows} <= {table.name for table in PACK.settings.tables}
    watched = await installed.fetch("SELECT * FROM afresh.watched")
    assert len(watched) == len(PACK.settings.tables)


# Migrations


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
    assert "learning" not in without
    assert "CREATE EXTENSION IF NOT EXISTS vector" in without
    await pack_up(db)
    assert await schema_of(db, dsn) == with_pack
    assert all(f"CREATE TABLE public.{table} " in with_pack for table in (*TABLES, *PREREQUISITES))


async def test_up_down_up_keeps_conversations_and_knowledge(filled: asyncpg.Connection) -> None:
    counts = {table: await filled.fetchval(f"SELECT count(*) FROM {table}") for table in PREREQUISITES}
    heard = notices(filled)
    await pack_down(filled)
    assert [line for line in heard if "holds rows" in line] == [
        "public.knowledge_base stays: it holds rows",
        "public.conversations stays: it holds rows",
    ]
    assert await filled.fetchval("SELECT to_regclass('public.learning_queue')") is None
    assert await filled.fetchval("SELECT to_regclass('public.idx_knowledge_embedding')") is None
    await pack_up(filled)
    assert counts == {table: await filled.fetchval(f"SELECT count(*) FROM {table}") for table in PREREQUISITES}
    assert await failed_checks(filled) == set()


async def test_down_takes_away_every_object_of_the_pack(filled: asyncpg.Connection) -> None:
    await pack_down(filled)
    left = await filled.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm')"
    )
    assert {row["relname"] for row in left} - {"_pogo_migration", "_pogo_version"} <= set(PREREQUISITES)
    assert await filled.fetchval("SELECT count(*) FROM pg_proc WHERE proname = ANY ($1::text[])", list(FUNCTIONS)) == 0
    assert await filled.fetchval("SELECT count(*) FROM afresh.watched") == 0


async def test_tables_that_were_there_are_kept_as_they_are(db: asyncpg.Connection) -> None:
    await db.execute("CREATE EXTENSION vector")
    await db.execute("""
        CREATE TABLE conversations (id uuid PRIMARY KEY, shop_id smallint, topic text);
        CREATE TABLE knowledge_base (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), shop_id integer, content varchar(500), category varchar(40),
            embedding vector(768), source text, source_id uuid, metadata jsonb, rank integer
        );
        INSERT INTO conversations VALUES ('00000000-0000-0000-0000-000000000001', 3, 'tyres');
    """)
    await pack_up(db)
    assert await failed_checks(db) == set()
    await db.execute("""
        INSERT INTO owner_corrections (conversation_id, original_response, corrected_answer)
        SELECT id, 'a', 'b' FROM conversations
    """)
    await db.execute("UPDATE learning_queue SET status = 'approved', embedding = $1::text::vector", vector(1))
    assert await db.fetchval("SELECT batch_process_learning(10)") == 1
    assert await db.fetchval("SELECT content FROM check_similar_knowledge(3, 'b', NULL)") == "b"
    await db.execute("TRUNCATE conversations, knowledge_base CASCADE")
    heard = notices(db)
    await pack_down(db)
    assert [line for line in heard if "pack learning" in line] == [
        "public.knowledge_base stays: it was there before the pack learning",
        "public.conversations stays: it was there before the pack learning",
    ]


async def test_tables_that_lack_something_are_reported_together_and_nothing_is_changed(
    db: asyncpg.Connection,
) -> None:
    await db.execute("CREATE EXTENSION vector")
    await db.execute("""
        CREATE TABLE conversations (id bigint PRIMARY KEY);
        CREATE TABLE knowledge_base (
            id uuid, shop_id integer, content text, category text, embedding vector(1024), metadata json
        );
    """)
    await pack_up_to_the_first(db)
    before = await objects(db)
    with pytest.raises(MigrationError) as raised:
        await pack_up(db)
    assert detail(raised.value) == [
        "public.conversations.id is of type bigint, where uuid is needed",
        "public.conversations has no column shop_id (integer)",
        "public.knowledge_base.embedding is of type vector(1024), where vector(768) is needed",
        "public.knowledge_base has no column source (text)",
        "public.knowledge_base has no column source_id (uuid)",
        "public.knowledge_base.metadata is of type json, where jsonb is needed",
    ]
    assert "ADD COLUMN" in raised.value.hint
    assert await objects(db) == before


async def pack_up_to_the_first(db: asyncpg.Connection) -> None:
    """The first migration alone; the second one is refused."""
    with pytest.raises(MigrationError):
        await pack_up(db)


async def test_pgvector_may_be_in_a_schema_of_its_own_that_no_path_names(db: asyncpg.Connection) -> None:
    await db.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    await pack_up(db)
    assert await failed_checks(db) == set()
    await db.execute("SET search_path = ''")
    assert await failed_checks(db) == set()
    await db.execute(
        "INSERT INTO public.learning_queue (source_type, status, proposed_content, embedding)"
        " VALUES ('manual', 'approved', 'a', $1::text::extensions.vector)",
        vector(1),
    )
    assert await db.fetchval("SELECT public.batch_process_learning(10)") == 1
    assert (
        await db.fetchval(
            "SELECT content FROM public.check_similar_knowledge(0, 'x', $1::text::extensions.vector)", vector(1)
        )
        == "a"
    )
    await load_sample_into_empty(db)
    await pack_down(db)


async def load_sample_into_empty(db: asyncpg.Connection) -> None:
    await db.execute("SET search_path = public")
    await db.execute(f"TRUNCATE {', '.join((*TABLES, *PREREQUISITES))}")
    await load_sample(db, 5)
    await refresh(db)
    assert await failed_checks(db) == set()


HIDDEN = """
    SET allow_system_table_mods = on;
    ALTER VIEW pg_catalog.pg_available_extensions RENAME TO all_available_extensions;
    CREATE VIEW pg_catalog.pg_available_extensions AS
    SELECT {columns} FROM pg_catalog.all_available_extensions AS a WHERE {condition};
    RESET allow_system_table_mods
"""


async def test_a_server_without_pgvector_is_told_what_to_install(db: asyncpg.Connection) -> None:
    await db.execute(HIDDEN.format(columns="a.*", condition="name <> 'vector'"))
    with pytest.raises(MigrationError, match="has no pgvector, which the pack learning needs") as raised:
        await pack_up(db)
    assert f"postgresql-{db.get_server_version().major}-pgvector" in raised.value.hint
    assert await db.fetchval("SELECT to_regclass('public.learning_queue')") is None


async def test_a_pgvector_that_is_too_old_is_refused(db: asyncpg.Connection) -> None:
    await db.execute(HIDDEN.format(columns="a.name, '0.7.4'::text AS default_version", condition="true"))
    with pytest.raises(MigrationError, match=r"pgvector is 0\.7\.4 here, and the pack learning needs 0\.8 or later"):
        await pack_up(db)


async def test_a_role_that_is_no_superuser_can_install_and_use_it(
    server: ServerUnderTest, db: asyncpg.Connection, dsn: str
) -> None:
    # The engine is there already; the extension too, since not everybody may make it.
    await db.execute("CREATE EXTENSION vector")
    name = f"learner_{db.get_server_pid()}"
    await db.execute(f"CREATE ROLE {name} LOGIN")
    try:
        await db.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
        await db.execute(f"SET ROLE {name}")
        for step in MIGRATIONS[:-2]:
            text = (PACK.folder / "migrations" / f"{step}.sql").read_text(encoding="utf-8")
            async with db.transaction():
                await db.execute(text.partition("-- migrate: apply")[2].partition("-- migrate: rollback")[0])
        await known(db, "a", vector(1), 3)
        conversation = await talk(db)
        await insert(db, "conversation_feedback", conversation_id=conversation, feedback_type="thumbs_down")
        await db.execute("UPDATE learning_queue SET status = 'approved', embedding = $1::text::vector", vector(1))
        assert await db.fetchval("SELECT batch_process_learning(10)") == 1
    finally:
        await db.execute("RESET ROLE")
        await db.execute(f"DROP OWNED BY {name} CASCADE")
        await db.execute(f"DROP ROLE {name}")


# Checks


async def test_everything_is_ok_on_an_empty_database(installed: asyncpg.Connection) -> None:
    assert await failed_checks(installed) == set()


async def test_there_are_37_indexes_as_pg_indexes_lists_them(installed: asyncpg.Connection) -> None:
    rows = await installed.fetch(
        "SELECT tablename::text, indexname::text FROM pg_indexes WHERE tablename = ANY ($1::text[])", [*TABLES, *VIEWS]
    )
    assert len(rows) == 37
    expected = {name for table, names in INDEXES.items() if table != "knowledge_base" for name in names}
    expected |= {f"{table}_pkey" for table in TABLES} | {"learning_queue_source_key"}
    assert {row["indexname"] for row in rows} == expected


BREAKAGES: list[tuple[str, str]] = [
    *((f"DROP INDEX {name}", f"index {name}") for names in INDEXES.values() for name in sorted(names)),
    *((f"DROP TABLE {table} CASCADE", f"table {table}") for table in TABLES),
    *((f"DROP FUNCTION {name}({arguments}) CASCADE", f"function {name}") for name, arguments in FUNCTIONS.items()),
    *((f"DROP TRIGGER {name} ON {table}", f"trigger {name}") for name, table in TRIGGERS.items()),
    *((f"ALTER TABLE {table} DISABLE TRIGGER {name}", f"trigger {name}") for name, table in TRIGGERS.items()),
    *((f"DROP MATERIALIZED VIEW {view}", f"materialized view {view}") for view in VIEWS),
    *((f"DROP VIEW {view}_live CASCADE", f"{view} equals {view}_live") for view in VIEWS),
    *((f"REFRESH MATERIALIZED VIEW {view} WITH NO DATA", f"materialized view {view}") for view in VIEWS),
    *((f"SELECT afresh.unwatch('{table.name}')", f"watch on {table.name}") for table in PACK.settings.tables),
    *(
        (f"SELECT afresh.unwatch_embedding('{one.table}', '{one.text}')", f"embeddings follow {one.table}.{one.text}")
        for one in PACK.settings.embeddings
    ),
    ("DROP EXTENSION vector CASCADE", "extension vector"),
    ("DROP TABLE conversations CASCADE", "column conversations.id"),
    ("ALTER TABLE knowledge_base DROP COLUMN source_id", "column knowledge_base.source_id"),
    ("ALTER TABLE learning_queue ALTER status DROP DEFAULT", "column learning_queue.status"),
    ("ALTER TABLE learning_queue ALTER confidence_score SET DEFAULT 40", "column learning_queue.confidence_score"),
    ("ALTER TABLE voice_transcripts ALTER transcript DROP NOT NULL", "column voice_transcripts.transcript"),
    ("ALTER TABLE voice_transcripts ALTER embedding TYPE vector", "column voice_transcripts.embedding"),
    ("ALTER TABLE learning_audit_log DROP COLUMN old_values", "count: columns of learning_audit_log"),
    ("ALTER TABLE owner_corrections ADD COLUMN more text", "count: columns of owner_corrections"),
    (
        """
        ALTER TABLE voice_transcripts DROP CONSTRAINT voice_transcripts_conversation_id_fkey,
            ADD CONSTRAINT voice_transcripts_conversation_id_fkey
            FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
        """,
        "constraint voice_transcripts_conversation_id_fkey",
    ),
    (
        "DROP INDEX idx_learning_pending; CREATE INDEX idx_learning_pending ON learning_queue (confidence_score)",
        "index idx_learning_pending",
    ),
    (
        """
        DROP INDEX idx_learning_embedding;
        CREATE INDEX idx_learning_embedding ON learning_queue USING hnsw (embedding vector_l2_ops)
        """,
        "index idx_learning_embedding",
    ),
    ("CREATE INDEX one_more ON learning_queue (category)", "count: indexes"),
    (
        "ALTER FUNCTION check_similar_knowledge(integer, text, vector, numeric) RESET search_path",
        "function check_similar_knowledge",
    ),
    (
        """
        DROP TRIGGER trg_feedback_learning ON conversation_feedback;
        CREATE TRIGGER trg_feedback_learning AFTER UPDATE ON conversation_feedback
        FOR EACH ROW EXECUTE FUNCTION trigger_learning_from_negative_feedback()
        """,
        "trigger trg_feedback_learning",
    ),
    (
        """
        CREATE OR REPLACE FUNCTION batch_process_learning(p_batch_size integer DEFAULT 100) RETURNS integer
        LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 0'
        """,
        "batch_process_learning passes over what others have taken",
    ),
    (
        "UPDATE learning_queue SET category = category, confidence_score = 100",
        "daily_learning_metrics equals daily_learning_metrics_live",
    ),
    ("DELETE FROM response_analytics", "response_performance_metrics equals response_performance_metrics_live"),
]


@pytest.mark.parametrize(("statement", "check"), BREAKAGES, ids=[" ".join(s.split())[:70] for s, _ in BREAKAGES])
async def test_each_broken_thing_fails_its_own_check(filled: asyncpg.Connection, statement: str, check: str) -> None:
    assert await failed_checks(filled) == set()
    await filled.execute(statement)
    assert check in await failed_checks(filled)


async def test_each_constraint_that_is_gone_fails_its_check_and_its_index_s(filled: asyncpg.Connection) -> None:
    rows = await filled.fetch(
        "SELECT conrelid::regclass::text AS relation, conname::text FROM pg_constraint"
        " WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('p', 'u', 'f', 'c')",
        list(TABLES),
    )
    assert len(rows) == 34
    for row in rows:
        async with rolled_back(filled):
            await filled.execute(f"ALTER TABLE {row['relation']} DROP CONSTRAINT {row['conname']}")
            failed = {check for check in await failed_checks(filled) if not check.startswith("count: ")}
            alone = {f"constraint {row['conname']}"}
            with_index = {*alone, f"index {row['conname']}", f"column {row['relation']}.id"}
            assert alone <= failed <= with_index, row["conname"]


async def test_each_column_that_is_gone_fails_its_check(filled: asyncpg.Connection) -> None:
    rows = await filled.fetch(
        "SELECT attrelid::regclass::text AS relation, attname::text FROM pg_attribute"
        " WHERE attrelid = ANY ($1::text[]::regclass[]) AND attnum > 0",
        list(TABLES),
    )
    assert len(rows) == 63
    for row in rows:
        async with rolled_back(filled):
            await filled.execute(f"ALTER TABLE {row['relation']} DROP COLUMN {row['attname']} CASCADE")
            assert f"column {row['relation']}.{row['attname']}" in await failed_checks(filled)


class rolled_back:  # noqa: N801 - read as a statement
    """A transaction whose changes are undone at its end."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._transaction = connection.transaction()

    async def __aenter__(self) -> None:
        """Begin."""
        await self._transaction.start()

    async def __aexit__(self, *_: object) -> None:
        """Undo."""
        await self._transaction.rollback()


async def test_verify_works_without_public_on_the_search_path(filled: asyncpg.Connection) -> None:
    await filled.execute("SET search_path = ''")
    assert await failed_checks(filled) == set()


async def test_verify_works_where_nothing_is_installed(db: asyncpg.Connection) -> None:
    # Nothing is there but what is expected not to be: none of the six tables, none of their objects.
    assert len(await failed_checks(db)) == CHECKS


# Sample data


@pytest.mark.parametrize("size", [1, 50, 300])
async def test_sample_data_pass_every_check(installed: asyncpg.Connection, size: int) -> None:
    await load_sample(installed, size)
    assert await installed.fetchval("SELECT count(*) FROM conversations") == size
    if size > 1:
        for table in (*TABLES, *PREREQUISITES):
            assert await installed.fetchval(f"SELECT count(*) FROM {table}") > 0, table
    assert "response_performance_metrics equals response_performance_metrics_live" in await failed_checks(installed)
    await refresh(installed)
    assert await failed_checks(installed) == set()


async def test_sample_data_are_fifty_conversations_unless_said_otherwise(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval("SELECT count(*) FROM conversations") == 50


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "SELECT DISTINCT status::text FROM learning_queue",
            {"pending", "approved", "rejected", "applied", "duplicate", "failed"},
        ),
        (
            "SELECT DISTINCT source_type::text FROM learning_queue",
            {"feedback", "correction", "transcript", "analytics", "manual"},
        ),
        (
            "SELECT DISTINCT feedback_type FROM conversation_feedback",
            {"thumbs_up", "thumbs_down", "rating", "comment"},
        ),
        ("SELECT DISTINCT priority FROM owner_corrections", {"low", "normal", "high", "urgent"}),
        ("SELECT DISTINCT sentiment FROM voice_transcripts", {"positive", "neutral", "negative", "mixed"}),
        (
            "SELECT DISTINCT response_type FROM response_analytics",
            {"answer", "recommendation", "clarification", "handoff", "fallback"},
        ),
        ("SELECT DISTINCT ab_test_variant FROM response_analytics", {"A", "B", None}),
        ("SELECT DISTINCT conversation_id IS NULL FROM voice_transcripts", {True, False}),
        ("SELECT DISTINCT embedding IS NULL FROM learning_queue WHERE status = 'approved'", {True, False}),
        ("SELECT DISTINCT applied_at IS NULL FROM owner_corrections", {True, False}),
        ("SELECT DISTINCT user_engagement_score IS NULL FROM response_analytics", {True, False}),
        (
            "SELECT DISTINCT sign(shop_id) FROM conversations",
            {None, 0, 1},
        ),
        (
            "SELECT DISTINCT action FROM learning_audit_log",
            {"queued", "updated", "approved", "rejected", "applied", "duplicate", "failed", "correction_applied"},
        ),
        ("SELECT DISTINCT source FROM knowledge_base", {"manual", "import", "learning"}),
    ],
)
async def test_sample_data_have_an_example_of_everything(
    installed: asyncpg.Connection, statement: str, expected: set[Any]
) -> None:
    await load_sample(installed, 300)
    found = {row[0] for row in await installed.fetch(statement)}
    assert found == expected or found == expected - {"updated"}


async def test_sample_data_keep_what_they_say(installed: asyncpg.Connection) -> None:
    await load_sample(installed, 300)
    assert (
        await installed.fetchval("""
        SELECT count(*) FROM learning_queue AS item
        WHERE item.status = 'applied' AND NOT EXISTS (
            SELECT FROM knowledge_base AS entry
            WHERE entry.id = (item.metadata ->> 'knowledge_id')::uuid AND entry.source_id = item.id
        )
    """)
        == 0
    )
    assert (
        await installed.fetchval("""
        SELECT count(*) FROM learning_queue AS item
        WHERE item.status = 'duplicate' AND NOT EXISTS (
            SELECT FROM knowledge_base AS entry
            WHERE entry.id = (item.metadata ->> 'duplicate_of')::uuid
              AND coalesce(entry.shop_id, 0) IN (0, coalesce(item.shop_id, 0))
        )
    """)
        == 0
    )
    assert await installed.fetchval("SELECT max(created_at) < now() FROM learning_queue")
    processed = await installed.fetchval("SELECT batch_process_learning(1000)")
    assert processed > 0
    assert await installed.fetchval("SELECT count(*) FROM learning_queue WHERE status = 'approved'") == (
        await installed.fetchval("SELECT count(*) FROM learning_queue WHERE status = 'approved' AND embedding IS NULL")
    )


async def test_sample_data_are_the_same_every_time(
    server: ServerUnderTest, pack_template: str, installed: asyncpg.Connection
) -> None:
    async def digest(connection: asyncpg.Connection) -> list[Any]:
        await load_sample(connection, 100)
        return [
            await connection.fetchval(f"SELECT md5(string_agg(r, '|' ORDER BY r)) FROM ({statement}) AS t (r)")
            for statement in (
                "SELECT concat(id, shop_id, channel, status) FROM conversations",
                "SELECT concat(shop_id, content, category, source, left(embedding::text, 200)) FROM knowledge_base",
                "SELECT concat(id, feedback_type, rating, reason) FROM conversation_feedback",
                "SELECT concat(id, priority, corrected_answer, applied_at IS NULL) FROM owner_corrections",
                "SELECT concat(source_type, source_id, shop_id, status, proposed_content) FROM learning_queue",
                "SELECT concat(confidence_score, left(embedding::text, 200)) FROM learning_queue",
                "SELECT concat(id, response_type, user_engagement_score, led_to_conversion) FROM response_analytics",
                "SELECT concat(id, sentiment, transcript, entities) FROM voice_transcripts",
                "SELECT concat(action, count(*)) FROM learning_audit_log GROUP BY action",
            )
        ]

    first = await digest(installed)
    name = await server.create(pack_template)
    other = await asyncpg.connect(server.dsn(name))
    try:
        # Another plan: nothing may hang on the order in which rows are made.
        await other.execute("SET enable_hashjoin = off; SET enable_nestloop = off; SET work_mem = '64kB'")
        assert await digest(other) == first
    finally:
        await other.close()
        await server.drop(name)


@pytest.mark.parametrize("table", [*TABLES, *PREREQUISITES])
async def test_sample_data_refuse_tables_that_hold_rows(filled: asyncpg.Connection, table: str) -> None:
    await filled.execute("ALTER TABLE learning_queue DISABLE TRIGGER USER")
    await filled.execute("SET session_replication_role = replica")
    for other in (*TABLES, *PREREQUISITES):
        if other != table:
            await filled.execute(f"DELETE FROM {other}")
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=rf"public\.{table} holds rows"):
        await load_sample(filled, 5)


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5", "99999999", "1; DROP TABLE learning_queue"])
async def test_a_sample_size_that_is_none_is_refused(installed: asyncpg.Connection, size: str) -> None:
    async with installed.transaction():
        await installed.execute("SELECT set_config('afresh.sample_size', $1, true)", size)
        with pytest.raises(asyncpg.InvalidParameterValueError, match="not a number of conversations"):
            async with installed.transaction():
                await installed.execute(PACK.read("sample.sql"))
    assert await installed.fetchval("SELECT count(*) FROM conversations") == 0


async def test_sample_data_leave_nothing_temporary_behind(filled: asyncpg.Connection) -> None:
    assert await filled.fetchval("SELECT to_regclass('pg_temp.sample_items')") is None
    assert await filled.fetchval("SELECT to_regprocedure('pg_temp.draw(bigint, bigint)')") is None


# Refreshes and the demo


async def identity_of_rows(db: asyncpg.Connection, view: str) -> Any:
    """Where every row of the view lies and which transaction wrote it: a rewritten row has both changed."""
    return await db.fetch(f"SELECT ctid::text, xmin::text FROM {view} ORDER BY ctid")


@pytest.mark.parametrize("view", VIEWS)
async def test_a_concurrent_refresh_with_unchanged_data_rewrites_no_row(filled: asyncpg.Connection, view: str) -> None:
    before = await identity_of_rows(filled, view)
    assert before
    await filled.execute("SET TimeZone = 'Pacific/Kiritimati'")
    await filled.execute("UPDATE learning_queue SET category = category")
    await filled.execute("UPDATE response_analytics SET metrics = metrics")
    await filled.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")
    assert await identity_of_rows(filled, view) == before


async def test_demo_change_shows_in_the_subject_s_row_every_time(filled: asyncpg.Connection) -> None:
    subject = await filled.fetchval(PACK.read("demo/subject.sql"))
    before = await filled.fetchrow(PACK.read("demo/row.sql"), subject)
    assert before is not None
    for _ in range(4):
        assert await filled.execute(PACK.read("demo/change.sql"), subject) == "UPDATE 1"
        await refresh(filled)
        after = await filled.fetchrow(PACK.read("demo/row.sql"), subject)
        assert after is not None
        assert (after["pending"], after["rejected"]) != (before["pending"], before["rejected"])
        assert (after["date"], after["other"]) == (before["date"], before["other"])
        before = after


async def test_demo_has_no_subject_where_nothing_is_pending(installed: asyncpg.Connection) -> None:
    assert await installed.fetchval(PACK.read("demo/subject.sql")) is None


async def test_demo_traffic_changes_every_busy_table_and_lets_none_grow_for_ever(
    installed: asyncpg.Connection,
) -> None:
    await load_sample(installed, 5)
    statement = await installed.prepare(PACK.read("demo/traffic.sql"))
    changed: Counter[str] = Counter()
    busy = ("conversation_feedback", "owner_corrections", "learning_queue", "response_analytics", "learning_audit_log")
    for number in range(600):
        await installed.execute("SELECT setseed($1)", number / 600)
        async with installed.transaction():
            await statement.fetch()
            xid = await installed.fetchval("SELECT pg_current_xact_id()::xid")
            for table in busy:
                changed[table] += await installed.fetchval(f"SELECT count(*) FROM {table} WHERE xmin = $1", xid)
    assert set(+changed) == set(busy)
    sizes = {table: await installed.fetchval(f"SELECT count(*) FROM {table}") for table in busy}
    assert sizes["conversation_feedback"] <= 25
    assert sizes["owner_corrections"] <= 15
    assert sizes["response_analytics"] <= 50
    assert sizes["learning_queue"] <= 60
    assert sizes["learning_audit_log"] <= 200
    await refresh(installed)
    assert await failed_checks(installed) == set()


async def test_demo_traffic_does_nothing_where_there_are_no_conversations(installed: asyncpg.Connection) -> None:
    async with installed.transaction():
        await installed.execute(PACK.read("demo/traffic.sql"))
        assert await installed.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
