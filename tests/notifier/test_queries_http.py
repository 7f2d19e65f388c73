"""Named queries over HTTP: what is answered, in which form, and what is said of what cannot be."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afresh_notifier.named_queries import execution, http, named_query
from afresh_notifier.named_queries.execution import NamesChanged
from afresh_notifier.observations import QueryAnswered, QueryBroken, QueryNotAnswered, QueryReady
from afresh_notifier.settings import Settings
from conftest import PATIENCE, eventually
from support.named_queries import asking, query
from support.scenario import connected, gates

PEOPLE = """
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, city text);
INSERT INTO people VALUES (1, 'Ada', 'London'), (2, 'Bob', NULL), (3, 'Cid', 'Burgos');
SELECT afresh.watch('people');
"""

#: A query that hangs at a gate (`support.scenario.Gates`).
GATE = """
CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(4711, which); RETURN which; END $$;
"""


@pytest.fixture
async def people(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(PEOPLE)
    return db


async def test_rows_with_their_names_and_what_was_cut_off(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    sql = "SELECT id, name, city FROM people WHERE city IS DISTINCT FROM $1 ORDER BY id -- all but these;"
    parameter = {"name": "city", "nullable": True}
    made = [query(tmp_path, "people", sql, parameter), query(tmp_path, "few", sql, parameter, max_rows=2)]
    async with asking(dsn, *made) as ask:
        reply = await ask("people?city=London")
        assert reply.body == (
            b'{"rows":[{"id":2,"name":"Bob","city":null},{"id":3,"name":"Cid","city":"Burgos"}],"truncated":false}'
        )
        assert reply.headers["Content-Type"].startswith("application/json")
        assert reply.headers["Cache-Control"] == "no-cache"
        assert reply.headers["Vary"] == "Accept"
        assert [row["id"] for row in (await ask("people")).rows] == [1, 3]
        assert (await ask("few?city=x")).json == {
            "rows": [{"id": 1, "name": "Ada", "city": "London"}, {"id": 2, "name": "Bob", "city": None}],
            "truncated": True,
        }
        assert (await ask("few")).json["truncated"] is False
        await people.execute("TRUNCATE people")
        await eventually(lambda: ask.running.seen.changed("public.people") > 0)

        async def empty() -> bool:
            return (await ask("people?city=x")).body == b'{"rows":[],"truncated":false}'

        await eventually(empty)


async def test_paths_and_bodies_hold_parameters_too(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    sql = "SELECT $1::int AS id, $2::text[] AS names, $3::date AS day"
    listed: list[dict[str, Any]] = [
        {"name": "id"},
        {"name": "names", "default": ["x"]},
        {"name": "day", "nullable": True},
    ]
    made = [
        query(tmp_path, "of_get", sql, *listed, path="/api/people/{id}/names"),
        query(tmp_path, "of_post", sql, *listed, path="/api/people/{id}/names", method="POST"),
        query(tmp_path, "all_in_path", "SELECT $1::text AS x", "x", path="/files/{x}"),
    ]
    async with asking(dsn, *made) as ask:
        path = "/api/people/7/names"
        assert (await ask(path)).rows == [{"id": 7, "names": ["x"], "day": None}]
        assert (await ask(f"{path}?names=a&names=b%2Cc&day=2026-01-02")).rows == [
            {"id": 7, "names": ["a", "b,c"], "day": "2026-01-02"}
        ]
        assert (await ask(f'{path}?names=["a"]')).rows[0]["names"] == ["a"]
        assert (await ask(path, "POST", json={"names": ["a", None], "day": None})).rows == [
            {"id": 7, "names": ["a", None], "day": None}
        ]
        assert (await ask(path, "POST")).rows == [{"id": 7, "names": ["x"], "day": None}]
        assert (await ask("/files/a%2Fb%3F.txt")).rows == [{"x": "a/b?.txt"}]
        assert (await ask("/files/a.csv")).body == b"x\r\na\r\n"
        for reply, parameter in (
            (await ask("/api/people/x/names"), "id"),
            (await ask(f"{path}?id=8"), "id"),
            (await ask(path, "POST", json={"id": 8}), "id"),
            (await ask(f"{path}?day=2026-01-02&day=2026-01-03"), "day"),
            (await ask(f"{path}?dya=2026-01-02"), "dya"),
            (await ask(path, "POST", json={"names": None}), "names"),
        ):
            assert (reply.status, reply.code, reply.json["parameter"]) == (400, "bad_parameter", parameter)


async def test_bodies_that_are_no_objects_of_parameters(dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "echo", "SELECT $1::int AS x", "x", method="POST")
    json = {"Content-Type": "application/json"}
    async with asking(dsn, made) as ask:
        for body in (
            b"[1]",
            b"5",
            b"null",
            b"{",
            b'{"x":1}x',
            b"\xff",
            b'{"x":NaN}',
            b"[" * 100_000,
            b'{"x":"\\ud800"}',
        ):
            reply = await ask("echo", "POST", data=body, headers=json)
            assert (reply.status, reply.code) == (400, "bad_parameter"), body[:20]
            assert reply.json["parameter"] in ("body", "x")
        reply = await ask("echo", "POST")
        assert (reply.status, reply.json["parameter"]) == (400, "x")
        reply = await ask("echo", "POST", data=b'{"x":1}', headers={"Content-Type": "text/plain"})
        assert (reply.status, reply.code) == (415, "not_json")
        reply = await ask("echo", "POST", data={"x": "1"})
        assert (reply.status, reply.code) == (415, "not_json")
        reply = await ask("echo", "POST", data=io.BytesIO(b'{"x":' + b" " * 2_000_000 + b"1}"), headers=json)
        assert (reply.status, reply.code) == (413, "body_too_large")
        reply = await ask("echo?x=1", "POST", json={"x": 1})
        assert (reply.status, reply.code) == (400, "bad_request")
        reply = await ask("echo", "POST", data=b"not gzip", headers={**json, "Content-Encoding": "gzip"})
        assert reply.status == 400
        reply = await ask("echo")
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        assert (await ask("echo", "POST", json={"x": 1})).rows == [{"x": 1}]


async def test_enums_and_defaults(dsn: str, tmp_path: Path) -> None:
    listed: list[dict[str, Any]] = [
        {"name": "sort", "enum": ["name", "score"], "default": "name"},
        {"name": "sizes", "enum": [1, 2], "default": [1]},
        {"name": "since", "default": "2026-01-01"},
        {"name": "share", "type": "numeric", "default": 0.85, "enum": [0.85, 1.5]},
    ]
    sql = "SELECT $1::text AS sort, $2::int[] AS sizes, $3::date AS since, $4::numeric AS share"
    async with asking(dsn, query(tmp_path, "sorted", sql, *listed)) as ask:
        assert (await ask("sorted")).rows == [{"sort": "name", "sizes": [1], "since": "2026-01-01", "share": 0.85}]
        shown = (await ask("/api/queries")).json["queries"][0]["parameters"][3]["schema"]
        assert (shown["default"], shown["enum"]) == (0.85, [0.85, 1.5])
        assert (await ask("sorted?sort=score&sizes=2&sizes=1")).rows[0]["sizes"] == [2, 1]
        for bad, parameter in (("sort=age", "sort"), ("sizes=3", "sizes"), ("sizes=1&sizes=3", "sizes")):
            reply = await ask(f"sorted?{bad}")
            assert (reply.status, reply.json["parameter"]) == (400, parameter)
            assert "expected one of" in reply.json["detail"]


async def test_who_has_it_already_is_told_so(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "people", "SELECT * FROM people ORDER BY id", cache_key="people")
    async with asking(dsn, made) as ask:
        first = await ask("people")
        etag = first.headers["ETag"]
        assert etag.startswith('"')
        for named in (etag, f'"x", {etag}', "*", f"W/{etag}"):
            reply = await ask("people", headers={"If-None-Match": named})
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["ETag"] == etag
        head = await ask("people", "HEAD")
        assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)
        assert head.headers["Content-Length"] == str(len(first.body))
        await people.execute("UPDATE people SET name = 'Eve' WHERE id = 1")

        async def fresh() -> bool:
            return (await ask("people", headers={"If-None-Match": etag})).status == 200

        await eventually(fresh)
        await people.execute("UPDATE people SET name = 'Ada' WHERE id = 1")

        async def as_before() -> bool:
            return (await ask("people", headers={"If-None-Match": etag})).status == 304

        await eventually(as_before)


@pytest.mark.parametrize(
    ("accept", "csv"),
    [
        ([], False),
        (["text/csv"], True),
        (["*/*"], False),
        (["text/html,application/xhtml+xml,*/*;q=0.8"], False),
        (["text/csv;q=0.5, application/json"], False),
        (["application/json;q=0.5", "text/*"], True),
        (["text/csv;q=0, text/*"], False),
        (["application/*;q=0.1, text/csv;q=0.2"], True),
        (["TEXT/CSV ; Q=1, application/json;q=nonsense"], False),
        ([",;,=", "text/csv;q=nan"], False),
    ],
)
def test_what_a_client_likes_better(accept: list[str], csv: bool) -> None:
    assert http.prefers_csv(accept) is csv


async def test_csv_by_its_ending_or_by_accept(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    sql = "SELECT id, name, NULLIF(city, 'London') AS \"City, or town\", '' AS empty FROM people ORDER BY id"
    async with asking(dsn, query(tmp_path, "people", sql, max_rows=2)) as ask:
        for reply in (await ask("people.csv"), await ask("people", headers={"Accept": "text/csv"})):
            assert reply.body == b'id,name,"City, or town",empty\r\n1,Ada,,""\r\n2,Bob,,""\r\n'
            assert reply.headers["Content-Disposition"] == 'attachment; filename="people.csv"'
            assert reply.headers["Afresh-Max-Rows"] == "2"
            assert "Accept" in reply.headers["Vary"]
        assert (await ask("people.csv", "HEAD")).status == 200
        assert (await ask("people.csv?x=1")).code == "bad_parameter"
        assert ask.running.seen.of(QueryAnswered, how="csv")[0].rows == 2


async def test_a_csv_that_fails_in_its_middle_is_cut_off(dsn: str, tmp_path: Path) -> None:
    sql = f"SELECT n, 1 / ({execution.BATCH * 2} - n) AS x, repeat('x', 2000) AS y FROM generate_series(1, 5000) AS n"
    async with asking(dsn, query(tmp_path, "breaks", sql)) as ask:
        with pytest.raises(Exception, match=r"payload|reset|closed|disconnected"):
            await ask("breaks.csv")
        assert ask.running.seen.of(QueryNotAnswered, code="query_refused")


async def test_a_csv_whose_reader_goes_away_gives_its_connection_back(
    db: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = "SELECT n, repeat('x', 1000) AS x FROM generate_series(1, 1000000) AS n"
    made = [query(tmp_path, "long", sql, max_rows=1_000_000), query(tmp_path, "short", "SELECT 1 AS x")]
    async with asking(dsn, *made, query={"concurrency": 1}) as ask:
        await ask.usable("long")
        for _ in range(3):
            async with ask.session.get(f"{ask.running.url}/api/queries/long.csv") as response:
                assert (await response.content.readline()) == b"n,x\r\n"
                response.close()
            assert (await ask("short")).status == 200
        await eventually(lambda: _no_longer(db, "generate_series(1, 1000000)"))


async def test_a_csv_whose_reader_does_not_read_ends(
    db: asyncpg.Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALL_LIMIT", 0.2)
    sql = "SELECT n, repeat('x', 1000) AS x FROM generate_series(1, 1000000) AS n"
    made = [query(tmp_path, "long", sql, max_rows=1_000_000), query(tmp_path, "short", "SELECT 1 AS x")]
    async with asking(dsn, *made, query={"concurrency": 1}) as ask:
        await ask.usable("long")
        parts = urlsplit(ask.running.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1024)
        writer.write(b"GET /api/queries/long.csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        await eventually(lambda: _no_longer(db, "generate_series(1, 1000000)"))
        writer.transport.abort()
        assert (await ask("short")).status == 200


async def _no_longer(db: asyncpg.Connection, text: str) -> bool:
    """Whether no query with ``text`` is on its way, nor holds a transaction."""
    return not await db.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND state <> 'idle'"
        " AND pid <> pg_backend_pid() AND application_name = 'afresh queries'",
        text,
    )


async def test_a_query_that_takes_too_long_is_stopped(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute(GATE)
    made = [
        query(tmp_path, "gated", "SELECT gate(1) AS x", timeout="200ms"),
        query(tmp_path, "free", "SELECT current_setting('statement_timeout') AS x"),
    ]
    async with asking(dsn, *made, query={"concurrency": 1}) as ask, gates(dsn) as gate:
        await gate.close(1)
        for path in ("gated", "gated.csv"):
            reply = await ask(path)
            assert (reply.status, reply.code) == (504, "query_timeout")
            assert "0.2 s" in reply.json["detail"]
        await eventually(lambda: _no_longer(db, "gate"))
        assert (await ask("free")).rows == [{"x": "5s"}]
        await gate.open(1)
        assert (await ask("gated")).rows == [{"x": 1}]


async def test_who_waits_too_long_for_a_connection_is_told_so(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute(GATE)
    made = [
        query(tmp_path, "gated", "SELECT gate(1) AS x", timeout="30s"),
        query(tmp_path, "other", "SELECT 1 AS x", timeout="100ms"),
    ]
    async with asking(dsn, *made, query={"concurrency": 1}) as ask, gates(dsn) as gate:
        await ask.usable("other")
        await gate.close(1)
        waiting = asyncio.create_task(ask("gated"))
        await gate.reached(1)
        reply = await ask("other")
        assert (reply.status, reply.code) == (503, "query_busy")
        await gate.open(1)
        assert (await waiting).rows == [{"x": 1}]


async def test_what_a_query_itself_raises_is_told(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await db.execute(
        """
        CREATE FUNCTION checked(x int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN
            IF x > 9 THEN RAISE EXCEPTION 'x is too large' USING HINT = 'take less', ERRCODE = 'XY123'; END IF;
            RETURN x;
        END $$;
        """
    )
    async with asking(dsn, query(tmp_path, "checked", "SELECT checked($1) AS x", "x")) as ask:
        assert (await ask("checked?x=9")).rows == [{"x": 9}]
        reply = await ask("checked?x=10")
        assert (reply.status, reply.code) == (422, "query_refused")
        assert (reply.json["detail"], reply.json["hint"]) == ("x is too large", "take less")


async def test_a_query_only_reads(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    await people.execute(
        """
        CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'DELETE FROM people RETURNING id';
        CREATE SEQUENCE numbers;
        """
    )
    made = [
        query(tmp_path, "inserted", "INSERT INTO people VALUES (9, 'x') RETURNING id"),
        query(tmp_path, "with_insert", "WITH w AS (DELETE FROM people RETURNING id) SELECT * FROM w"),
        query(tmp_path, "by_function", "SELECT writes() AS x"),
        query(tmp_path, "drawn", "SELECT nextval('numbers') AS x"),
        query(tmp_path, "locked", "SELECT id FROM people FOR UPDATE"),
    ]
    async with asking(dsn, *made) as ask:
        for one in made:
            for path in (one["name"], f"{one['name']}.csv"):
                reply = await ask(path)
                assert (reply.status, reply.code) == (503, "query_unusable")
                assert "read" in reply.json["hint"]
        assert await people.fetchval("SELECT count(*) FROM people") == 3


@pytest.mark.parametrize(
    ("sql", "parameters", "said"),
    [
        ("SELEC 1", [], "syntax error"),
        ("SELECT * FROM nowhere", [], 'relation "nowhere" does not exist'),
        ("SELECT 1 AS x; SELECT 2 AS y", [], "cannot insert multiple commands"),
        ("SELECT 1 AS a, 2 AS a", [], "2 columns of "),
        ("", [], "gives no columns"),
        ("DO $$BEGIN END$$", [], "gives no columns"),
        ("SHOW search_path", [], "is not one SELECT"),
        ("SELECT 1 AS x) AS y, (SELECT 2 AS z", [], "syntax error"),
        ("SELECT $1::int AS x", [], "has 1 parameter, and the settings name 0 parameters"),
        ("SELECT 1 AS x", ["x"], "has 0 parameters, and the settings name 1 parameter"),
        ("SELECT $1 IS NULL AS x", ["x"], "could not determine"),
        ("SELECT $1::int AS x", [{"name": "x", "type": "text"}], "and PostgreSQL takes it for integer"),
        ("SELECT $1::int AS x", [{"name": "x", "type": "in t"}], "which there is not"),
        ("SELECT $1::int AS x", [{"name": "x", "default": "many"}], "default: expected a whole number"),
        ("SELECT $1::int AS x", [{"name": "x", "enum": [1, "two"]}], "enum: expected a whole number"),
        ("SELECT $1::point AS x", ["x"], "which no client can send"),
        ("SELECT $1::int4range AS x", ["x"], "which no client can send"),
    ],
)
async def test_a_query_that_cannot_be_prepared_says_why(
    dsn: str, tmp_path: Path, sql: str, parameters: list[Any], said: str
) -> None:
    async with asking(dsn, query(tmp_path, "broken", sql, *parameters), query(tmp_path, "whole", "VALUES (1)")) as ask:
        reply = await ask("broken")
        assert (reply.status, reply.code) == (503, "query_unusable")
        assert said in reply.json["detail"]
        assert reply.json["hint"]
        assert (await ask("broken")).code == "query_unusable"  # not looked at again so soon
        assert (await ask("whole")).rows == [{"column1": 1}]
        # It harms nothing else.
        views = (await ask("/views")).json
        assert [one["name"] for one in views["queries"]] == ["broken"]
        assert said in views["queries"][0]["problem"]
        assert not [reason for reason in views["reasons"] if "broken" in reason]
        listed = {one["name"]: one for one in (await ask("/api/queries")).json["queries"]}
        assert listed["broken"]["usable"] is False
        assert said in listed["broken"]["problem"]
        assert listed["whole"]["usable"] is True
        assert len(ask.running.seen.of(QueryBroken)) == 1


async def test_a_broken_query_heals_when_its_table_appears(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "late", "SELECT id FROM late ORDER BY id", cache_key="late")
    async with asking(dsn, made) as ask:
        assert (await ask("late")).code == "query_unusable"
        await db.execute("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1);")
        await ask.usable("late")  # which looks at nothing: it was looked at by itself
        assert (await ask("late")).rows == [{"id": 1}]
        assert ask.running.seen.of(QueryReady, after_failure=True)


async def test_tables_that_change_their_form_meanwhile(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    sql = "SELECT * FROM people WHERE name = $1"
    async with asking(dsn, query(tmp_path, "people", sql, "name", cache_key="people")) as ask:
        assert (await ask("people?name=Ada")).rows == [{"id": 1, "name": "Ada", "city": "London"}]
        for change, row in (
            ("ALTER TABLE people ADD COLUMN age int", {"id": 1, "name": "Ada", "city": "London", "age": None}),
            ("ALTER TABLE people DROP COLUMN city", {"id": 1, "name": "Ada", "age": None}),
            ("ALTER TABLE people ALTER COLUMN age TYPE text", {"id": 1, "name": "Ada", "age": None}),
            (
                "ALTER TABLE people ADD COLUMN data bytea DEFAULT 'x'",
                {"id": 1, "name": "Ada", "age": None, "data": "eA=="},
            ),
            ("ALTER TABLE people DROP COLUMN data", {"id": 1, "name": "Ada", "age": None}),
            (
                """
                DROP TABLE people; CREATE TABLE people (name text, score numeric);
                INSERT INTO people VALUES ('Ada', 1.50); SELECT afresh.watch('people')
                """,
                {"name": "Ada", "score": 1.5},
            ),
        ):
            await people.execute(change)

            async def changed(row: dict[str, Any] = row) -> bool:
                reply = await ask("people?name=Ada")
                assert reply.status in (200, 503), reply.body
                return reply.status == 200 and reply.rows == [row]

            await eventually(changed)
            columns = ",".join(row)

            async def csv_too(columns: str = columns) -> bool:
                reply = await ask("people.csv?name=Ada")
                assert reply.status in (200, 503), reply.body
                return reply.body.decode().splitlines()[0] == columns

            await eventually(csv_too)
        await people.execute("ALTER TABLE people ALTER COLUMN name TYPE int USING 7")

        async def other_type() -> bool:
            return (await ask("people?name=7")).status == 200

        await eventually(other_type)
        assert (await ask("people?name=Ada")).code == "bad_parameter"


async def test_looking_at_a_query_leaves_no_lock_behind(people: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    section = query(tmp_path, "people", "SELECT * FROM people WHERE id = $1", "id")
    made = Settings.model_validate({"database": {"dsn": dsn}, "query": {"concurrency": 1}, "queries": [section]})
    (named,) = named_query.collect(made, [])
    async with execution.Execution.opened(made.database, made.query) as running:
        for _ in range(3):
            prepared = await running.prepare(named)
            await people.execute("SET lock_timeout = '5s'; ALTER TABLE people ALTER COLUMN city DROP NOT NULL")
            assert (await running.rows(named, prepared, (1,))).count == 1
            assert [len(rows) async for rows in running.batches(named, prepared, (1,))] == [1]
        await running.forget()
        with pytest.raises(NamesChanged):  # asyncpg's own, after it has prepared the statement: it is none of its type
            await running.rows(named, prepared, ("x",))
        await people.execute("ALTER TABLE people ALTER COLUMN city DROP NOT NULL")


async def test_the_documents_for_machines_have_the_queries(
    people: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    listed: list[dict[str, Any]] = [
        {"name": "most", "type": "int", "default": 5, "description": "How many."},
        {"name": "city", "nullable": True},
    ]
    sql = "SELECT id, name FROM people WHERE id <= $1 AND city IS NOT DISTINCT FROM $2"
    made = [
        query(tmp_path, "people", sql, *listed, path="/api/people/{most}", description="Some people"),
        query(tmp_path, "posted", sql, *listed, method="POST"),
        query(tmp_path, "broken", "SELECT * FROM nowhere WHERE x = $1", {"name": "x", "type": "int[]"}),
    ]
    async with asking(dsn, *made) as ask:
        for name in ("people", "posted"):
            await ask.usable(name)
        whole = (await ask("/openapi.json")).json
        get = whole["paths"]["/api/people/{most}"]["get"]
        assert get["summary"] == "Some people"
        by_name = {one["name"]: one for one in get["parameters"]}
        assert by_name["most"]["in"] == "path"
        assert by_name["most"]["required"] is True
        assert by_name["most"]["schema"] == {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1, "default": 5}
        assert by_name["city"]["required"] is False
        row = get["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["rows"]["items"]
        assert row["required"] == ["id", "name"]
        body = whole["paths"]["/api/queries/posted"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator.check_schema(body)
        jsonschema.validate({"most": 3, "city": None}, body)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"most": "3"}, body)
        (unknown,) = [one for one in whole["paths"]["/api/queries/broken"]["get"]["parameters"] if one["name"] == "x"]
        assert unknown["schema"]["items"]["type"] == "integer"
        names = {one["name"]: one for one in (await ask("/api/queries")).json["queries"]}
        schema = whole["components"]["schemas"]["Query"]
        for one in names.values():
            jsonschema.validate(one, {**schema, "additionalProperties": False, "required": list(schema["properties"])})
        assert names["people"]["columns"] == ["id", "name"]


async def test_pages_of_named_origins_may_read_the_headers(dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "one", "SELECT 1 AS x")
    async with asking(dsn, made, server={"origins": ["https://app.example"]}) as ask:
        reply = await ask("one", headers={"Origin": "https://app.example"})
        assert reply.headers["Vary"] == "Accept, Origin"
        for header in ("ETag", "X-Cache", "Afresh-Position"):
            assert header in reply.headers["Access-Control-Expose-Headers"]
        reply = await ask("one", "OPTIONS", headers={"Origin": "https://app.example"})
        assert "Afresh-Position" in reply.headers["Access-Control-Allow-Headers"]


#: Texts that a client may send: of all characters, and of those that mean something somewhere.
TEXTS = st.one_of(st.text(max_size=20), st.text("[]{}\",'\\0:1e-.%+ \0\ud800nul", max_size=20))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=10,
)
TYPES = (
    "int",
    "numeric",
    "float4",
    "text",
    "date",
    "timestamptz",
    "interval",
    "jsonb",
    "inet",
    "bytea",
    "uuid",
    "int[]",
    "text[]",
)


async def test_whatever_a_client_sends_is_his_own_fault(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [{"name": f"p{number}", "nullable": True} for number in range(len(TYPES))]
    sql = "SELECT " + ", ".join(f"${number}::{name} AS c{number}" for number, name in enumerate(TYPES, 1))
    names = st.one_of(st.sampled_from([one["name"] for one in listed]), TEXTS)
    made = [query(tmp_path, "got", sql, *listed), query(tmp_path, "posted", sql, *listed, method="POST")]
    replies: list[int] = []
    async with asking(dsn, *made) as ask:
        loop = asyncio.get_running_loop()

        def answered(path: str, method: str = "GET", **arguments: Any) -> int:
            future = asyncio.run_coroutine_threadsafe(ask(path, method, **arguments), loop)
            reply = future.result(PATIENCE)
            replies.append(reply.status)
            assert reply.status < 500, reply.body
            return reply.status

        slow = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

        @slow
        @given(st.lists(st.tuples(names, TEXTS), max_size=5))
        def query_strings(pairs: list[tuple[str, str]]) -> None:
            text = "&".join(
                f"{quote(a.encode('utf-8', 'surrogatepass'))}={quote(b.encode('utf-8', 'surrogatepass'))}"
                for a, b in pairs
            )
            answered(f"got?{text}")

        @slow
        @given(st.dictionaries(names, VALUES, max_size=5))
        def bodies(body: dict[str, Any]) -> None:
            import json

            answered("posted", "POST", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})

        @slow
        @given(st.binary(max_size=60), TEXTS.filter(lambda text: text.isprintable() and text.isascii()))
        def bytes_and_headers(body: bytes, text: str) -> None:
            headers = {"Content-Type": "application/json", "Accept": text, "If-None-Match": text}
            answered("posted", "POST", data=body, headers=headers)
            answered("got", headers={"Afresh-Position": text, "Accept": text, "If-None-Match": text})

        for one in (query_strings, bodies, bytes_and_headers):
            await asyncio.to_thread(one)
    assert {200, 400} <= set(replies)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_server_that_is_down_is_said_to_be(db: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "one", "SELECT pg_terminate_backend(pg_backend_pid()) AS x")
    async with asking(dsn, made) as ask, connected(dsn):
        reply = await ask("one")
        assert (reply.status, reply.code) == (503, "query_failed")
