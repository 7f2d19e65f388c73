"""What a change says: the trigger function at row level and at statement level, on everything that can be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import pytest

from conftest import ServerUnderTest, migrate_up
from sql.hearing import Hearing, hearing

RESPONSES = """
    CREATE TABLE nps_responses (id int PRIMARY KEY, client_name text, score int);
    INSERT INTO nps_responses SELECT n, 'client ' || n % 3, 0 FROM generate_series(1, 9) AS n;
"""

BY_HAND = """
    CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE ON nps_responses
    FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
"""

WATCHED = "SELECT afresh.watch('nps_responses', '{client_name}')"

NOTIFIED = "SELECT afresh.watch('nps_responses', '{client_name}', capture => 'notify')"

WITHOUT_KEYS = "SELECT afresh.watch('nps_responses')"

every_way = pytest.mark.parametrize(
    "setup", [BY_HAND, WATCHED, WITHOUT_KEYS, NOTIFIED], ids=["row", "log", "log without keys", "notify"]
)

NAME = "public.nps_responses"

both = pytest.mark.usefixtures("each_capture")


def clients(*numbers: int) -> list[dict[str, str]]:
    return [{"client_name": f"client {number}"} for number in numbers]


def unordered(keys: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[str, Any], ...]]:
    return sorted(tuple(key.items()) for key in keys)


# -- the message ------------------------------------------------------------------------------------------------------


@both
async def test_message_reads_as_promised(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await ear.raw()
    async with db.transaction():
        await db.execute("UPDATE nps_responses SET score = 7 WHERE id = 3")
        xid = await db.fetchval("SELECT pg_current_xact_id()::text")
    [payload] = await ear.raw()
    assert payload == (
        '{"v":1,"table":"public.nps_responses","op":"UPDATE","keys":[{"client_name":"client 0"}],'
        f'"rows":1,"xid":"{xid}"}}'
    )


async def test_row_level_message_reads_as_promised(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + BY_HAND)
    await ear.raw()
    async with db.transaction():
        await db.execute("UPDATE nps_responses SET score = 7 WHERE id = 3")
        xid = await db.fetchval("SELECT pg_current_xact_id()::text")
    assert await ear.raw() == [
        f'{{"v":1,"table":"public.nps_responses","op":"UPDATE","keys":null,"rows":null,"xid":"{xid}"}}'
    ]


# -- statements -------------------------------------------------------------------------------------------------------


@both
async def test_insert_update_delete_and_truncate_are_told_with_keys(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("INSERT INTO nps_responses VALUES (10, 'new', 1), (11, NULL, 2)")
    await db.execute("UPDATE nps_responses SET client_name = 'renamed' WHERE id = 10")
    await db.execute("DELETE FROM nps_responses WHERE id = 10")
    await db.execute("TRUNCATE nps_responses")
    assert await ear.changes() == [
        (NAME, "INSERT", [{"client_name": "new"}, {"client_name": None}], 2),
        (NAME, "UPDATE", [{"client_name": "new"}, {"client_name": "renamed"}], 1),
        (NAME, "DELETE", [{"client_name": "renamed"}], 1),
        (NAME, "TRUNCATE", None, None),
    ]


async def test_row_level_trigger_as_documented_tells_insert_update_and_delete(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(RESPONSES + BY_HAND)
    await db.execute("INSERT INTO nps_responses VALUES (10, 'new', 1), (11, NULL, 2)")
    await db.execute("UPDATE nps_responses SET score = 9 WHERE id > 3")
    await db.execute("DELETE FROM nps_responses WHERE id > 3")
    assert await ear.changes() == [(NAME, operation, None, None) for operation in ("INSERT", "UPDATE", "DELETE")]


@both
async def test_copy_is_one_message(dsn: str, db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.copy_records_to_table("nps_responses", records=[(n, f"client {n % 2}", 1) for n in range(100, 200)])
    [(table, operation, keys, rows)] = await ear.changes()
    assert (table, operation, rows) == (NAME, "INSERT", 100)
    assert unordered(keys) == unordered(clients(0, 1))


@both
async def test_merge_tells_each_thing_it_did(db: asyncpg.Connection, ear: Hearing) -> None:
    if db.get_server_version().major < 15:
        pytest.skip("MERGE came with PostgreSQL 15")
    await db.execute(RESPONSES + WATCHED)
    await db.execute("""
        MERGE INTO nps_responses AS r
        USING (VALUES (1, 5), (2, 6), (50, 7)) AS v (id, score) ON r.id = v.id
        WHEN MATCHED AND v.id = 1 THEN DELETE
        WHEN MATCHED THEN UPDATE SET score = v.score
        WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'merged', v.score)
    """)
    assert sorted(await ear.changes()) == [
        (NAME, "DELETE", clients(1), 1),
        (NAME, "INSERT", [{"client_name": "merged"}], 1),
        (NAME, "UPDATE", clients(2), 1),
    ]


@both
async def test_upsert_tells_what_it_inserted_and_what_it_updated(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    upsert = """
        INSERT INTO nps_responses VALUES (1, 'ignored', 8), (60, 'upserted', 8)
        ON CONFLICT (id) DO UPDATE SET score = EXCLUDED.score
    """
    await db.execute(upsert)
    assert sorted(await ear.changes()) == [
        (NAME, "INSERT", [{"client_name": "upserted"}], 1),
        (NAME, "UPDATE", clients(1), 1),
    ]
    await db.execute(upsert)
    assert await ear.changes() == []
    await db.execute("INSERT INTO nps_responses VALUES (1, 'ignored', 8) ON CONFLICT DO NOTHING")
    assert await ear.changes() == []


@both
async def test_statement_that_touches_no_row_says_nothing(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("INSERT INTO nps_responses SELECT 1, 'x', 1 WHERE false")
    await db.execute("UPDATE nps_responses SET score = 1 WHERE false")
    await db.execute("DELETE FROM nps_responses WHERE false")
    assert await ear.changes() == []


@both
async def test_writable_with_clause_tells_each_table(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("CREATE TABLE archive (LIKE nps_responses); SELECT afresh.watch('archive')")
    await db.execute("""
        WITH gone AS (DELETE FROM nps_responses WHERE id = 1 RETURNING *) INSERT INTO archive SELECT * FROM gone
    """)
    assert sorted(await ear.changes()) == [
        ("public.archive", "INSERT", None, 1),
        (NAME, "DELETE", clients(1), 1),
    ]


@both
async def test_foreign_key_cascade_is_told(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE TABLE client (name text PRIMARY KEY);
        CREATE TABLE meeting (id int, client text REFERENCES client ON UPDATE CASCADE ON DELETE CASCADE);
        INSERT INTO client VALUES ('Acme');
        INSERT INTO meeting VALUES (1, 'Acme'), (2, 'Acme');
        SELECT afresh.watch('meeting', '{client}');
        UPDATE client SET name = 'Apex';
        DELETE FROM client;
    """)
    assert await ear.changes() == [
        ("public.meeting", "UPDATE", [{"client": "Acme"}, {"client": "Apex"}], 2),
        ("public.meeting", "DELETE", [{"client": "Apex"}], 2),
    ]


# -- transactions -----------------------------------------------------------------------------------------------------


@every_way
async def test_rolled_back_transaction_says_nothing(db: asyncpg.Connection, ear: Hearing, setup: str) -> None:
    await db.execute(RESPONSES + setup)
    await ear.raw()
    await db.execute("BEGIN; UPDATE nps_responses SET score = 1; DELETE FROM nps_responses; ROLLBACK")
    assert await ear.raw() == []


@both
async def test_nothing_is_said_before_the_commit(dsn: str, db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    async with db.transaction():
        await db.execute("UPDATE nps_responses SET score = 1 WHERE id = 1")
        assert await ear.changes() == []
    assert await ear.changes() == [(NAME, "UPDATE", clients(1), 1)]


@every_way
async def test_rolled_back_savepoint_says_only_what_survives(db: asyncpg.Connection, ear: Hearing, setup: str) -> None:
    await db.execute(RESPONSES + setup)
    await db.execute("""
        BEGIN;
        INSERT INTO nps_responses VALUES (10, 'kept', 1);
        SAVEPOINT s;
        DELETE FROM nps_responses;
        ROLLBACK TO s;
        UPDATE nps_responses SET score = 2 WHERE id = 10;
        COMMIT;
    """)
    assert [operation for _, operation, _, _ in await ear.changes()] == ["INSERT", "UPDATE"]


@pytest.mark.parametrize(("setup", "told"), [(BY_HAND, 1), (NOTIFIED, 1), (WATCHED, 4)], ids=["row", "notify", "log"])
async def test_released_savepoints_fold_into_one_notification(
    db: asyncpg.Connection, ear: Hearing, setup: str, told: int
) -> None:
    await db.execute(RESPONSES + setup)
    await db.execute("""
        BEGIN;
        UPDATE nps_responses SET score = score + 1 WHERE id = 1;
        SAVEPOINT a;
        UPDATE nps_responses SET score = score + 1 WHERE id = 1;
        SAVEPOINT b;
        UPDATE nps_responses SET score = score + 1 WHERE id = 1;
        RELEASE b;
        RELEASE a;
        UPDATE nps_responses SET score = score + 1 WHERE id = 1;
        COMMIT;
    """)
    assert len(await ear.changes()) == told


async def test_prepared_transaction_is_refused_by_postgres_and_says_nothing(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    """NOTIFY and PREPARE TRANSACTION exclude each other in PostgreSQL: a table of two-phase writers cannot be watched
    with capture 'notify'. A statement that changes nothing sends nothing, and its transaction can be prepared.
    """
    if await db.fetchval("SELECT current_setting('max_prepared_transactions')::int = 0"):
        pytest.skip("max_prepared_transactions is 0 on this server")
    await db.execute(RESPONSES + NOTIFIED)
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="NOTIFY"):
        await db.execute("BEGIN; UPDATE nps_responses SET score = 1; PREPARE TRANSACTION 'afresh_test'")
    await db.execute("BEGIN; UPDATE nps_responses SET score = 0; PREPARE TRANSACTION 'afresh_test'")
    await db.execute("COMMIT PREPARED 'afresh_test'")
    assert await ear.changes() == []


# -- many rows --------------------------------------------------------------------------------------------------------


@both
async def test_statement_touching_100000_rows_is_one_message(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("INSERT INTO nps_responses SELECT n, 'client ' || n, 0 FROM generate_series(101, 100100) AS n")
    await db.execute("UPDATE nps_responses SET score = 1 WHERE id > 100")
    await db.execute("UPDATE nps_responses SET score = 1 WHERE id > 100")
    await db.execute("DELETE FROM nps_responses WHERE id > 100")
    assert await ear.changes() == [(NAME, operation, None, 100_000) for operation in ("INSERT", "UPDATE", "DELETE")]


async def test_row_level_trigger_on_100000_rows_is_one_message(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + BY_HAND)
    await db.execute("INSERT INTO nps_responses SELECT n, 'client ' || n, 0 FROM generate_series(101, 100100) AS n")
    await db.execute("UPDATE nps_responses SET score = 1 WHERE id > 100")
    await db.execute("UPDATE nps_responses SET score = 1 WHERE id > 100")
    await db.execute("DELETE FROM nps_responses WHERE id > 100")
    assert await ear.changes() == [(NAME, operation, None, None) for operation in ("INSERT", "UPDATE", "DELETE")]


@both
async def test_last_of_many_rows_that_changes_is_noticed(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("INSERT INTO nps_responses SELECT n, 'x', 0 FROM generate_series(101, 5100) AS n")
    await ear.raw()
    await db.execute("UPDATE nps_responses SET score = CASE id WHEN 5100 THEN 1 ELSE score END WHERE id > 100")
    assert await ear.changes() == [(NAME, "UPDATE", [{"client_name": "x"}], 5000)]


# -- an update that changes nothing -----------------------------------------------------------------------------------


@every_way
async def test_update_that_changes_nothing_says_nothing(db: asyncpg.Connection, ear: Hearing, setup: str) -> None:
    await db.execute(RESPONSES + setup)
    await ear.raw()
    await db.execute("UPDATE nps_responses SET score = score, client_name = client_name")
    await db.execute("UPDATE nps_responses SET score = 0 WHERE id = 1")
    assert await ear.raw() == []


async def test_change_without_keys_is_one_row_of_the_log(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WITHOUT_KEYS)
    await db.execute("UPDATE nps_responses SET score = 1")
    await db.execute("UPDATE nps_responses SET score = 2 WHERE id = 1")
    await db.execute("UPDATE nps_responses SET score = score % 2 WHERE id < 3")
    await db.execute("INSERT INTO nps_responses VALUES (10, 'new', 1), (11, NULL, 2)")
    await db.execute("DELETE FROM nps_responses WHERE id > 9")
    await db.execute("TRUNCATE nps_responses")
    assert [(operation, keys) for _, operation, keys, _ in await ear.changes()] == [
        *[("UPDATE", None)] * 3,
        ("INSERT", None),
        ("DELETE", None),
        ("TRUNCATE", None),
    ]


async def test_row_trigger_by_hand_with_an_argument_of_ours_fails_no_writer(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(RESPONSES + BY_HAND.replace("refresh()", "refresh('afresh.log')"))
    await db.execute("UPDATE nps_responses SET score = 1 WHERE id = 1")
    assert await ear.changes() == [(NAME, "UPDATE", None, None)]


@every_way
async def test_one_changed_row_of_many_is_told(db: asyncpg.Connection, ear: Hearing, setup: str) -> None:
    await db.execute(RESPONSES + setup)
    for changed in (1, 5, 9):
        await ear.raw()
        await db.execute("UPDATE nps_responses SET score = CASE id WHEN $1 THEN score + 1 ELSE score END", changed)
        assert len(await ear.changes()) == 1


#: Types whose values compare as equal, or look the same as text, or cannot be compared or sent in binary at all.
PECULIAR = [
    ("json", "'{\"a\": 1}'", "'{\"a\":1}'"),
    ("aclitem", "'postgres=r/postgres'", "'postgres=w/postgres'"),
    ("aclitem[]", "'{postgres=r/postgres}'", "'{postgres=w/postgres}'"),
    ("float8", "0.1", "0.1::float8 + 1e-17 * 3"),
    ("float8", "0.0", "'-0.0'"),
    ("numeric", "1.0", "1.00"),
    ("point", "'(1,1)'", "'(1,1.0000001)'"),
    ("text", "NULL", "''"),
    ("text", "repeat('a', 100000)", "repeat('a', 99999) || 'b'"),
    ("int4range", "'[1,2)'", "'[1,3)'"),
    ("bytea", "'\\x00'", "'\\x01'"),
    ("tsvector", "'a'", "'b'"),
    ("refcursor", "'a'", "'b'"),
    ("txid_snapshot", "'1:1:'", "'2:2:'"),
]


@pytest.mark.parametrize("level", ["row", "statement"])
@pytest.mark.parametrize(("kind", "value", "other"), PECULIAR, ids=lambda part: str(part)[:24])
async def test_rows_are_compared_by_their_image(
    db: asyncpg.Connection, ear: Hearing, level: str, kind: str, value: str, other: str
) -> None:
    """With `extra_float_digits` as low as it goes, too, where different floats read the same."""
    await db.execute(f"CREATE TABLE t (id int, v {kind})")
    if kind == "text":
        await db.execute("ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    await db.execute(f"INSERT INTO t VALUES (1, {value}), (2, {value})")
    await db.execute(
        "SELECT afresh.watch('t', '{id}')"
        if level == "statement"
        else "CREATE TRIGGER x AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()"
    )
    await db.execute("SET extra_float_digits = -15")
    await ear.raw()
    await db.execute("UPDATE t SET v = v")
    await db.execute(f"UPDATE t SET v = {value}")
    assert await ear.changes() == []
    await db.execute(f"UPDATE t SET v = {other} WHERE id = 2")
    assert len(await ear.changes()) == 1


async def test_generated_columns_do_not_disturb_the_comparison(db: asyncpg.Connection, ear: Hearing) -> None:
    virtual = ", w int GENERATED ALWAYS AS (n + 1) VIRTUAL" if db.get_server_version().major >= 18 else ""
    await db.execute(f"""
        CREATE TABLE t (id int, n int, s int GENERATED ALWAYS AS (n * 2) STORED{virtual});
        INSERT INTO t VALUES (1, 1), (2, 2);
        SELECT afresh.watch('t', '{{id,s}}');
    """)
    await ear.raw()
    await db.execute("UPDATE t SET n = n")
    assert await ear.changes() == []
    await db.execute("UPDATE t SET n = 3 WHERE id = 1")
    assert await ear.changes() == [("public.t", "UPDATE", [{"id": 1, "s": 2}, {"id": 1, "s": 6}], 1)]


async def test_what_a_before_trigger_stores_is_what_counts(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE TABLE t (id int, v text, stamp int DEFAULT 0);
        INSERT INTO t VALUES (1, 'a');
        CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.stamp := OLD.stamp + 1; RETURN NEW; END';
        CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
        SELECT afresh.watch('t', '{id}');
        UPDATE t SET v = v;
    """)
    assert await ear.changes() == [("public.t", "UPDATE", [{"id": 1}], 1)]


# -- keys -------------------------------------------------------------------------------------------------------------


@both
async def test_key_values_of_every_permitted_type_are_json(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE TYPE mood AS ENUM ('so "so"', 'fine');
        CREATE DOMAIN code AS text CHECK (length(VALUE) < 9);
        CREATE DOMAIN inner_code AS code;
        CREATE TABLE t (
            a text, b varchar(9), c char(3), d name, e smallint, f int, g bigint, h numeric, i boolean, j uuid, k date,
            l timestamp, m mood, n inner_code, o inet, p cidr, q macaddr, r macaddr8
        );
        SELECT afresh.watch('t', '{a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r}');
        SET DateStyle = 'German';
        INSERT INTO t VALUES (
            E'tab\\there \\\\ "quoted" € 😀', 'v', 'x', 'n', 1, 2, 9007199254740993, 1.50, true,
            '00000000-0000-0000-0000-000000000001', '2024-02-29', '2024-02-29 12:34:56.789', 'so "so"', 'dom',
            '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05'
        ), (
            NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', NULL, NULL, 'infinity', NULL, NULL, NULL, NULL, NULL, NULL,
            NULL
        );
    """)
    [(_, _, keys, _)] = await ear.changes()
    assert keys[0] == {
        "a": 'tab\there \\ "quoted" € 😀',
        "b": "v",
        "c": "x  ",
        "d": "n",
        "e": 1,
        "f": 2,
        "g": 9007199254740993,
        "h": 1.50,
        "i": True,
        "j": "00000000-0000-0000-0000-000000000001",
        "k": "2024-02-29",
        "l": "2024-02-29T12:34:56.789",
        "m": 'so "so"',
        "n": "dom",
        "o": "10.0.0.1/8",
        "p": "10.0.0.0/8",
        "q": "08:00:2b:01:02:03",
        "r": "08:00:2b:01:02:03:04:05",
    }
    assert {name: value for name, value in keys[1].items() if value is not None} == {"h": "NaN", "k": "infinity"}


@both
async def test_up_to_100_keys_are_told_and_no_more(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int, n int DEFAULT 0); SELECT afresh.watch('t', '{id}')")
    insert = "INSERT INTO t SELECT i % $1 FROM generate_series(1, $2::int) AS i"
    for distinct, rows in ((100, 100), (100, 1000), (101, 101), (101, 1000), (3, 50)):
        await ear.raw()
        await db.execute(insert, distinct, rows)
        [(_, _, keys, told_rows)] = await ear.changes()
        assert told_rows == rows
        if distinct <= 100:
            assert unordered(keys) == [(("id", number),) for number in range(distinct)]
        else:
            assert keys is None


@both
async def test_keys_of_more_than_10000_rows_are_unknown(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int); SELECT afresh.watch('t', '{id}')")
    await db.execute("INSERT INTO t SELECT 7 FROM generate_series(1, 10000)")
    await db.execute("INSERT INTO t SELECT 7 FROM generate_series(1, 10001)")
    assert [(keys, rows) for _, _, keys, rows in await ear.changes()] == [([{"id": 7}], 10_000), (None, 10_001)]


async def test_notification_too_long_for_its_keys_goes_without_them(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (v text); SELECT afresh.watch('t', '{v}', capture => 'notify')")
    sizes = []
    for length in range(60, 81):
        await db.execute("INSERT INTO t SELECT lpad(i::text, $1, '€') FROM generate_series(1, 90) AS i", length // 3)
        await db.execute("INSERT INTO t SELECT lpad(i::text, $1, 'e') FROM generate_series(1, 90) AS i", length)
        sizes += [
            (len(payload.encode()), '"keys":null' in payload)
            for payload in await ear.notifications()
            if "INSERT" in payload
        ]
    assert all(size <= 7900 for size, _ in sizes)
    assert {unknown for _, unknown in sizes} == {True, False}, "the lengths tried must lie on both sides of the limit"
    assert max(size for size, _ in sizes) > 7700


async def test_keys_too_long_for_the_log_are_unknown(db: asyncpg.Connection) -> None:
    """A longer value would be compressed or moved out of its row, at the writer's cost."""
    await db.execute("CREATE TABLE t (v text); SELECT afresh.watch('t', '{v}')")
    for length in range(193, 213):
        await db.execute("INSERT INTO t SELECT lpad(i::text, $1, '€') FROM generate_series(1, 9) AS i", length // 3)
        await db.execute("INSERT INTO t SELECT lpad(i::text, $1, 'e') FROM generate_series(1, 9) AS i", length)
    sizes = [row["size"] for row in await db.fetch("SELECT octet_length(keys) AS size FROM afresh.change_log")]
    assert len(sizes) == 40
    assert None in sizes, "the lengths tried must lie on both sides of the limit"
    known = [size for size in sizes if size is not None]
    assert max(known) <= 1900
    assert max(known) > 1850
    assert await db.fetchval("SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'change_log'") == 0


@pytest.mark.parametrize(
    "value",
    [
        "repeat('k', 1001)",
        "repeat('k', 30000000)",
        "repeat('ü', 600)",
        "repeat(chr(1), 300)",
        "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)",
    ],
    ids=["just too long", "long and compressible", "multi-byte", "escapes", "toasted"],
)
@both
async def test_key_too_large_leaves_the_keys_unknown(db: asyncpg.Connection, ear: Hearing, value: str) -> None:
    await db.execute("CREATE TABLE t (v text); SELECT afresh.watch('t', '{v}')")
    await ear.raw()
    await db.execute(f"INSERT INTO t VALUES ('small'), ({value})")
    assert await ear.changes() == [("public.t", "INSERT", None, 2)]
    await db.execute("DELETE FROM t WHERE length(v) < 10")
    assert await ear.changes() == [("public.t", "DELETE", [{"v": "small"}], 1)]


@pytest.mark.parametrize("columns", [15, 16, 60])
async def test_key_of_many_columns_is_told(db: asyncpg.Connection, ear: Hearing, columns: int) -> None:
    """More than a function takes arguments, with and without a NULL among the values."""
    names = [f"c{number}" for number in range(columns)]
    await db.execute(f"CREATE TABLE t ({', '.join(f'{name} int DEFAULT 1' for name in names)})")
    await db.execute("SELECT afresh.watch('t', $1, 'notify')", names)
    await db.execute("INSERT INTO t DEFAULT VALUES")
    await db.execute("UPDATE t SET c0 = NULL")
    key = dict.fromkeys(names, 1)
    assert await ear.changes() == [
        ("public.t", "INSERT", [key], 1),
        ("public.t", "UPDATE", [key, key | {"c0": None}], 1),
    ]


async def test_names_of_columns_do_not_meet_the_names_in_the_function(db: asyncpg.Connection, ear: Hearing) -> None:
    names = ["o", "n", "r", "s", "k", "key", "keys", "touched", "differs", "category", "found_keys", "afresh_old"]
    await db.execute(f"CREATE TABLE t ({', '.join(f'{name} int DEFAULT 1' for name in names)})")
    await db.execute("SELECT afresh.watch('t', $1, 'notify')", names)
    await db.execute("INSERT INTO t DEFAULT VALUES")
    await db.execute("UPDATE t SET o = o")
    await db.execute("UPDATE t SET n = 2")
    await db.execute("DELETE FROM t")
    assert [operation for _, operation, _, _ in await ear.changes()] == ["INSERT", "UPDATE", "DELETE"]


async def test_number_with_a_long_text_leaves_the_keys_unknown(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (v numeric); SELECT afresh.watch('t', '{v}'); INSERT INTO t VALUES (1e100000)")
    assert await ear.changes() == [("public.t", "INSERT", None, 1)]


@both
async def test_numbers_that_are_equal_but_read_differently_are_two_keys(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (v numeric); SELECT afresh.watch('t', '{v}'); INSERT INTO t VALUES (1.5), (1.50)")
    assert '"keys":[{"v":1.5},{"v":1.50}]' in (await ear.raw())[-1]


@pytest.mark.parametrize(
    "alteration",
    [
        "ALTER TABLE nps_responses DROP COLUMN client_name",
        "ALTER TABLE nps_responses RENAME client_name TO client",
        "ALTER TABLE nps_responses ALTER client_name TYPE json USING to_json(client_name)",
        "ALTER TABLE nps_responses ALTER client_name TYPE timestamptz USING now()",
    ],
)
@both
async def test_key_column_that_went_away_leaves_the_keys_unknown(
    db: asyncpg.Connection, ear: Hearing, alteration: str
) -> None:
    """In the session that has used the trigger already, with all its plans in the cache."""
    await db.execute(RESPONSES + WATCHED)
    for _ in range(10):
        await db.execute("UPDATE nps_responses SET score = score + 1 WHERE id = 1")
    await db.execute(alteration)
    await ear.raw()
    await db.execute("UPDATE nps_responses SET score = score + 1 WHERE id < 3")
    await db.execute("UPDATE nps_responses SET score = score")
    await db.execute("INSERT INTO nps_responses (id) VALUES (99)")
    await db.execute("DELETE FROM nps_responses WHERE id < 3")
    assert await ear.changes() == [
        (NAME, "UPDATE", None, 2),
        (NAME, "INSERT", None, 1),
        (NAME, "DELETE", None, 2),
    ]


@both
async def test_plans_of_a_session_survive_changes_to_the_table(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("ALTER TABLE nps_responses ADD first_dropped int")
    write = "UPDATE nps_responses SET score = score + 1 WHERE id = 1"
    for alteration in (
        "ALTER TABLE nps_responses DROP COLUMN first_dropped",
        "ALTER TABLE nps_responses ADD added json DEFAULT '{}'",
        "ALTER TABLE nps_responses ALTER score TYPE bigint",
        "ALTER TABLE nps_responses ALTER added TYPE text",
        "ALTER TABLE nps_responses DROP COLUMN added",
        "ALTER TABLE nps_responses ADD another aclitem",
    ):
        for _ in range(7):
            await db.execute(write)
        await db.execute(alteration)
        await ear.raw()
        await db.execute(write)
        await db.execute("UPDATE nps_responses SET score = score")
        assert await ear.changes() == [(NAME, "UPDATE", clients(1), 1)], alteration


async def test_cast_to_json_made_by_a_user_is_not_called(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE TYPE colour AS ENUM ('red');
        CREATE FUNCTION explode(colour) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''boom''; END';
        CREATE CAST (colour AS json) WITH FUNCTION explode(colour);
        CREATE TABLE t (c colour);
        SELECT afresh.watch('t', '{c}');
        INSERT INTO t VALUES ('red');
    """)
    assert await ear.changes() == [("public.t", "INSERT", [{"c": "red"}], 1)]


# -- names ------------------------------------------------------------------------------------------------------------


@both
async def test_peculiar_names_are_quoted_as_sql_quotes_them(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE SCHEMA "Odd.Schema";
        CREATE TABLE "Odd.Schema"."My Table" ("Client" text, "a ""quoted"" % \\ 'one'" int, "select" int);
        SELECT afresh.watch('"Odd.Schema"."My Table"', ARRAY['Client', 'a "quoted" % \\ ''one''', 'select']);
        INSERT INTO "Odd.Schema"."My Table" VALUES ('Acme', 1, 2);
    """)
    assert await ear.changes() == [
        (
            '"Odd.Schema"."My Table"',
            "INSERT",
            [{"Client": "Acme", "a \"quoted\" % \\ 'one'": 1, "select": 2}],
            1,
        )
    ]


async def test_row_level_trigger_on_a_mixed_case_table_in_another_schema(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("""
        CREATE SCHEMA actions;
        CREATE TABLE actions."Client" (id int);
        CREATE TRIGGER x AFTER INSERT OR UPDATE OR DELETE ON actions."Client"
        FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
        INSERT INTO actions."Client" VALUES (1);
    """)
    assert await ear.changes() == [('actions."Client"', "INSERT", None, None)]


@pytest.mark.parametrize("letter", ["n", '"', "ü", "\x01"], ids=["plain", "quotes", "multi-byte", "control"])
@both
async def test_longest_names_fit(db: asyncpg.Connection, ear: Hearing, letter: str) -> None:
    name = letter * (63 // len(letter.encode()))
    quoted = '"' + name.replace('"', '""') + '"'
    await db.execute(f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} text)")
    await db.execute("SELECT afresh.watch($1::text::regclass, $2)", f"{quoted}.{quoted}", [name])
    await db.execute(f"INSERT INTO {quoted}.{quoted} VALUES ('v')")
    spelled = name if letter == "n" else quoted
    assert await ear.changes() == [(f"{spelled}.{spelled}", "INSERT", [{name: "v"}], 1)]


@both
async def test_settings_of_the_writers_session_change_nothing(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await db.execute("""
        CREATE SCHEMA trap;
        CREATE FUNCTION trap.pg_notify(text, text) RETURNS void LANGUAGE sql AS '';
        CREATE FUNCTION trap.same(record, record) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN false; END';
        CREATE OPERATOR trap.*<> (LEFTARG = record, RIGHTARG = record, FUNCTION = trap.same);
        SET search_path = trap, pg_catalog, public;
        SET quote_all_identifiers = on;
        SET standard_conforming_strings = off;
        SET escape_string_warning = off;
        SET plpgsql.extra_errors = 'all';
        SET plpgsql.variable_conflict = 'error';
        SET transform_null_equals = on;
        SET work_mem = '64kB';
        SET enable_hashjoin = off;
        SET enable_hashagg = off;
        SET default_transaction_read_only = off;
    """)
    await ear.raw()
    await db.execute("UPDATE public.nps_responses SET score = 5 WHERE id = 1")
    await db.execute("INSERT INTO public.nps_responses SELECT n, 'client 4', 1 FROM generate_series(200, 2200) AS n")
    await db.execute("UPDATE public.nps_responses SET score = score")
    assert await ear.changes() == [(NAME, "UPDATE", clients(1), 1), (NAME, "INSERT", clients(4), 2001)]


async def test_transition_tables_that_spill_to_disk_are_read_whole(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute("CREATE TABLE t (id int, k int, pad text); SELECT afresh.watch('t', '{k}')")
    await db.execute("INSERT INTO t SELECT n, n % 2, repeat('x', 500) FROM generate_series(1, 4000) AS n")
    await db.execute("SET work_mem = '64kB'")
    await ear.raw()
    await db.execute("UPDATE t SET pad = pad")
    assert await ear.changes() == []
    await db.execute("UPDATE t SET pad = CASE id WHEN 4000 THEN '' ELSE pad END")
    [(_, _, keys, rows)] = await ear.changes()
    assert (unordered(keys), rows) == ([(("k", 0),), (("k", 1),)], 4000)


@pytest.mark.parametrize(("encoding", "keys"), [("LATIN1", [{"größe": "Ärger"}]), ("SQL_ASCII", None)])
async def test_databases_in_other_encodings(
    server: ServerUnderTest, encoding: str, keys: list[dict[str, str]] | None
) -> None:
    """A database that does not know its encoding holds bytes that nobody could decode: such keys are not told."""
    name = await server.create(f"template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        dsn = server.dsn(name)
        await migrate_up(dsn)
        async with hearing(dsn) as ear:
            db = await asyncpg.connect(dsn)
            try:
                await db.execute("CREATE TABLE größen (größe text, plain text)")
                await db.execute("SELECT afresh.watch('größen', ARRAY['größe'])")
                await db.execute("INSERT INTO größen VALUES ('Ärger', 'plain')")
                assert await ear.changes() == [('public."größen"', "INSERT", keys, 1)]
                await db.execute("SELECT afresh.watch('größen', ARRAY['plain'])")
                await db.execute("DELETE FROM größen")
                assert await ear.changes() == [('public."größen"', "DELETE", [{"plain": "plain"}], 1)]
                assert await db.fetchval("SELECT keys FROM afresh.watched") == ["plain"]
            finally:
                await db.close()
    finally:
        await server.drop(name)


# -- trees ------------------------------------------------------------------------------------------------------------

PARTITIONED = """
    CREATE TABLE visit (id int, region text, n int DEFAULT 0) PARTITION BY LIST (region);
    CREATE TABLE visit_east (n int DEFAULT 0, dropped int, region text, id int);
    ALTER TABLE visit_east DROP COLUMN dropped;
    ALTER TABLE visit ATTACH PARTITION visit_east FOR VALUES IN ('east');
    CREATE TABLE visit_west PARTITION OF visit FOR VALUES IN ('west', 'far west') PARTITION BY LIST (region);
    CREATE TABLE visit_near PARTITION OF visit_west FOR VALUES IN ('west');
    CREATE TABLE visit_far PARTITION OF visit_west FOR VALUES IN ('far west');
    INSERT INTO visit VALUES (1, 'east'), (2, 'west'), (3, 'far west');
    SELECT afresh.watch('visit', '{id}');
"""


@both
async def test_writes_through_the_parent_and_straight_to_a_partition(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(PARTITIONED)
    await db.execute("INSERT INTO visit VALUES (4, 'east'), (5, 'west')")
    await db.execute("UPDATE visit SET n = n + 1 WHERE id > 3")
    await db.execute("UPDATE visit_far SET n = n + 1")
    await db.execute("INSERT INTO visit_west VALUES (6, 'west')")
    await db.execute("DELETE FROM visit_east WHERE id = 4")
    assert await ear.changes() == [
        ("public.visit", "INSERT", [{"id": 4}, {"id": 5}], 2),
        ("public.visit", "UPDATE", [{"id": 4}, {"id": 5}], 2),
        ("public.visit_far", "UPDATE", [{"id": 3}], 1),
        ("public.visit_west", "INSERT", [{"id": 6}], 1),
        ("public.visit_east", "DELETE", [{"id": 4}], 1),
    ]


@both
async def test_update_that_changes_nothing_in_any_partition_says_nothing(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(PARTITIONED)
    await ear.raw()
    await db.execute("UPDATE visit SET n = n, region = region")
    await db.execute("UPDATE visit_east SET n = n")
    assert await ear.raw() == []
    await db.execute("UPDATE visit SET n = CASE region WHEN 'far west' THEN 9 ELSE n END")
    assert [rows for _, _, _, rows in await ear.changes()] == [3]


@both
async def test_row_that_moves_to_another_partition_is_an_update(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(PARTITIONED)
    await db.execute("UPDATE visit SET region = 'west' WHERE id = 1")
    assert await ear.changes() == [("public.visit", "UPDATE", [{"id": 1}], 1)]
    await db.execute("UPDATE visit_west SET region = 'far west' WHERE id = 1")
    assert await ear.changes() == [("public.visit_west", "UPDATE", [{"id": 1}], 1)]


async def test_row_that_is_thrown_away_while_it_moves_is_a_change(db: asyncpg.Connection, ear: Hearing) -> None:
    """The transition tables are then of different lengths, and the rows after it out of step."""
    await db.execute(PARTITIONED)
    await db.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER refuse BEFORE INSERT ON visit_near FOR EACH ROW EXECUTE FUNCTION refuse();
        DELETE FROM visit;
        INSERT INTO visit VALUES (1, 'east'), (1, 'far west'), (1, 'far west');
    """)
    await ear.raw()
    await db.execute("UPDATE visit SET region = CASE region WHEN 'east' THEN 'west' ELSE region END")
    assert await ear.changes() == [("public.visit", "UPDATE", [{"id": 1}], 3)]
    await db.execute("UPDATE visit SET n = n")
    assert await ear.changes() == []
    await db.execute("DELETE FROM visit; INSERT INTO visit VALUES (1, 'east')")
    await ear.raw()
    await db.execute("UPDATE visit SET region = 'west'")
    assert await ear.changes() == [("public.visit", "UPDATE", [{"id": 1}], 1)]


@both
async def test_truncate_of_a_parent_names_every_member(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(PARTITIONED)
    await db.execute("TRUNCATE visit")
    assert sorted(table for table, operation, _, _ in await ear.changes() if operation == "TRUNCATE") == [
        "public.visit",
        "public.visit_east",
        "public.visit_far",
        "public.visit_near",
        "public.visit_west",
    ]


async def test_row_level_trigger_on_a_partitioned_table_names_the_partition(
    db: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(PARTITIONED + "SELECT afresh.unwatch('visit')")
    await db.execute("""
        CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE ON visit
        FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()
    """)
    await ear.raw()
    await db.execute("UPDATE visit SET n = 1 WHERE id = 3")
    await db.execute("INSERT INTO visit_near VALUES (9, 'west')")
    assert await ear.changes() == [
        ("public.visit_far", "UPDATE", None, None),
        ("public.visit_near", "INSERT", None, None),
    ]


INHERITED = """
    CREATE TABLE person (id int, name text);
    CREATE TABLE employee (salary int) INHERITS (person);
    INSERT INTO person VALUES (1, 'p');
    INSERT INTO employee VALUES (2, 'e', 10);
    SELECT afresh.watch('person', '{id}');
"""


@both
async def test_writes_to_inheritance_parents_and_children(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(INHERITED)
    await db.execute("UPDATE person SET name = name || '!'")
    await db.execute("UPDATE employee SET salary = 11")
    await db.execute("UPDATE employee SET salary = 11")
    await db.execute("INSERT INTO employee VALUES (3, 'f', 1)")
    await db.execute("DELETE FROM person WHERE id = 3")
    assert await ear.changes() == [
        ("public.person", "UPDATE", [{"id": 1}, {"id": 2}], 2),
        ("public.employee", "UPDATE", [{"id": 2}], 1),
        ("public.employee", "INSERT", [{"id": 3}], 1),
        ("public.person", "DELETE", [{"id": 3}], 1),
    ]


@both
async def test_change_to_a_column_that_only_the_child_has_is_told(db: asyncpg.Connection, ear: Hearing) -> None:
    """A statement on the parent changes it through a trigger of the child; the parent's transition tables hide it."""
    await db.execute(INHERITED)
    await db.execute("""
        CREATE FUNCTION raise_salary() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN NEW.salary := NEW.salary + 1; RETURN NEW; END';
        CREATE TRIGGER raise_salary BEFORE UPDATE ON employee FOR EACH ROW EXECUTE FUNCTION raise_salary();
        UPDATE person SET name = name;
    """)
    assert await ear.changes() == [("public.person", "UPDATE", [{"id": 1}, {"id": 2}], 2)]


# -- writers and triggers of every kind -------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", [BY_HAND, NOTIFIED], ids=["row", "statement"])
async def test_writer_who_notifies_needs_no_privilege_on_anything_of_ours(
    db: asyncpg.Connection, ear: Hearing, setup: str
) -> None:
    await db.execute(RESPONSES + setup)
    await ear.raw()
    async with db.transaction():
        await db.execute("""
            REVOKE ALL ON SCHEMA afresh FROM public;
            REVOKE ALL ON FUNCTION public.notify_event_refresh() FROM public;
            CREATE ROLE afresh_test_writer;
            GRANT INSERT, UPDATE, DELETE, TRUNCATE, SELECT (id) ON nps_responses TO afresh_test_writer;
            SET LOCAL ROLE afresh_test_writer;
            UPDATE nps_responses SET score = 3 WHERE id = 1;
            INSERT INTO nps_responses VALUES (70, 'w', 1);
            DELETE FROM nps_responses WHERE id = 70;
            RESET ROLE;
            DROP OWNED BY afresh_test_writer;
            DROP ROLE afresh_test_writer;
        """)
    assert [operation for _, operation, _, _ in await ear.changes()] == ["UPDATE", "INSERT", "DELETE"]


@both
async def test_writes_of_a_replica_role_are_told(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES + WATCHED)
    await ear.raw()
    await db.execute("SET session_replication_role = replica; UPDATE nps_responses SET score = 3 WHERE id = 1")
    assert await ear.changes() == [(NAME, "UPDATE", clients(1), 1)]


async def test_statement_trigger_made_by_hand_tells_without_keys(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES)
    await db.execute("""
        CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON nps_responses
        FOR EACH STATEMENT EXECUTE FUNCTION notify_event_refresh();
        UPDATE nps_responses SET score = 1;
        TRUNCATE nps_responses;
    """)
    assert await ear.changes() == [(NAME, "UPDATE", None, None), (NAME, "TRUNCATE", None, None)]


async def test_trigger_of_another_timing_does_not_stop_the_write(db: asyncpg.Connection, ear: Hearing) -> None:
    """They are no use to anybody, but a function that returned NULL would make them swallow rows."""
    await db.execute(RESPONSES)
    await db.execute("""
        CREATE TRIGGER before BEFORE INSERT OR UPDATE OR DELETE ON nps_responses
        FOR EACH ROW EXECUTE FUNCTION notify_event_refresh();
        INSERT INTO nps_responses VALUES (80, 'b', 1);
        UPDATE nps_responses SET score = 2 WHERE id = 80;
    """)
    assert await db.fetchval("SELECT score FROM nps_responses WHERE id = 80") == 2
    await db.execute("DELETE FROM nps_responses WHERE id = 80")
    assert await db.fetchval("SELECT count(*) FROM nps_responses WHERE id = 80") == 0
    assert [operation for _, operation, _, _ in await ear.changes()] == ["INSERT", "UPDATE", "DELETE"]
    # Another trigger may still change the row, so one that looks at it before cannot say that nothing changed.
    await db.execute("UPDATE nps_responses SET score = score WHERE id = 1")
    assert [operation for _, operation, _, _ in await ear.changes()] == ["UPDATE"]


async def test_deferred_constraint_trigger_tells_at_commit(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(RESPONSES)
    await db.execute("""
        CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON nps_responses DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION notify_event_refresh()
    """)
    await db.execute("UPDATE nps_responses SET score = 2")
    assert await ear.changes() == [(NAME, "UPDATE", None, None)]
