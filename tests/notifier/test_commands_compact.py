"""`afresh compact`: what has piled up is folded, and still tells all that it told."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from afresh_notifier.commands import compact
from notifier.command import afresh
from support.scenario import DIAMOND, diamond_fresh
from support.scenario import afresh as service

LOG = "SELECT target::text, operation, keys, rows FROM afresh.change_log ORDER BY 1"


async def test_changes_are_folded_to_one_row_a_table(
    dsn: str, db: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "BATCH", 10)
    await db.execute(
        """
        CREATE TABLE one (id int PRIMARY KEY);
        CREATE TABLE "Other" (id int PRIMARY KEY);
        CREATE TABLE gone (id int);
        SELECT afresh.watch('one', '{id}'), afresh.watch('"Other"'), afresh.watch('gone');
        """
    )
    for number in range(25):
        await db.execute("INSERT INTO one VALUES ($1)", number)
    await db.execute('INSERT INTO "Other" SELECT generate_series(1, 7)')
    await db.execute("INSERT INTO gone VALUES (1)")
    await db.execute("DROP TABLE gone")
    oldest = await db.fetchval("SELECT min(at) FROM afresh.change_log")
    ended = await afresh("compact", folder=tmp_path, dsn=dsn)
    assert ended.code == 0, ended.err
    assert ended.out == "27 changes folded to 2 rows\n"  # so few give nothing back
    assert [tuple(row) for row in await db.fetch(LOG)] == [
        ('"Other"', "UPDATE", None, 7),
        ("one", "UPDATE", None, 25),
    ]
    assert await db.fetchval("SELECT min(at) FROM afresh.change_log") == oldest


async def test_log_that_is_empty_is_left_alone(dsn: str, tmp_path: Path) -> None:
    ended = await afresh("compact", folder=tmp_path, dsn=dsn)
    assert (ended.code, ended.out) == (0, "Nothing has piled up.\n")


async def test_changes_of_an_open_transaction_are_not_touched(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await db.execute("CREATE TABLE one (id int); SELECT afresh.watch('one')")
    writer = await asyncpg.connect(dsn)
    try:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("INSERT INTO one VALUES (1)")
        await db.execute("INSERT INTO one VALUES (2); INSERT INTO one VALUES (3)")
        assert (await afresh("compact", folder=tmp_path, dsn=dsn)).code == 0
        await transaction.commit()
    finally:
        await writer.close()
    assert await db.fetchval("SELECT sum(rows) FROM afresh.change_log") == 3


async def test_what_was_folded_is_refreshed_and_told_when_a_service_comes(
    dsn: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    await db.execute(DIAMOND)
    async with service(dsn) as running:
        await running.settled(db)
    for amount in range(1, 6):
        await db.execute("UPDATE entries SET amount = $1 WHERE id = 1", amount)
    assert (await afresh("compact", folder=tmp_path, dsn=dsn)).code == 0
    async with service(dsn) as running:
        await running.settled(db)
        assert await diamond_fresh(db)
    assert await db.fetchval("SELECT count(*) FROM afresh.change_log") == 0


async def test_space_is_given_back(dsn: str, db: asyncpg.Connection, tmp_path: Path) -> None:
    await db.execute("CREATE TABLE one (id int); SELECT afresh.watch('one')")
    await db.execute("DO $$ BEGIN FOR n IN 1..20000 LOOP INSERT INTO one VALUES (n); END LOOP; END $$")
    size = "SELECT pg_total_relation_size('afresh.change_log')"
    before = await db.fetchval(size)
    assert (await afresh("compact", folder=tmp_path, dsn=dsn)).code == 0
    assert await db.fetchval("SELECT sum(rows) FROM afresh.change_log") == 20_000
    assert await db.fetchval(size) < before / 10
