"""Embeddings that follow their texts: exactly the rows that changed, whatever the model or the database does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from afresh_notifier import embedder, embeddings, lexical
from afresh_notifier.embeddings import Wanted, codec, embed_some, look_up
from afresh_notifier.errors import SourceUnusable
from afresh_notifier.models import Models
from afresh_notifier.observations import Embedded, EmbeddingFailed, EmbeddingsWaiting, Warned
from afresh_notifier.settings import Settings
from afresh_notifier.settings_work import ChatModelSettings, EmbeddingModelSettings
from conftest import eventually
from support.openai_api import Api, openai_api
from support.scenario import Running, afresh, connected

DOCUMENTS = """
CREATE EXTENSION vector;
CREATE TABLE documents (id int PRIMARY KEY, body text, short vector(8), long vector(16), touched int DEFAULT 0);
SELECT afresh.watch_embedding('documents', 'body');
"""

SECTIONS = [
    {"table": "documents", "text": "body", "column": "short", "dimensions": 8},
    {"table": "documents", "text": "body", "column": "long", "dimensions": 16},
]


@pytest.fixture
async def documents(db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch) -> asyncpg.Connection:
    monkeypatch.setattr(embedder, "PACE", 0.03)
    monkeypatch.setattr(embedder, "COUNT_PACE", 0.03)
    monkeypatch.setattr(embedder, "RETRY_FIRST", 0.02)
    monkeypatch.setattr(embedder, "RETRY_MAX", 0.05)
    monkeypatch.setattr(embeddings, "RETRY_FIRST", 0.05)
    await db.execute(DOCUMENTS)
    return db


@asynccontextmanager
async def embedding(dsn: str, **more: Any) -> AsyncIterator[tuple[Running, Api]]:
    """The service with a model at an API."""
    async with openai_api() as api:
        model = {"url": api.url, "model": "m", "dimensions": 16, "batch": 4, "retry_max": "1s", **more}
        async with afresh(dsn, embeddings=SECTIONS, embedding=model) as running:
            yield running, api


async def wrong(db: asyncpg.Connection) -> list[int]:
    """The rows whose embeddings are not those of their texts."""
    rows = await db.fetch("SELECT id, body, short::text AS short, long::text AS long FROM documents ORDER BY id")
    return [row["id"] for row in rows if not _right(row)]


def _right(row: asyncpg.Record) -> bool:
    if row["body"] is None or not row["body"].strip():
        return row["short"] is None and row["long"] is None
    if row["short"] is None or row["long"] is None:
        return False
    long = lexical.embed(row["body"], 16)
    length = sum(value * value for value in long[:8]) ** 0.5 or 1.0
    return _near(row["long"], long) and _near(row["short"], [value / length for value in long[:8]])


def _near(text: str, vector: list[float]) -> bool:
    return [float(one) for one in text[1:-1].split(",")] == pytest.approx(vector, abs=1e-5)


async def all_right(db: asyncpg.Connection) -> bool:
    return not await wrong(db) and not await db.fetchval("SELECT count(*) FROM afresh.embedding_queue")


async def test_exactly_the_rows_whose_text_changed_are_embedded(documents: asyncpg.Connection, dsn: str) -> None:
    async with embedding(dsn) as (running, api):
        await documents.execute("INSERT INTO documents SELECT n, 'text number ' || n FROM generate_series(1, 9) AS n")
        await eventually(lambda: all_right(documents))
        assert sorted(api.texts) == sorted(f"text number {n}" for n in range(1, 10))
        assert max(len(request["input"]) for request in api.requests) <= 4
        api.requests.clear()
        await documents.execute("UPDATE documents SET touched = 1; UPDATE documents SET body = body")
        await documents.execute("UPDATE documents SET body = 'another one' WHERE id = 3")
        await documents.execute(
            "UPDATE documents SET body = ' ' WHERE id = 4; UPDATE documents SET body = NULL WHERE id = 5"
        )
        await documents.execute("UPDATE documents SET id = 60 WHERE id = 6; DELETE FROM documents WHERE id = 7")
        await eventually(lambda: all_right(documents))
        assert sorted(api.texts) == ["another one", "text number 6"]
        await eventually(lambda: sum(one.rows for one in running.seen.of(Embedded)) >= 11)
        await eventually(lambda: bool(running.seen.of(EmbeddingsWaiting, table="public.documents", rows=0)))


async def test_a_text_that_changes_while_it_is_embedded_gets_the_embedding_of_what_it_is(
    documents: asyncpg.Connection, dsn: str
) -> None:
    async with openai_api() as api:
        settings = EmbeddingModelSettings.model_validate({"url": api.url, "model": "m", "dimensions": 16})
        wanted = Wanted(table="documents", text="body", columns=(("short", 8), ("long", 16)))
        async with Models.opened(settings, ChatModelSettings(), lambda _: None) as models:

            class Slow(Models):
                async def embed(self, texts: Any) -> Any:
                    vectors = await models.embed(texts)
                    await documents.execute(
                        "UPDATE documents SET body = 'new' WHERE id = 1; DELETE FROM documents WHERE id = 2"
                    )
                    return vectors

            connection = await asyncpg.connect(dsn)
            try:
                source = await look_up(connection, wanted, most=16)
                await codec(connection, source)
                await documents.execute("INSERT INTO documents VALUES (1, 'old'), (2, 'gone'), (3, 'same')")
                slow = Slow(models._session, settings, ChatModelSettings(), lambda _: None)
                batch = await embed_some(connection, source, slow, settings)
                assert (batch.taken, batch.stored, batch.skipped, batch.failed) == (3, 1, 2, 0)
                assert await wrong(documents) == [1]
                assert (await embed_some(connection, source, models, settings)).stored == 1
                assert await all_right(documents)
                assert (await embed_some(connection, source, models, settings)).taken == 0
            finally:
                await connection.close()


async def test_rows_in_somebody_s_hand_are_left_alone_and_due_again_when_he_has_died(
    documents: asyncpg.Connection, dsn: str
) -> None:
    settings = EmbeddingModelSettings.model_validate({"dimensions": 16, "timeout": 0.001})
    wanted = Wanted(table="documents", text="body", columns=(("short", 8), ("long", 16)))
    async with Models.opened(settings, ChatModelSettings(), lambda _: None) as models:
        source = await look_up(documents, wanted, most=16)
        await codec(documents, source)
        await documents.execute("INSERT INTO documents VALUES (1, 'one')")

        class Dying(Models):
            async def embed(self, _: Any) -> Any:
                raise asyncio.CancelledError

        dying = Dying(models._session, settings, ChatModelSettings(), lambda _: None)
        with pytest.raises(asyncio.CancelledError):
            await embed_some(documents, source, dying, settings)
        assert (await embed_some(documents, source, models, settings)).taken == 0
        await documents.execute("UPDATE afresh.embedding_queue SET not_before = not_before - interval '3 minutes'")
        assert (await embed_some(documents, source, models, settings)).stored == 1


@pytest.mark.parametrize("fault", ["status", "silent", "dimensions", "body"])
async def test_while_the_model_gives_nothing_rows_wait_and_keep_what_they_have(
    documents: asyncpg.Connection, dsn: str, fault: str
) -> None:
    async with embedding(dsn, timeout=0.1) as (running, api):
        await documents.execute("INSERT INTO documents VALUES (1, 'one')")
        await eventually(lambda: all_right(documents))
        before = await documents.fetchval("SELECT long::text FROM documents")
        setattr(api, fault, {"status": 503, "silent": True, "dimensions": 3, "body": {"data": []}}[fault])
        await documents.execute("UPDATE documents SET body = 'two'")
        await eventually(lambda: len(running.seen.of(EmbeddingFailed, table="public.documents")) >= 3)
        assert await documents.fetchval("SELECT long::text FROM documents") == before
        assert await documents.fetchval("SELECT problem FROM afresh.embedding_queue")
        api.status, api.silent, api.dimensions, api.body = 200, False, None, None
        await eventually(lambda: all_right(documents))


async def test_one_text_that_the_model_refuses_keeps_no_other_one_back(documents: asyncpg.Connection, dsn: str) -> None:
    async with embedding(dsn, batch=8) as (running, api):
        api.refused = "bad"
        await documents.execute(
            "INSERT INTO documents SELECT n, CASE WHEN n IN (3, 6) THEN 'bad ' ELSE 'good ' END || n "
            "FROM generate_series(1, 8) AS n"
        )

        async def the_others() -> bool:
            return await wrong(documents) == [3, 6]

        await eventually(the_others)
        await eventually(lambda: len(running.seen.of(EmbeddingFailed)) >= 2)
        waiting = await documents.fetch("SELECT key, problem, failures FROM afresh.embedding_queue ORDER BY id")
        assert [row["key"] for row in waiting] == ['{"id": 3}', '{"id": 6}']
        assert all("too long" in row["problem"] and row["failures"] >= 1 for row in waiting)
        api.refused = None
        await eventually(lambda: all_right(documents))


async def test_a_text_of_which_the_model_fails_keeps_no_other_one_back(documents: asyncpg.Connection, dsn: str) -> None:
    async with embedding(dsn, batch=8) as (_, api):
        api.poison = "bad"
        await documents.execute(
            "INSERT INTO documents SELECT n, CASE n WHEN 3 THEN 'bad ' ELSE 'good ' END || n "
            "FROM generate_series(1, 8) AS n"
        )

        async def the_others() -> bool:
            return await wrong(documents) == [3]

        await eventually(the_others)
        api.poison = None
        await eventually(lambda: all_right(documents))


async def test_a_row_that_postgresql_refuses_keeps_no_other_one_back(documents: asyncpg.Connection, dsn: str) -> None:
    await documents.execute("""
        CREATE TABLE guard (id int);
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM guard WHERE guard.id = NEW.id) THEN RAISE 'row % is guarded', NEW.id; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER guard BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION guard();
        INSERT INTO guard VALUES (2);
    """)
    async with embedding(dsn) as (running, _):
        await documents.execute("INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 4) AS n")
        # What nobody put there honestly: no key of the table, nothing that can be one.
        await documents.execute(
            "INSERT INTO afresh.embedding_queue (target, text_column, key) "
            "VALUES ('documents', 'body', '{\"id\": \"x\"}'), ('documents', 'body', '[]'), ('documents', 'nothing', '{}')"
        )
        await eventually(lambda: len(running.seen.of(EmbeddingFailed)) >= 2)

        async def the_others() -> bool:
            return await wrong(documents) == [2]

        await eventually(the_others)
        await eventually(lambda: any("row 2 is guarded" in one.problem for one in running.seen.of(EmbeddingFailed)))


@pytest.mark.parametrize("state", ["55000", "40001", "57014", "08000"])
async def test_whatever_a_trigger_raises_keeps_no_other_row_back(
    documents: asyncpg.Connection, dsn: str, state: str
) -> None:
    await documents.execute(f"""
        CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 2 THEN RAISE 'row 2 is guarded' USING ERRCODE = '{state}'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER guard BEFORE UPDATE ON documents FOR EACH ROW EXECUTE FUNCTION guard();
        INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 4) AS n
    """)
    async with embedding(dsn):

        async def the_others() -> bool:
            return await wrong(documents) == [2]

        await eventually(the_others)


async def test_a_row_that_somebody_has_locked_keeps_no_other_one_back_and_its_writer_is_not_disturbed(
    documents: asyncpg.Connection, dsn: str
) -> None:
    await documents.execute("INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 4) AS n")
    other = await asyncpg.connect(dsn)
    try:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SELECT FROM documents WHERE id = 2 FOR UPDATE")
        async with embedding(dsn) as (running, _):

            async def the_others() -> bool:
                return await wrong(documents) == [2]

            await eventually(the_others)
            await eventually(lambda: bool(running.seen.of(EmbeddingFailed)))
            assert "lock timeout" in running.seen.of(EmbeddingFailed)[-1].problem
            await other.execute("UPDATE documents SET touched = 1")  # whatever we have locked by then
            await transaction.commit()
            await eventually(lambda: all_right(documents))
    finally:
        await other.close()


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
async def test_a_table_that_somebody_has_locked_keeps_no_other_one_back(
    documents: asyncpg.Connection, dsn: str, mode: str
) -> None:
    await documents.execute("""
        CREATE TABLE others (id int PRIMARY KEY, body text, made vector(8));
        SELECT afresh.watch_embedding('others', 'body');
        INSERT INTO documents SELECT n, 'text ' || n FROM generate_series(1, 9) AS n;
    """)
    more = {"table": "others", "text": "body", "column": "made", "dimensions": 8}
    async with afresh(dsn, embeddings=[*SECTIONS, more], embedding={"dimensions": 16, "batch": 4}) as running:
        await eventually(lambda: all_right(documents))
        async with connected(dsn) as other, other.transaction():
            await documents.execute("UPDATE documents SET body = body || '.'")
            await other.execute(f"LOCK TABLE documents IN {mode} MODE")
            await running.seen.until(EmbeddingFailed, table="public.documents")
            await documents.execute("INSERT INTO others VALUES (2, 'two')")

            async def made() -> bool:
                return bool(await documents.fetchval("SELECT made IS NOT NULL FROM others WHERE id = 2"))

            await eventually(made)
        await eventually(lambda: all_right(documents))


async def test_a_table_whose_texts_always_change_keeps_no_other_one_back(
    documents: asyncpg.Connection, dsn: str
) -> None:
    await documents.execute("""
        CREATE TABLE others (id int PRIMARY KEY, body text, made vector(8));
        SELECT afresh.watch_embedding('others', 'body');
        CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.body := NEW.body || '.'; RETURN NEW; END $$;
        CREATE TRIGGER again BEFORE UPDATE OF short ON documents FOR EACH ROW EXECUTE FUNCTION again();
    """)
    more = {"table": "others", "text": "body", "column": "made", "dimensions": 8}
    async with afresh(dsn, embeddings=[*SECTIONS, more], embedding={"dimensions": 16}) as running:
        await documents.execute("INSERT INTO documents VALUES (1, 'one'); INSERT INTO others VALUES (1, 'one')")

        async def made() -> bool:
            return bool(await documents.fetchval("SELECT made IS NOT NULL FROM others"))

        await eventually(made)
        await eventually(lambda: len(running.seen.of(EmbeddingsWaiting)) > 4)


async def test_what_is_not_as_the_settings_say_is_said_and_used_as_soon_as_it_is(
    documents: asyncpg.Connection, dsn: str
) -> None:
    await documents.execute("CREATE TABLE later (id int PRIMARY KEY, body text)")
    section = {"table": "later", "text": "body", "column": "made", "dimensions": 8}
    async with afresh(dsn, embeddings=[*SECTIONS, section], embedding={"dimensions": 16}) as running:
        await eventually(lambda: any("there is no such column" in one.what for one in running.seen.of(Warned)))
        await documents.execute("ALTER TABLE later ADD made vector(8)")
        await documents.execute("CREATE MATERIALIZED VIEW m AS SELECT 1 AS x")  # the catalogue is read anew
        await eventually(lambda: any("is not watched" in one.what for one in running.seen.of(Warned)))
        await documents.execute("SELECT afresh.watch_embedding('later', 'body')")
        await documents.execute("INSERT INTO later VALUES (1, 'one')")
        await documents.execute("CREATE MATERIALIZED VIEW n AS SELECT 1 AS x")

        async def made() -> bool:
            return bool(await documents.fetchval("SELECT made IS NOT NULL FROM later"))

        await eventually(made)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"table": "nowhere"}, "there is no table nowhere"),
        ({"text": "touched"}, "has no column touched that holds texts"),
        ({"columns": (("touched", 8),)}, "it is of type int4"),
        ({"columns": (("short", 9),)}, r"has 8 dimensions, and \[\[embeddings\]\] says 9"),
        ({"columns": (("any", 17),)}, "has 17 dimensions, and embeddings are made with 16"),
    ],
)
async def test_a_source_that_cannot_be_used_says_why(
    documents: asyncpg.Connection, change: dict[str, Any], problem: str
) -> None:
    await documents.execute('ALTER TABLE documents ADD "any" vector')
    wanted = {"table": "documents", "text": "body", "columns": (("short", 8),), **change}
    with pytest.raises(SourceUnusable, match=problem) as caught:
        await look_up(documents, Wanted(**wanted), most=16)
    assert caught.value.hint


def test_a_column_can_hold_embeddings_of_one_text_only() -> None:
    Settings.model_validate({"embeddings": SECTIONS})
    with pytest.raises(ValueError, match=r"public\.documents\.short is named 2 times"):
        Settings.model_validate({"embeddings": [*SECTIONS, {**SECTIONS[0], "table": "public.documents", "text": "x"}]})
