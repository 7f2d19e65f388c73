"""The pack ``learning`` as it is installed: its settings, migrations, checks and sample data."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from packs.every_pack import detail, notices, objects, undone
from packs.learning_support import (
    LEARNING,
    PACK,
    PREREQUISITES,
    TABLES,
    VIEWS,
    failed_checks,
    insert,
    known,
    load_sample,
    pack_down,
    pack_up,
    refresh,
    talk,
    vector,
)

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


async def test_embeddings_are_of_texts_and_columns_that_are_there(db: asyncpg.Connection) -> None:
    assert {one.table for one in PACK.settings.embeddings} == {"knowledge_base", "learning_queue", "voice_transcripts"}
    for one in PACK.settings.embeddings:
        kinds = await db.fetch(
            "SELECT attname::text, format_type(atttypid, atttypmod) AS kind FROM pg_attribute"
            " WHERE attrelid = $1::text::regclass AND attname = ANY ($2::text[])",
            one.table,
            [one.text, one.column],
        )
        assert {row["attname"]: row["kind"] for row in kinds} == {one.text: "text", one.column: "vector(768)"}
        assert one.dimensions == 768


async def test_the_job_processes_what_is_approved(db: asyncpg.Connection) -> None:
    (job,) = PACK.settings.jobs
    assert (job.name, job.schedule) == ("process_learning", "*/5 * * * *")
    await insert(
        db,
        "learning_queue",
        source_type="manual",
        status="approved",
        proposed_content="a",
        embedding=vector(1),
    )
    assert await db.fetchval(PACK.read("jobs/process_learning.sql")) == 1


# Migrations


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


async def test_tables_that_were_there_are_kept_as_they_are(bare: asyncpg.Connection) -> None:
    await bare.execute("CREATE EXTENSION vector")
    await bare.execute("""
        CREATE TABLE conversations (id uuid PRIMARY KEY, shop_id smallint, topic text);
        CREATE TABLE knowledge_base (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), shop_id integer, content varchar(500), category varchar(40),
            embedding vector(768), source text, source_id uuid, metadata jsonb, rank integer
        );
        INSERT INTO conversations VALUES ('00000000-0000-0000-0000-000000000001', 3, 'tyres');
    """)
    await pack_up(bare)
    assert await failed_checks(bare) == set()
    await bare.execute("""
        INSERT INTO owner_corrections (conversation_id, original_response, corrected_answer)
        SELECT id, 'a', 'b' FROM conversations
    """)
    await bare.execute("UPDATE learning_queue SET status = 'approved', embedding = $1::text::vector", vector(1))
    assert await bare.fetchval("SELECT batch_process_learning(10)") == 1
    assert await bare.fetchval("SELECT content FROM check_similar_knowledge(3, 'b', NULL)") == "b"
    await bare.execute("TRUNCATE conversations, knowledge_base CASCADE")
    heard = notices(bare)
    await pack_down(bare)
    assert [line for line in heard if "pack learning" in line] == [
        "public.knowledge_base stays: it was there before the pack learning",
        "public.conversations stays: it was there before the pack learning",
    ]


async def test_tables_that_lack_something_are_reported_together_and_nothing_is_changed(
    bare: asyncpg.Connection,
) -> None:
    await bare.execute("CREATE EXTENSION vector")
    await bare.execute("""
        CREATE TABLE conversations (id bigint PRIMARY KEY);
        CREATE TABLE knowledge_base (
            id uuid, shop_id integer, content text, category text, embedding vector(1024), metadata json
        );
    """)
    await pack_up_to_the_first(bare)
    before = await objects(bare)
    with pytest.raises(MigrationError) as raised:
        await pack_up(bare)
    assert detail(raised.value) == [
        "public.conversations.id is of type bigint, where uuid is needed",
        "public.conversations has no column shop_id (integer)",
        "public.knowledge_base.embedding is of type vector(1024), where vector(768) is needed",
        "public.knowledge_base has no column source (text)",
        "public.knowledge_base has no column source_id (uuid)",
        "public.knowledge_base.metadata is of type json, where jsonb is needed",
    ]
    assert "ADD COLUMN" in raised.value.hint
    assert await objects(bare) == before


async def pack_up_to_the_first(bare: asyncpg.Connection) -> None:
    """The first migration alone; the second one is refused."""
    with pytest.raises(MigrationError):
        await pack_up(bare)


async def test_pgvector_may_be_in_a_schema_of_its_own_that_no_path_names(bare: asyncpg.Connection) -> None:
    await bare.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    await pack_up(bare)
    assert await failed_checks(bare) == set()
    await bare.execute("SET search_path = ''")
    assert await failed_checks(bare) == set()
    await bare.execute(
        "INSERT INTO public.learning_queue (source_type, status, proposed_content, embedding)"
        " VALUES ('manual', 'approved', 'a', $1::text::extensions.vector)",
        vector(1),
    )
    assert await bare.fetchval("SELECT public.batch_process_learning(10)") == 1
    assert (
        await bare.fetchval(
            "SELECT content FROM public.check_similar_knowledge(0, 'x', $1::text::extensions.vector)", vector(1)
        )
        == "a"
    )
    await load_sample_into_empty(bare)
    await pack_down(bare)


async def load_sample_into_empty(bare: asyncpg.Connection) -> None:
    await bare.execute("SET search_path = public")
    await bare.execute(f"TRUNCATE {', '.join((*TABLES, *PREREQUISITES))}")
    await load_sample(bare, 5)
    await refresh(bare)
    assert await failed_checks(bare) == set()


HIDDEN = """
    SET allow_system_table_mods = on;
    ALTER VIEW pg_catalog.pg_available_extensions RENAME TO all_available_extensions;
    CREATE VIEW pg_catalog.pg_available_extensions AS
    SELECT {columns} FROM pg_catalog.all_available_extensions AS a WHERE {condition};
    RESET allow_system_table_mods
"""


async def test_a_server_without_pgvector_is_told_what_to_install(bare: asyncpg.Connection) -> None:
    await bare.execute(HIDDEN.format(columns="a.*", condition="name <> 'vector'"))
    with pytest.raises(MigrationError, match="has no pgvector, which the pack learning needs") as raised:
        await pack_up(bare)
    assert f"postgresql-{bare.get_server_version().major}-pgvector" in raised.value.hint
    assert await bare.fetchval("SELECT to_regclass('public.learning_queue')") is None


async def test_a_pgvector_that_is_too_old_is_refused(bare: asyncpg.Connection) -> None:
    await bare.execute(HIDDEN.format(columns="a.name, '0.7.4'::text AS default_version", condition="true"))
    with pytest.raises(MigrationError, match=r"pgvector is 0\.7\.4 here, and the pack learning needs 0\.8 or later"):
        await pack_up(bare)


async def test_a_role_that_is_no_superuser_can_install_and_use_it(bare: asyncpg.Connection) -> None:
    # The engine is there already; the extension too, since not everybody may make it.
    await bare.execute("CREATE EXTENSION vector")
    name = f"learner_{bare.get_server_pid()}"
    await bare.execute(f"CREATE ROLE {name} LOGIN")
    try:
        await bare.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
        await bare.execute(f"SET ROLE {name}")
        for step in LEARNING.migrations[:-2]:
            text = (PACK.folder / "migrations" / f"{step}.sql").read_text(encoding="utf-8")
            async with bare.transaction():
                await bare.execute(text.partition("-- migrate: apply")[2].partition("-- migrate: rollback")[0])
        await known(bare, "a", vector(1), 3)
        conversation = await talk(bare)
        await insert(bare, "conversation_feedback", conversation_id=conversation, feedback_type="thumbs_down")
        await bare.execute("UPDATE learning_queue SET status = 'approved', embedding = $1::text::vector", vector(1))
        assert await bare.fetchval("SELECT batch_process_learning(10)") == 1
    finally:
        await bare.execute("RESET ROLE")
        await bare.execute(f"DROP OWNED BY {name} CASCADE")
        await bare.execute(f"DROP ROLE {name}")


# Checks


async def test_there_are_37_indexes_as_pg_indexes_lists_them(db: asyncpg.Connection) -> None:
    rows = await db.fetch(
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


async def test_each_broken_thing_fails_its_own_check(filled: asyncpg.Connection) -> None:
    await LEARNING.fails_among_others(filled, BREAKAGES)


async def test_each_constraint_that_is_gone_fails_its_check_and_its_index_s(filled: asyncpg.Connection) -> None:
    rows = await filled.fetch(
        "SELECT conrelid::regclass::text AS relation, conname::text FROM pg_constraint"
        " WHERE conrelid = ANY ($1::text[]::regclass[]) AND contype IN ('p', 'u', 'f', 'c')",
        list(TABLES),
    )
    assert len(rows) == 34
    for row in rows:
        async with undone(filled):
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
        async with undone(filled):
            await filled.execute(f"ALTER TABLE {row['relation']} DROP COLUMN {row['attname']} CASCADE")
            assert f"column {row['relation']}.{row['attname']}" in await failed_checks(filled)


# Sample data


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
    db: asyncpg.Connection, statement: str, expected: set[Any]
) -> None:
    await load_sample(db, 300)
    found = {row[0] for row in await db.fetch(statement)}
    assert found == expected or found == expected - {"updated"}


async def test_sample_data_keep_what_they_say(db: asyncpg.Connection) -> None:
    await load_sample(db, 300)
    assert (
        await db.fetchval("""
        SELECT count(*) FROM learning_queue AS item
        WHERE item.status = 'applied' AND NOT EXISTS (
            SELECT FROM knowledge_base AS entry
            WHERE entry.id = (item.metadata ->> 'knowledge_id')::uuid AND entry.source_id = item.id
        )
    """)
        == 0
    )
    assert (
        await db.fetchval("""
        SELECT count(*) FROM learning_queue AS item
        WHERE item.status = 'duplicate' AND NOT EXISTS (
            SELECT FROM knowledge_base AS entry
            WHERE entry.id = (item.metadata ->> 'duplicate_of')::uuid
              AND coalesce(entry.shop_id, 0) IN (0, coalesce(item.shop_id, 0))
        )
    """)
        == 0
    )
    assert await db.fetchval("SELECT max(created_at) < now() FROM learning_queue")
    processed = await db.fetchval("SELECT batch_process_learning(1000)")
    assert processed > 0
    assert await db.fetchval("SELECT count(*) FROM learning_queue WHERE status = 'approved'") == (
        await db.fetchval("SELECT count(*) FROM learning_queue WHERE status = 'approved' AND embedding IS NULL")
    )
