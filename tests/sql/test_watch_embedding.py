"""Watching texts: which rows wait for an embedding, and which do not."""

from __future__ import annotations

import json

import asyncpg
import pytest

DOCUMENTS = """
CREATE TABLE documents (a int, "B c" text, body text, other int DEFAULT 0, PRIMARY KEY (a, "B c"));
SELECT afresh.watch_embedding('documents', 'body');
"""


@pytest.fixture
async def documents(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(DOCUMENTS)
    return db


async def queued(db: asyncpg.Connection) -> list[tuple[str, str, object]]:
    rows = await db.fetch("DELETE FROM afresh.embedding_queue RETURNING target::text, text_column, key, id")
    return [(r["target"], r["text_column"], json.loads(r["key"])) for r in sorted(rows, key=lambda r: r["id"])]


async def test_rows_wait_whose_text_or_key_is_another_one_and_no_others(documents: asyncpg.Connection) -> None:
    await documents.execute("INSERT INTO documents VALUES (1, 'x', 'one'), (2, 'y', NULL), (3, 'z', 'three')")
    assert await queued(documents) == [
        ("documents", "body", {"a": 1, "B c": "x"}),
        ("documents", "body", {"a": 3, "B c": "z"}),
    ]
    await documents.execute("UPDATE documents SET other = 1; UPDATE documents SET body = body")
    assert await queued(documents) == []
    await documents.execute("UPDATE documents SET body = 'two' WHERE a = 2")
    await documents.execute("UPDATE documents SET body = NULL WHERE a = 1")
    await documents.execute("UPDATE documents SET a = 30 WHERE a = 3")
    assert [key for _, _, key in await queued(documents)] == [
        {"a": 2, "B c": "y"},
        {"a": 1, "B c": "x"},
        {"a": 30, "B c": "z"},
    ]
    await documents.execute("DELETE FROM documents")
    assert await queued(documents) == []


async def test_what_is_rolled_back_waits_for_nothing(documents: asyncpg.Connection) -> None:
    transaction = documents.transaction()
    await transaction.start()
    await documents.execute("INSERT INTO documents VALUES (1, 'x', 'one')")
    await transaction.rollback()
    assert await queued(documents) == []


async def test_generated_texts_and_partitions_are_watched(db: asyncpg.Connection) -> None:
    await db.execute("""
        CREATE TABLE parts (
            id int PRIMARY KEY, title text, place text,
            body text GENERATED ALWAYS AS (title || ' in ' || place) STORED
        ) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        SELECT afresh.watch_embedding('parts', 'body');
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
        INSERT INTO parts (id, title, place) VALUES (1, 'Room', 'Rome'), (11, 'Flat', 'Pisa');
    """)
    assert [(target, key) for target, _, key in await queued(db)] == [("parts_1", {"id": 1}), ("parts_2", {"id": 11})]
    await db.execute("UPDATE parts SET place = 'Turin' WHERE id = 11")
    assert [(target, key) for target, _, key in await queued(db)] == [("parts_2", {"id": 11})]


async def test_watching_may_be_repeated_and_mends_what_is_not_as_it_should_be(documents: asyncpg.Connection) -> None:
    again = "SELECT afresh.watch_embedding('documents', 'body')"
    assert await documents.fetchval(again) is False
    await documents.execute("ALTER TABLE documents DISABLE TRIGGER afresh_embed_update_body")
    assert await documents.fetchval(again) is True
    await documents.execute('ALTER TABLE documents DROP CONSTRAINT documents_pkey, ADD PRIMARY KEY ("B c")')
    assert await documents.fetchval(again) is True
    assert await documents.fetchval(again) is False
    await documents.execute("INSERT INTO documents VALUES (1, 'x', 'one')")
    assert [key for _, _, key in await queued(documents)] == [{"B c": "x"}]
    end = "SELECT afresh.unwatch_embedding('documents', 'body')"
    await documents.execute("UPDATE documents SET body = 'two'")
    assert await documents.fetchval(end) is True
    assert await documents.fetchval(end) is False
    assert await queued(documents) == []
    await documents.execute("UPDATE documents SET body = 'three'")
    assert await queued(documents) == []


@pytest.mark.parametrize(
    ("target", "column", "problem"),
    [
        ("keyless", "body", "has no primary key"),
        ("documents", "nothing", "has no column nothing"),
        ("documents", "a", "has no column a that holds texts"),
        ("a_view", "body", "is not a table"),
        ("documents", None, "has no column"),
        (None, "body", "is not a table"),
    ],
)
async def test_what_cannot_be_watched_is_refused(
    documents: asyncpg.Connection, target: str | None, column: str | None, problem: str
) -> None:
    await documents.execute("CREATE TABLE keyless (body text); CREATE VIEW a_view AS SELECT 'x' AS body")
    with pytest.raises(asyncpg.PostgresError, match=problem) as caught:
        await documents.execute("SELECT afresh.watch_embedding($1::text::regclass, $2)", target, column)
    assert caught.value.hint


async def test_a_writer_without_any_right_to_the_engine_is_not_stopped(documents: asyncpg.Connection) -> None:
    await documents.execute("""
        DO $$ BEGIN CREATE ROLE afresh_test_writer NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        GRANT SELECT, INSERT, UPDATE ON documents TO afresh_test_writer;
        SET ROLE afresh_test_writer;
        INSERT INTO documents VALUES (1, 'x', 'one');
        UPDATE documents SET body = 'two';
    """)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await documents.execute("SELECT FROM afresh.embedding_queue")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await documents.execute(
            "INSERT INTO afresh.embedding_queue (target, text_column, key, not_before) "
            "VALUES ('documents', 'body', '{}', 'infinity')"
        )
    await documents.execute("RESET ROLE")
    assert len(await queued(documents)) == 2
