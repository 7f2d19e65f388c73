"""Named queries that write, that are run as somebody else, that answer with one row, and that take a turn in a chat."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from afresh_notifier import lexical
from afresh_notifier.observations import ChatFailed, QueryBroken
from afresh_notifier.settings import Settings
from conftest import eventually
from support.named_queries import Asking, asking, query
from support.openai_api import openai_api
from support.scenario import gates, listening

NOTES = """
CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, note text NOT NULL CHECK (note <> ''), price numeric);
INSERT INTO notes VALUES (1, 'ada', 'first', 1.50), (2, 'bob', 'second', 2);
SELECT afresh.watch('notes');
CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(4711, which); RETURN which; END $$;
"""

ADD = "INSERT INTO notes SELECT $1::int, $2::text, $3::text RETURNING id, note"


@pytest.fixture
async def notes(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(NOTES)
    return db


def writing(folder: Path, name: str, sql: str, *parameters: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    return query(folder, name, sql, *parameters, method="POST", writes=True, **more)


async def test_what_is_posted_is_written_and_told_and_kept_answers_go(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    made = [
        writing(tmp_path, "add", ADD, "id", "owner", "note"),
        query(tmp_path, "count", "SELECT count(*)::int AS n FROM notes", cache_key="notes"),
    ]
    async with asking(dsn, *made) as ask, listening(ask.running.url) as heard:
        assert (await ask("count")).rows == [{"n": 2}]
        reply = await ask("add", "POST", json={"id": 3, "owner": "ada", "note": "third"})
        assert reply.json == {"rows": [{"id": 3, "note": "third"}], "truncated": False}
        assert reply.headers["Cache-Control"] == "no-store"
        assert "ETag" not in reply.headers
        await heard.told("notes")
        assert (await ask("count")).rows == [{"n": 3}]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"id": 1, "owner": "x", "note": "x"}, 409, "query_conflict"),
        ({"id": 9, "owner": "x", "note": ""}, 422, "query_refused"),
        ({"id": 9, "owner": "x", "note": None}, 400, "bad_parameter"),
        ({"id": "x", "owner": "x", "note": "x"}, 400, "bad_parameter"),
        ({"id": 9, "owner": "x"}, 400, "bad_parameter"),
    ],
)
async def test_what_may_not_be_written_is_refused_and_nothing_is_changed(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path, body: dict[str, Any], status: int, code: str
) -> None:
    async with asking(dsn, writing(tmp_path, "add", ADD, "id", "owner", "note")) as ask:
        reply = await ask("add", "POST", json=body)
        assert (reply.status, reply.code) == (status, code)
        assert await notes.fetchval("SELECT count(*) FROM notes") == 2
        assert (await ask("add", "POST", json={"id": 9, "owner": "x", "note": "x"})).status == 200


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        ("P0002", 404, "nothing_found"),
        ("42501", 403, "query_forbidden"),
        ("23503", 422, "query_refused"),
        ("23505", 409, "query_conflict"),
        ("P0001", 422, "query_refused"),
        ("22023", 422, "query_refused"),
    ],
)
async def test_what_a_function_raises_reaches_the_client_and_its_writes_are_undone(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path, state: str, status: int, code: str
) -> None:
    await notes.execute(f"""
        CREATE FUNCTION refuse(who text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN
            DELETE FROM notes;
            RAISE 'not for %', who USING ERRCODE = '{state}', HINT = 'ask Ada';
        END $$;
    """)
    async with asking(dsn, writing(tmp_path, "refuse", "SELECT refuse($1)", "who")) as ask:
        reply = await ask("refuse", "POST", json={"who": "you"})
        assert (reply.status, reply.code) == (status, code)
        assert (reply.json["detail"], reply.json["hint"]) == ("not for you", "ask Ada")
        assert await notes.fetchval("SELECT count(*) FROM notes") == 2


async def test_an_answer_of_one_row_is_an_object_and_of_none_is_404(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = "SELECT id, price FROM notes WHERE id >= $1 ORDER BY id"
    made = [
        query(tmp_path, "note", sql, "id", one=True),
        writing(tmp_path, "change", "UPDATE notes SET note = 'x' WHERE id >= $1 RETURNING id, price", "id", one=True),
    ]
    async with asking(dsn, *made) as ask:
        assert (await ask("note?id=1")).body == b'{"id":1,"price":1.50}'
        assert (await ask("note?id=1")).how == "hit"
        for reply in (await ask("note?id=7"), await ask("change", "POST", json={"id": 7})):
            assert (reply.status, reply.code) == (404, "nothing_found")
        assert (await ask("change", "POST", json={"id": 1})).json["id"] in (1, 2)
        assert await notes.fetchval("SELECT count(*) FROM notes WHERE note = 'x'") == 2
        described = (await ask("/openapi.json")).json["paths"]["/api/queries/note"]["get"]["responses"]
        assert "404" in described
        assert set(described["200"]["content"]["application/json"]["schema"]["properties"]) == {"id", "price"}


async def test_a_writing_query_writes_all_it_does_however_few_rows_may_be_told(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = "UPDATE notes SET note = 'x' RETURNING id"
    async with asking(dsn, writing(tmp_path, "change", sql, max_rows=1)) as ask:
        reply = await ask("change", "POST")
        assert (len(reply.rows), reply.json["truncated"]) == (1, True)
        assert await notes.fetchval("SELECT count(*) FROM notes WHERE note = 'x'") == 2


async def test_a_query_that_may_not_write_does_not(notes: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await notes.execute(
        "CREATE FUNCTION sly() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM notes; RETURN 1; END'"
    )
    made = [query(tmp_path, "sly", "SELECT sly()"), query(tmp_path, "role", "SELECT sly()", role="pg_read_all_data")]
    async with asking(dsn, *made) as ask:
        for name in ("sly", "role"):
            assert (await ask(name)).status in (403, 503)
        assert await notes.fetchval("SELECT count(*) FROM notes") == 2


@pytest.fixture
async def guarded(notes: asyncpg.Connection) -> asyncpg.Connection:
    """Notes of which a guest sees and writes his own; the guest is the cluster's, and stays."""
    await notes.execute("""
        DO $$ BEGIN CREATE ROLE afresh_test_guest NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        GRANT SELECT, INSERT ON notes TO afresh_test_guest;
        ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON notes TO afresh_test_guest USING (owner = current_setting('app.who', true));
    """)
    return notes


async def test_a_query_is_run_as_its_role_with_its_settings_and_the_connection_is_ours_again(
    guarded: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    character: dict[str, Any] = {"role": "afresh_test_guest", "session": {"app.who": "{who}"}}
    made = [
        query(tmp_path, "mine", "SELECT id, $1::text AS who FROM notes ORDER BY id", "who", **character),
        writing(tmp_path, "add", "INSERT INTO notes VALUES (3, $1, $2) RETURNING id", "owner", "who", **character),
        query(
            tmp_path, "all", "SELECT current_user::text AS me, coalesce(current_setting('app.who', true), '') AS who"
        ),
    ]
    async with asking(dsn, *made, query={"concurrency": 1}) as ask:
        assert [row["id"] for row in (await ask("mine?who=ada")).rows] == [1]
        assert [row["id"] for row in (await ask("mine?who=bob")).rows] == [2]
        assert (await ask("mine?who=nobody'")).rows == []
        assert (await ask("mine.csv?who=bob")).body == b"id,who\r\n2,bob\r\n"
        reply = await ask("add", "POST", json={"owner": "bob", "who": "ada"})
        assert (reply.status, reply.code) == (403, "query_forbidden")
        assert (await ask("add", "POST", json={"owner": "ada", "who": "ada"})).rows == [{"id": 3}]
        assert (await ask("all")).rows == [{"me": await guarded.fetchval("SELECT current_user"), "who": ""}]


async def test_a_role_that_is_not_there_makes_a_query_unusable_until_it_is(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, query(tmp_path, "q", "SELECT 1 AS x", role="afresh_test_nobody")) as ask:
        reply = await ask("q")
        assert (reply.status, reply.code) == (503, "query_unusable")
        assert "afresh_test_nobody" in reply.json["detail"]
        assert "GRANT" in reply.json["hint"]
        assert ask.running.seen.of(QueryBroken, query="q")


async def test_a_statement_that_cannot_be_run_so_says_what_to_do(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = "WITH gone AS (DELETE FROM notes RETURNING id) SELECT id FROM gone"
    async with asking(dsn, writing(tmp_path, "nested", sql)) as ask:
        reply = await ask("nested", "POST")
        assert (reply.status, reply.code) == (503, "query_unusable")
        assert "belong into a function" in reply.json["hint"]
        assert await notes.fetchval("SELECT count(*) FROM notes") == 2


async def test_a_writing_query_is_no_csv_and_no_live_query(notes: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    async with asking(dsn, writing(tmp_path, "add", ADD, "id", "owner", "note")) as ask:
        assert (await ask("/api/queries/add.csv", "POST", json={})).status == 404
        async with ask.session.ws_connect(f"{ask.running.url}/ws") as socket:
            await socket.receive_json()
            await socket.send_json({"type": "query", "id": "1", "name": "add", "params": {}})
            answer = await socket.receive_json()
            assert (answer["type"], answer["id"]) == ("error", "1")
            assert "POST it to /api/queries/add" in answer["message"]


async def test_a_client_that_leaves_in_the_middle_has_written_all_or_nothing_and_the_next_one_is_served(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = "INSERT INTO notes SELECT $1, 'x', 'x' FROM gate(1) RETURNING id"
    async with gates(dsn) as gate, asking(dsn, writing(tmp_path, "slow", sql, "id"), query={"concurrency": 1}) as ask:
        await gate.close(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ask("slow", "POST", json={"id": 5}), 0.3)
        await gate.open(1)

        async def served() -> bool:
            return (await ask("slow", "POST", json={"id": 6})).status == 200

        await eventually(served)
        assert await notes.fetchval("SELECT count(*) FROM notes WHERE id = 6") == 1


async def test_where_the_connection_ends_with_the_commit_the_client_is_told_that_it_may_have_been_written(
    notes: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await notes.execute("""
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER die AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION die();
    """)
    async with asking(dsn, writing(tmp_path, "add", ADD, "id", "owner", "note")) as ask:
        reply = await ask("add", "POST", json={"id": 7, "owner": "x", "note": "x"})
        assert (reply.status, reply.code) == (503, "query_failed")
        assert "may have been written all the same" in reply.json["detail"]
        assert "before you send it again" in reply.json["hint"]
        assert (await ask("add", "POST", json={"id": 8, "owner": "x", "note": "x"})).status == 200


async def test_an_embedding_is_made_of_what_the_client_sends(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute("CREATE EXTENSION vector")
    sql = "SELECT $2::vector(8) AS vector, vector_dims($2)::int AS n, $1::text AS text"
    made = query(tmp_path, "near", sql, "text", {"name": "made", "embed": "text", "dimensions": 8})
    async with openai_api() as api:
        model = {"url": api.url, "model": "m", "dimensions": 8}
        async with asking(dsn, made, embedding=model) as ask:
            row = (await ask("near?text=sea")).rows[0]
            assert row["n"] == 8
            assert row["vector"] == pytest.approx(lexical.embed("sea", 8), abs=1e-6)
            assert (await ask("near?text=sea")).how == "hit"
            assert (await ask("near?text=sea&made=[1]")).code == "bad_parameter"
            assert api.texts == ["sea"]
            assert [p["name"] for p in (await ask("/api/queries")).json["queries"][0]["parameters"]] == ["text"]
            api.status = 500
            reply = await ask("near?text=lake")
            assert (reply.status, reply.code) == (503, "query_failed")
            assert "no embedding can be made now" in reply.json["detail"]
            api.status, api.dimensions = 200, 3
            assert "have 3 numbers" in (await ask("near?text=lake")).json["detail"]
    async with asking(dsn, made) as ask:
        assert (await ask("near?text=sea")).rows[0]["n"] == 8


CHAT = """
CREATE TABLE turns (id int GENERATED ALWAYS AS IDENTITY, said text, price numeric);
CREATE FUNCTION say(words text) RETURNS TABLE (id int, price numeric, answer text, messages jsonb)
LANGUAGE sql AS $$
    INSERT INTO turns (said, price) VALUES (words, 12.50)
    RETURNING id, price, 'You said ' || words, jsonb_build_array(jsonb_build_object('role', 'user', 'content', words))
$$;
"""


def chatting(folder: Path) -> dict[str, Any]:
    then = folder / "then.sql"
    then.write_text("INSERT INTO turns (said) SELECT $1::jsonb ->> 'answer';")
    chat = {"messages": "messages", "answer": "answer", "then": str(then)}
    return writing(folder, "say", "SELECT * FROM say($1)", "words", one=True, chat=chat)


async def test_a_turn_in_a_chat_is_answered_by_the_model_or_by_the_query(
    db: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    await db.execute(CHAT)

    async def turn(ask: Asking, words: str) -> tuple[str, str]:
        reply = await ask("say", "POST", json={"words": words})
        assert reply.status == 200, reply.body
        assert set(reply.json) == {"id", "price", "answer"}
        assert b"12.50" in reply.body
        return reply.headers["Afresh-Answered-By"], reply.json["answer"]

    async with openai_api() as api, asking(dsn, chatting(tmp_path), chat={"url": api.url, "model": "m"}) as ask:
        assert await turn(ask, "hello") == ("model", "Certainly.")
        assert api.requests[-1]["messages"] == [{"role": "user", "content": "hello"}]
        api.reply = "\0Certainly.\0"
        assert await turn(ask, "hello") == ("model", "Certainly.")
        api.status = 500
        assert await turn(ask, "again") == ("query", "You said again")
        assert ask.running.seen.of(ChatFailed, query="say")
    async with asking(dsn, chatting(tmp_path)) as ask:
        assert await turn(ask, "without") == ("query", "You said without")
    said = [row["said"] for row in await db.fetch("SELECT said FROM turns ORDER BY id")]
    assert said == [*("hello", "Certainly.") * 2, "again", "You said again", "without", "You said without"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"method": "GET"}, 'has method = "POST"'),
        ({"cache_key": "x"}, "neither cache_key"),
        ({"ttl": 5}, "neither cache_key"),
        ({"one": False, "chat": {"messages": "m", "answer": "a"}}, "chat needs"),
        ({"session": {"role": "x"}}, "names with a dot"),
        ({"session": {"a.b": "{nobody}"}}, "no client sends"),
        ({"session": {"a.b": "{made}"}}, "no client sends"),
        ({"path": "/x/{made}"}, "no client sends"),
        ({"parameters": [{"name": "a", "embed": "a", "dimensions": 3}]}, "no client sends"),
        ({"parameters": [{"name": "a", "embed": "b"}]}, "embed and dimensions belong together"),
        ({"parameters": [{"name": "a", "embed": "b", "dimensions": 3, "nullable": True}]}, "have no use"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(change: dict[str, Any], problem: str) -> None:
    section = {
        "name": "q",
        "file": "q.sql",
        "method": "POST",
        "writes": True,
        "parameters": [{"name": "text"}, {"name": "made", "embed": "text", "dimensions": 3}],
    }
    Settings.model_validate({"queries": [section]})
    with pytest.raises(ValueError, match=problem):
        Settings.model_validate({"queries": [{**section, **change}]})
