"""Every type of a named query's parameters and columns, there and back; and what no value of it can be."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest

from support.named_queries import asking, query

SETUP = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TYPE mood AS ENUM ('glad', 'so, so');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN moods AS mood;
CREATE TYPE pair AS (a int, b text);
"""

#: A type, and values of it: what a client sends (as text, and as JSON where that is otherwise), and what he gets back (as
#: JSON, the same where it is left out).
SAMPLES: list[tuple[str, list[tuple[Any, ...]]]] = [
    ("smallint", [("-32768", -32768), ("32767", 32767)]),
    ("integer", [("0", 0), ("-2147483648", -2147483648)]),
    ("bigint", [("9223372036854775807", 9223372036854775807), ("-9223372036854775808", -9223372036854775808)]),
    ("real", [("1.5", 1.5), ("-0.25", -0.25)]),
    ("double precision", [("0.1", 0.1), ("1e300", 1e300)]),
    (
        "numeric",
        [("12345678901234567890.123456789", Decimal("12345678901234567890.123456789")), ("1.10", Decimal("1.10"))],
    ),
    ("boolean", [("true", True), ("false", False)]),
    (
        "text",
        [("a b", "a b"), ("", ""), ('say "ü, 😀\n', 'say "ü, 😀\n'), ("'; DROP TABLE x; --", "'; DROP TABLE x; --")],
    ),
    ("character varying", [("x", "x")]),
    ("name", [("pg_class", "pg_class")]),
    ("uuid", [("6f1b3c1e-2f0a-4e07-9a3e-0d4f5c6b7a80", "6f1b3c1e-2f0a-4e07-9a3e-0d4f5c6b7a80")]),
    ("date", [("2026-02-28", "2026-02-28")]),
    ("time without time zone", [("03:04:05.25", "03:04:05.25", "03:04:05.25")]),
    ("timestamp without time zone", [("2026-01-02T03:04:05", "2026-01-02T03:04:05")]),
    (
        "timestamp with time zone",
        [("2026-01-02T03:04:05.5+01:00", "2026-01-02T03:04:05.5+01:00", "2026-01-02T02:04:05.5+00:00")],
    ),
    ("interval", [("P1Y2M3DT4H5M6S", "P1Y2M3DT4H5M6S"), ("PT90S", "PT90S", "PT1M30S")]),
    ("json", [('{"a":[1,null,"x"]}', {"a": [1, None, "x"]})]),
    ("jsonb", [('{"a":1.10}', {"a": Decimal("1.10")}), ('"text"', "text")]),
    ("inet", [("10.0.0.1", "10.0.0.1"), ("10.0.0.1/8", "10.0.0.1/8"), ("::1", "::1")]),
    ("cidr", [("10.0.0.0/8", "10.0.0.0/8")]),
    ("bytea", [("AP9oaQ==", "AP9oaQ==")]),
    ("mood", [("so, so", "so, so")]),
    ("moods", [("glad", "glad")]),
    ("positive", [("7", 7)]),
    ("vector", [("[0.5,2]", [0.5, 2])]),
    ("integer[]", [("[1,2]", [1, 2]), ("[]", [])]),
    ("text[]", [('["a","b,c"]', ["a", "b,c"])]),
    ("mood[]", [('["glad"]', ["glad"])]),
    ("positive[]", [("[3]", [3])]),
    (
        "timestamp with time zone[]",
        [('["2026-01-02T00:00:00Z"]', ["2026-01-02T00:00:00Z"], ["2026-01-02T00:00:00+00:00"])],
    ),
]


def dump(value: Any) -> str:
    """JSON in which decimals have all their digits."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{dump(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


def load(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


@pytest.fixture
async def typed(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(SETUP)
    return db


async def test_every_type_goes_there_and_back(typed: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    queries = []
    for number, (name, _) in enumerate(SAMPLES):
        sql = f"SELECT $1::{name} AS x"
        parameter = {"name": "x", "type": name}
        queries.append(query(tmp_path, f"get_{number}", sql, parameter))
        queries.append(query(tmp_path, f"post_{number}", sql, parameter, method="POST"))
    async with asking(dsn, *queries) as ask:
        for number, (name, samples) in enumerate(SAMPLES):
            for text, value, *back in samples:
                expected = load(dump(back[0] if back else value))
                reply = await ask(f"get_{number}?{urlencode({'x': text})}")
                assert (reply.status, load(reply.body)["rows"]) == (200, [{"x": expected}]), name
                body = dump({"x": value})
                headers = {"Content-Type": "application/json"}
                reply = await ask(f"post_{number}", "POST", data=body, headers=headers)
                assert (reply.status, load(reply.body)["rows"]) == (200, [{"x": expected}]), name
                reply = await ask(f"get_{number}.csv?{urlencode({'x': text})}")
                assert reply.headers["Content-Type"].startswith("text/csv")
                (header, (field,)) = csv.reader(io.StringIO(reply.body.decode(), newline=""))
                assert header == ["x"]
                if isinstance(expected, str) and name != "jsonb":
                    assert field == expected, name
                else:
                    assert load(field) == expected, name
        listed = {one["name"]: one for one in (await ask("/api/queries")).json["queries"]}
        for number, (name, _) in enumerate(SAMPLES):
            assert listed[f"get_{number}"]["parameters"][0]["type"] == name


async def test_columns_that_no_client_can_send_are_told_all_the_same(
    typed: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    sql = """
    SELECT row(1, 'x')::pair AS pair, ARRAY[row(1, 'x')::pair] AS pairs, int4range(1, 3) AS range, 'NaN'::float8 AS nan,
        '-Infinity'::numeric AS low, 'infinity'::timestamptz AS ever, point(1, 2) AS point, NULL::int AS nothing,
        ''::text AS empty, 'a'::"char" AS letter, '12.50'::numeric AS money, '{{1,2},{3,4}}'::int[] AS grid,
        1 AS "odd ""one"" name", 2 AS "afresh", NULL::bytea AS no_bytes, repeat('x', 100)::bytea AS long_bytes
    """
    async with asking(dsn, query(tmp_path, "odd", sql)) as ask:
        reply = await ask("odd")
        (row,) = load(reply.body)["rows"]
        assert row == {
            "pair": {"a": 1, "b": "x"},
            "pairs": [{"a": 1, "b": "x"}],
            "range": "[1,3)",
            "nan": "NaN",
            "low": "-Infinity",
            "ever": "infinity",
            "point": "(1,2)",
            "nothing": None,
            "empty": "",
            "letter": "a",
            "money": Decimal("12.50"),
            "grid": [[1, 2], [3, 4]],
            'odd "one" name': 1,
            "afresh": 2,
            "no_bytes": None,
            "long_bytes": row["long_bytes"],
        }
        assert len(row["long_bytes"]) == 136
        assert "\n" not in row["long_bytes"]
        text = (await ask("odd.csv")).body.decode()
        header, values = csv.reader(io.StringIO(text, newline=""))
        found = dict(zip(header, values, strict=True))
        assert load(found["pair"]) == {"a": 1, "b": "x"}
        assert found["ever"] == "infinity"
        assert load(found["grid"]) == [[1, 2], [3, 4]]
        # NULL is nothing, and the empty text is two quotes.
        assert text.splitlines()[1].split(",point")[0].count(',,""') == 1


#: What is no value of a type, in a query string and in JSON.
WRONG: list[tuple[str, list[str], list[Any]]] = [
    ("smallint", ["32768", "-32769", "1.5", "x", "", "1_0", " 1", "0x1", "٣"], [32768, 1.5, "1", True, None, [1], {}]),
    ("integer", ["2147483648", "1e3", "9" * 5000], [2147483648, "1", 1e3, False, None]),
    ("bigint", ["9223372036854775808"], [9223372036854775808, -(10**30)]),
    ("real", ["1e39", "nan", "inf", "x"], [1e39, "1", None]),
    ("double precision", ["1e400", "NaN", "-Infinity", ""], ["x", True]),
    ("numeric", ["NaN", "Infinity", "1e1001", "1e-1001", "1e999999", "x"], ["NaN", True, [], "x"]),
    ("boolean", ["2", "yes please", ""], ["true", 1, 0]),
    ("text", ["a\0b"], [5, True, None, ["x"], "a\0b"]),
    ("name", ["x" * 64], ["ü" * 32]),
    ("uuid", ["x", "6f1b3c1e"], ["6f1b3c1e-2f0a-4e07-9a3e-0d4f5c6b7a8g", 1]),
    ("date", ["2026-02-30", "1700000000", "28.2.2026", "0000-01-01", "2026-02-28T00:00:00"], [20260228, "x"]),
    ("time without time zone", ["25:00", "12", "03:04:05Z"], ["x"]),
    ("timestamp without time zone", ["2026-01-02T03:04:05Z", "2026-01-02", "1700000000"], [1700000000]),
    (
        "timestamp with time zone",
        ["2026-01-02T03:04:05", "2026-01-02", "1700000000", "0001-01-01T00:00:00+14:00", "2026-01-02T03:04:05 01:00"],
        [1700000000, "now"],
    ),
    ("interval", ["P", "PT", "1 day", "P1.5Y", "P9999999D", "-P1D"], [5, "x"]),
    ("jsonb", ["{", "NaN", '"\\u0000"', "[" * 1500, "'x'", ""], ["a\0b", {"a": ["\0"]}]),
    ("inet", ["10.0.0.256", "10.0.0.1/33", "x", ""], [167772161]),
    ("cidr", ["10.0.0.1/8"], ["x"]),
    ("bytea", ["x", "AP9", "\\x00"], [1]),
    ("mood", ["sad", ""], [1, "Glad"]),
    ("vector", ["[]", "[1,", "1", '["1"]', "[1e400]", "[null]"], [[], [True], "[1]", 1]),
    ("integer[]", ["[1", '["a"]', "[2147483648]", "[[1]]", "x"], [1, ["1"], [[1]], {}, [1.5]]),
]


async def test_what_is_no_value_of_its_type_is_refused_and_named(
    typed: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    queries = []
    for number, (name, _, _) in enumerate(WRONG):
        sql = f"SELECT $1::{name} AS x"
        queries.append(query(tmp_path, f"get_{number}", sql, "x"))
        queries.append(query(tmp_path, f"post_{number}", sql, "x", method="POST"))
    async with asking(dsn, *queries) as ask:
        for number, (name, texts, values) in enumerate(WRONG):
            replies = [await ask(f"get_{number}?{urlencode({'x': text})}") for text in texts]
            replies += [await ask(f"post_{number}", "POST", json={"x": value}) for value in values]
            for given, reply in zip([*texts, *values], replies, strict=True):
                assert (reply.status, reply.code) == (400, "bad_parameter"), (name, given, reply.body)
                assert reply.json["parameter"] == "x"
                assert "x: expected " in reply.json["detail"], (name, given)


async def test_what_its_type_refuses_later_is_refused_with_its_reason(
    typed: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    queries = [
        query(tmp_path, "domain", "SELECT $1::positive AS x", "x"),
        query(tmp_path, "cast_text", "SELECT $1::text::int4range AS x", "x"),
        query(tmp_path, "ts_query", "SELECT $1::text::tsquery::text AS x", "x"),
        query(tmp_path, "divided", "SELECT 1 / $1::int AS x", "x"),
        query(tmp_path, "dimensions", "SELECT $1::vector(3)::text AS x", "x"),
    ]
    async with asking(dsn, *queries) as ask:
        for name, value, said in (
            ("domain", "-1", "positive"),
            ("cast_text", "[3,1)", "lower bound"),
            ("ts_query", "a & & b", "syntax error"),
            ("divided", "0", "division by zero"),
            ("dimensions", "[1,2]", "dimensions"),
        ):
            reply = await ask(f"{name}?{urlencode({'x': value})}")
            assert (reply.status, reply.code) == (422, "query_refused"), reply.body
            assert said in reply.json["detail"]
        assert (await ask("cast_text?x=[1,3)")).rows == [{"x": "[1,3)"}]
        assert [query["usable"] for query in (await ask("/api/queries")).json["queries"]] == [True] * 5
