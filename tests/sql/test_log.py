"""Log capture: the row that a writer leaves in his own transaction, what he may do there, and the bell he rings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from afresh_notifier import change_log
from sql.hearing import Hearing

SCENE = """
    CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0);
    SELECT afresh.watch('t', '{id}');
"""

#: Until an hour from now the bell rings; until a second ago it did.
RING = "SELECT setval('afresh.bell', extract(epoch FROM clock_timestamp())::bigint + 3600)"
SILENT_SINCE = "SELECT setval('afresh.bell', extract(epoch FROM clock_timestamp())::bigint - 1)"


@pytest.fixture
async def other(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A second superuser's connection."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def xid_of(db: asyncpg.Connection) -> str:
    return str(await db.fetchval("SELECT pg_current_xact_id()::text"))


# -- the row ----------------------------------------------------------------------------------------------------------


async def test_row_says_what_happened_where_when_and_in_which_transaction(db: asyncpg.Connection) -> None:
    await db.execute(SCENE)
    async with db.transaction():
        began = await db.fetchval("SELECT now()")
        xid = await xid_of(db)
        await db.execute("INSERT INTO t VALUES (1), (2)")
        async with db.transaction():  # a savepoint: the number is that of the whole transaction
            await db.execute("UPDATE t SET n = 1 WHERE id = 2")
        await db.execute("TRUNCATE t")
    rows = await db.fetch(
        "SELECT c.xid::text, at, target::text, operation, keys, rows FROM afresh.change_log AS c ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        (xid, began, "t", "INSERT", '[{"id":1},{"id":2}]', 2),
        (xid, began, "t", "UPDATE", '[{"id":2}]', 1),
        (xid, began, "t", "TRUNCATE", None, None),
    ]


async def test_row_shares_the_fate_of_its_writers_savepoint(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(SCENE)
    await db.execute("""
        BEGIN;
        INSERT INTO t VALUES (1);
        SAVEPOINT a; INSERT INTO t VALUES (2); SAVEPOINT b; INSERT INTO t VALUES (3); ROLLBACK TO b; RELEASE a;
        SAVEPOINT c; INSERT INTO t VALUES (4); ROLLBACK TO c;
        COMMIT;
        BEGIN; INSERT INTO t VALUES (5); ROLLBACK;
    """)
    assert [keys for _, _, keys, _ in await ear.changes()] == [[{"id": 1}], [{"id": 2}]]
    assert [row["id"] for row in await db.fetch("SELECT id FROM t ORDER BY id")] == [1, 2]


@pytest.fixture
async def gid(dsn: str, db: asyncpg.Connection) -> AsyncIterator[str]:
    """A name for a prepared transaction, which does not outlive the test: it would stop those that come after it."""
    if await db.fetchval("SELECT current_setting('max_prepared_transactions')::int = 0"):
        pytest.skip("max_prepared_transactions is 0 on this server")
    name = str(await db.fetchval("SELECT current_database()"))
    yield name
    cleaner = await asyncpg.connect(dsn)
    try:
        if await cleaner.fetchval("SELECT count(*) FROM pg_prepared_xacts WHERE gid = $1", name):
            await cleaner.execute(f"ROLLBACK PREPARED '{name}'")
    finally:
        await cleaner.close()


async def test_row_of_a_prepared_transaction_appears_when_that_commits(
    db: asyncpg.Connection, other: asyncpg.Connection, gid: str
) -> None:
    await db.execute(SCENE)
    await db.execute("BEGIN; INSERT INTO t VALUES (1)")
    xid = await xid_of(db)
    await db.execute(f"PREPARE TRANSACTION '{gid}'")
    assert await other.fetch("SELECT FROM afresh.change_log") == []
    # Whoever looks meanwhile must not let this transaction fall behind his next look.
    assert await other.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot()) <= $1::text::xid8", xid)
    await other.execute("INSERT INTO t VALUES (2)")
    await other.execute(f"COMMIT PREPARED '{gid}'")
    rows = await other.fetch("SELECT c.xid::text, keys FROM afresh.change_log AS c ORDER BY id")
    assert tuple(rows[0]) == (xid, '[{"id":1}]')
    assert rows[1]["keys"] == '[{"id":2}]'

    await db.execute(f"BEGIN; INSERT INTO t VALUES (3); PREPARE TRANSACTION '{gid}'")
    await db.execute(f"ROLLBACK PREPARED '{gid}'")
    assert await other.fetchval("SELECT count(*) FROM afresh.change_log") == 2


async def test_prepared_transaction_is_refused_while_the_bell_rings(db: asyncpg.Connection, gid: str) -> None:
    await db.execute(SCENE + RING)
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="NOTIFY"):
        await db.execute(f"BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '{gid}'")
    assert await db.fetch("SELECT FROM afresh.change_log") == []


async def test_target_follows_a_renamed_table(db: asyncpg.Connection) -> None:
    await db.execute(SCENE + "INSERT INTO t VALUES (1); CREATE SCHEMA s; ALTER TABLE t RENAME TO u")
    await db.execute("ALTER TABLE u SET SCHEMA s")
    assert await db.fetchval("SELECT target::text FROM afresh.change_log") == "s.u"


async def test_table_that_is_dropped_with_rows_pending_harms_nothing(
    db: asyncpg.Connection, other: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(SCENE + "CREATE TABLE u (id int); SELECT afresh.watch('u')")
    oid = await db.fetchval("SELECT 't'::regclass::oid")
    await db.execute("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); DROP TABLE t; INSERT INTO u VALUES (2)")
    # In one transaction, too: the row outlives the table that it tells of.
    await db.execute(
        "BEGIN; CREATE TABLE v (id int); SELECT afresh.watch('v'); INSERT INTO v VALUES (1); DROP TABLE v; COMMIT"
    )
    rows = await other.fetch("SELECT target::text, target::oid AS oid FROM afresh.change_log ORDER BY id")
    assert [row["target"] for row in rows][1:3] == ["u", "u"]
    assert (rows[0]["target"], rows[0]["oid"]) == (str(oid), oid)
    assert len(await ear.changes()) == 4


async def test_serializable_writers_do_not_fail_because_of_the_log(
    db: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    """Two transactions that could be run in either order, and that meet in the log and at the bell and nowhere else."""
    await db.execute(SCENE + "CREATE TABLE u (id int); SELECT afresh.watch('u')")
    for round_ in range(5):
        await db.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        await other.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        await db.execute("INSERT INTO t VALUES ($1)", round_)
        await other.execute("INSERT INTO u VALUES ($1)", round_)
        await db.execute("UPDATE t SET n = n + 1 WHERE id = $1", round_)
        await other.execute(RING if round_ % 2 else SILENT_SINCE)
        await other.execute("INSERT INTO u VALUES ($1)", round_)
        await db.execute("INSERT INTO t VALUES ($1)", 100 + round_)
        await other.execute("COMMIT")
        await db.execute("COMMIT")
    assert await db.fetchval("SELECT count(*) FROM afresh.change_log") == 25


async def test_many_writers_and_a_reader_that_takes_rows_out_lose_none(
    dsn: str, db: asyncpg.Connection, other: asyncpg.Connection
) -> None:
    """As the leader takes them."""
    await db.execute("CREATE TABLE t (writer int, n int); SELECT afresh.watch('t', '{writer,n}')")
    taken: list[tuple[int, int]] = []
    horizon = change_log.EVERYTHING
    ended = asyncio.Event()

    async def look() -> None:
        nonlocal horizon
        async with other.transaction():
            found = await change_log.take(other, horizon)
        horizon = found.horizon
        for change in found.changes:
            assert change.keys is not None
            taken.extend((int(str(dict(key)["writer"])), int(str(dict(key)["n"]))) for key in change.keys)

    async def write(writer: int) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for n in range(40):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute("INSERT INTO t VALUES ($1, $2)", writer, n)
                await (transaction.rollback() if (writer + n) % 5 == 0 else transaction.commit())
        finally:
            await connection.close()

    async def read() -> None:
        while not ended.is_set():
            await look()
        await look()

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read(), name="reader")
        writers = [group.create_task(write(number), name=f"writer {number}") for number in range(8)]
        await asyncio.wait(writers)
        ended.set()
        await reader
    expected = [(writer, n) for writer in range(8) for n in range(40) if (writer + n) % 5 != 0]
    assert sorted(taken) == sorted(expected)
    assert await db.fetchval("SELECT count(*) FROM t") == len(expected)


# -- what a writer may ------------------------------------------------------------------------------------------------


@pytest.fixture
async def writer(db: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """The connection in the hands of somebody who may write to the watched table, and has what everybody has else."""
    await db.execute(SCENE)
    transaction = db.transaction()
    await transaction.start()
    await db.execute("""
        CREATE ROLE afresh_test_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t TO afresh_test_writer;
        SET LOCAL ROLE afresh_test_writer;
    """)
    yield db
    await transaction.rollback()


async def test_writer_without_privileges_of_his_own_leaves_a_row(writer: asyncpg.Connection) -> None:
    await writer.execute("INSERT INTO t VALUES (1); UPDATE t SET n = 2; DELETE FROM t; TRUNCATE t")
    await writer.execute(
        "PREPARE w AS INSERT INTO t VALUES (2) ON CONFLICT (id) DO UPDATE SET n = t.n + 1; EXECUTE w; EXECUTE w"
    )
    await writer.execute("RESET ROLE")
    rows = await writer.fetch("SELECT operation, xid = pg_current_xact_id() AS his FROM afresh.change_log ORDER BY id")
    assert [row["operation"] for row in rows] == ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "INSERT", "UPDATE"]
    assert all(row["his"] for row in rows)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM afresh.change_log",
        "SELECT count(*) FROM afresh.change_log",
        "DELETE FROM afresh.change_log",
        "UPDATE afresh.change_log SET keys = NULL",
        "TRUNCATE afresh.change_log",
        "LOCK TABLE afresh.change_log IN ACCESS EXCLUSIVE MODE",
        "INSERT INTO afresh.change_log (target, operation) VALUES ('t', 'INSERT') RETURNING id",
        "INSERT INTO afresh.change_log (target, operation, xid) VALUES ('t', 'INSERT', '3')",
        "INSERT INTO afresh.change_log (target, operation, id) OVERRIDING SYSTEM VALUE VALUES ('t', 'INSERT', 1)",
        "INSERT INTO afresh.change_log (target, operation, at) VALUES ('t', 'INSERT', 'infinity')",
        "SELECT nextval('afresh.change_log_id_seq')",
        "SELECT setval('afresh.bell', 1)",
        "SELECT nextval('afresh.bell')",
        "SELECT nextval('afresh.generation')",
        "SELECT FROM afresh.dirty",
        "SELECT FROM afresh.invalidation_log",
        "INSERT INTO afresh.invalidation_log VALUES (1, '{}', '{}', '{}', NULL, now())",
        "SELECT afresh.append_invalidation('{}', '{}', '{}', NULL, now())",
        "SELECT FROM afresh.log_identity",
        "SELECT FROM afresh.lease",
        "SELECT FROM afresh.known",
    ],
)
async def test_writer_may_add_his_own_change_and_nothing_else(writer: asyncpg.Connection, statement: str) -> None:
    # Refused by name: a function that may be called, and is refused what it does, would not do.
    of = "function append_invalidation" if "append_invalidation" in statement else ""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"permission denied for .*{of}"):
        await writer.execute(statement)


# -- the bell ---------------------------------------------------------------------------------------------------------


async def test_bell_is_silent_until_somebody_lets_it_ring(db: asyncpg.Connection, ear: Hearing) -> None:
    await db.execute(SCENE)
    await ear.raw()
    await db.execute("INSERT INTO t VALUES (1)")
    assert await ear.notifications() == []
    assert len(await ear.logged()) == 1


async def test_bell_rings_once_for_a_transaction_until_its_time_has_passed(
    db: asyncpg.Connection, other: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(SCENE)
    await ear.raw()
    await other.execute(RING)
    await db.execute("BEGIN; INSERT INTO t VALUES (1), (2); UPDATE t SET n = 1; SAVEPOINT s; DELETE FROM t; COMMIT")
    assert await ear.notifications() == [""]
    assert len(await ear.logged()) == 3
    await db.execute("BEGIN; INSERT INTO t VALUES (1); ROLLBACK; UPDATE t SET n = 3")
    assert await ear.notifications() == []
    await other.execute(SILENT_SINCE)
    await db.execute("INSERT INTO t VALUES (3)")
    assert await ear.notifications() == []
    assert len(await ear.logged()) == 1


async def test_bell_falls_silent_by_itself(db: asyncpg.Connection, ear: Hearing) -> None:
    """Whoever let it ring may be gone."""
    await db.execute(SCENE)
    await ear.raw()
    await db.execute("SELECT setval('afresh.bell', extract(epoch FROM clock_timestamp())::bigint + 2)")
    heard, number = True, 0
    async with asyncio.timeout(30):
        while heard:
            number += 1
            await db.execute("INSERT INTO t VALUES ($1)", number)
            heard = await ear.notifications() != []
    assert number > 1, "it never rang"
    assert await db.fetchval("SELECT last_value < extract(epoch FROM clock_timestamp()) FROM afresh.bell")


async def test_bell_is_obeyed_at_once_inside_an_older_snapshot(
    db: asyncpg.Connection, other: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(SCENE)
    await ear.raw()
    for told, statement in (([""], RING), ([], SILENT_SINCE)):
        await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; DELETE FROM t WHERE false; SELECT FROM t")
        await other.execute(statement)
        await db.execute("INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = t.n + 1; COMMIT")
        assert await ear.notifications() == told


async def test_bell_in_a_transaction_that_is_rolled_back_was_set_all_the_same(
    db: asyncpg.Connection, other: asyncpg.Connection, ear: Hearing
) -> None:
    await db.execute(SCENE)
    await ear.raw()
    await other.execute(f"BEGIN; {RING}; ROLLBACK")
    await db.execute("INSERT INTO t VALUES (1)")
    assert await ear.notifications() == [""]


@pytest.mark.parametrize(("value", "told"), [("9223372036854775807", [""]), ("1", [])])
async def test_no_value_of_the_bell_fails_a_writer(
    db: asyncpg.Connection, ear: Hearing, value: str, told: list[str]
) -> None:
    await db.execute(SCENE)
    await ear.raw()
    await db.execute(f"SELECT setval('afresh.bell', {value}); INSERT INTO t VALUES (1)")
    assert await ear.notifications() == told
