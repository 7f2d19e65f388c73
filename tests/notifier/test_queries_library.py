"""What is kept of named queries: for how long, for whom, and that nobody gets what he has been told is stale."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from afresh_cache.messages import Position
from afresh_notifier import invalidation_log
from afresh_notifier import tail as tail_module
from afresh_notifier.errors import BadParameter, UnknownQuery
from afresh_notifier.invalidation import Invalidation
from afresh_notifier.named_queries.library import Library
from afresh_notifier.observations import QueryAnswered, TailFailed
from conftest import PATIENCE, eventually
from notifier.test_tail import AT
from support.named_queries import Asking, Reply, asking, query
from support.scenario import Gates, gates, listening

#: Numbers, a function that hangs at a gate after its query has its snapshot, and one whose calls PostgreSQL counts.
SETUP = """
CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO numbers VALUES (1, 10), (2, 20);
SELECT afresh.watch('numbers', '{id}');
CREATE FUNCTION gate(which int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(4711, which); RETURN which; END $$;
CREATE FUNCTION counted(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN x; END $$;
"""

NUMBERS = {"name": "numbers", "patterns": ["numbers:{id}"]}


@pytest.fixture
async def numbers(db: asyncpg.Connection) -> asyncpg.Connection:
    await db.execute(SETUP)
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET track_functions = 'all'")
    return db


def one_number(folder: Path, **more: Any) -> dict[str, Any]:
    sql = "SELECT n FROM numbers WHERE id = $1"
    return query(folder, "number", sql, "id", **{"cache_key": "numbers:{id}", **more})


async def calls(db: asyncpg.Connection) -> int:
    """How often `counted` was called, in all that has been counted by now."""
    return int(
        await db.fetchval("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'counted'")
    )


async def until_ready(ask: Asking, *names: str) -> None:
    for name in names:
        await ask.usable(name)
    await asyncio.sleep(0)


async def becomes(ask: Asking, path: str, rows: list[dict[str, Any]]) -> Reply:
    """Wait until this is answered; the last answer."""
    last: list[Reply] = []

    async def is_so() -> bool:
        last.append(await ask(path))
        return last[-1].rows == rows

    await eventually(is_so)
    return last[-1]


async def test_an_answer_is_kept_until_its_key_is_stale(numbers: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    async with asking(dsn, one_number(tmp_path), tables=[NUMBERS]) as ask:
        await until_ready(ask, "number")
        assert [(await ask(f"number?id={id}")).how for id in (1, 1, 2, 1)] == ["miss", "hit", "miss", "hit"]  # noqa: A001
        await numbers.execute("UPDATE numbers SET n = 11 WHERE id = 1")
        await becomes(ask, "number?id=1", [{"n": 11}])
        assert (await ask("number?id=1")).how == "hit"
        assert (await ask("number?id=2")).how == "hit"  # the other key is not concerned
        seen = ask.running.seen.of(QueryAnswered, query="number", how="hit")
        assert all(one.rows == 1 for one in seen)


async def test_who_was_told_that_it_is_stale_gets_the_new(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    async with asking(dsn, one_number(tmp_path), tables=[NUMBERS]) as ask, listening(ask.running.url) as heard:
        await until_ready(ask, "number")
        for n in range(30):
            await ask("number?id=1")
            mark = heard.mark
            await numbers.execute("UPDATE numbers SET n = $1 WHERE id = 1", 100 + n)
            await heard.told("numbers:1", since=mark)
            reply = await ask("number?id=1")
            assert reply.rows == [{"n": 100 + n}]
            assert Position.parse(reply.headers["Afresh-Position"]).offset >= heard.invalidations(since=mark)[-1].offset


async def test_a_thousand_who_ask_the_same_at_once_are_one_query(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loop that is busy with a thousand requests may not read the log for so long that nothing is to be trusted.
    monkeypatch.setattr(tail_module, "CURRENT_FOR", 60.0)
    made = query(tmp_path, "slow", "SELECT gate(1) AS gate, counted($1) AS x", "x")
    async with asking(dsn, made) as ask, gates(dsn) as gate:
        await until_ready(ask, "slow")
        await gate.close(1)
        asked = [asyncio.create_task(ask("slow?x=5")) for _ in range(1000)]
        await gate.reached(1)
        await gate.open(1)
        replies = await asyncio.gather(*asked)
        assert {reply.body for reply in replies} == {b'{"rows":[{"gate":1,"x":5}],"truncated":false}'}
        assert [reply.how for reply in replies].count("miss") == 1
    await eventually(lambda: _is(calls(numbers), 1))  # the connections are closed: all is counted


async def _is(found: Any, expected: object) -> bool:
    return bool(await found == expected)


async def test_what_is_overtaken_while_it_is_read_is_not_kept(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    # The row is read before the gate, by the snapshot of the statement that hangs there.
    sql = "SELECT n, gate(1) AS gate FROM numbers WHERE id = $1"
    made = query(tmp_path, "number", sql, "id", cache_key="numbers:{id}")
    async with asking(dsn, made, tables=[NUMBERS]) as ask, gates(dsn) as gate:
        await until_ready(ask, "number")
        await gate.close(1)
        early = asyncio.create_task(ask("number?id=1"))
        await gate.reached(1)
        await numbers.execute("UPDATE numbers SET n = 11 WHERE id = 1")
        await eventually(lambda: ask.running.service.hub.newest > 0)
        late = asyncio.create_task(ask("number?id=1"))
        await eventually(lambda: _is(_hanging(gate), 2))
        await gate.open(1)
        assert (await early).rows == [{"n": 10, "gate": 1}]  # who asked before may have it
        assert (await late).rows == [{"n": 11, "gate": 1}]
        assert (await ask("number?id=1")).rows == [{"n": 11, "gate": 1}]


async def _hanging(gate: Gates) -> int:
    return int(
        await gate._connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 4711"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    )


async def test_a_resync_drops_everything(numbers: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    made = [one_number(tmp_path), query(tmp_path, "other", "SELECT 1 AS x", cache_key="elsewhere")]
    async with asking(dsn, *made) as ask:
        await until_ready(ask, "number", "other")
        await ask("other")
        assert (await ask("other")).how == "hit"
        await invalidation_log.append(numbers, Invalidation(patterns=("nothing",), at=AT))
        newest = ask.running.service.hub.newest
        await eventually(lambda: ask.running.service.hub.newest > newest or newest > 0)
        assert (await ask("other")).how == "hit"
        await invalidation_log.append(numbers, Invalidation(patterns=("nothing",), reason="gap", at=AT))

        async def gone() -> bool:
            return (await ask("other")).how == "miss"

        await eventually(gone)


async def test_a_time_to_live_and_what_is_given_meanwhile(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    made = [
        query(tmp_path, "short", "SELECT clock_timestamp() AS now", ttl="50ms"),
        query(tmp_path, "long", "SELECT gate(1) AS gate, clock_timestamp() AS now", ttl="50ms", stale_ttl="1h"),
    ]
    async with asking(dsn, *made) as ask, gates(dsn) as gate:
        await until_ready(ask, "short", "long")
        first = await ask("short")

        async def anew() -> bool:
            return (await ask("short")).rows != first.rows

        await eventually(anew)
        old = await ask("long")
        await gate.close(1)
        await asyncio.sleep(0.06)  # it has expired, whatever the machine's speed
        leader = asyncio.create_task(ask("long"))
        await gate.reached(1)
        stale = await ask("long")
        assert (stale.how, stale.rows) == ("stale", old.rows)
        await gate.open(1)
        assert (await leader).how == "miss"


async def test_queries_with_the_same_cache_key_do_not_share_answers(dsn: str, tmp_path: Path) -> None:
    two: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "default": ""}]
    made = [
        query(tmp_path, "one", "SELECT 1 AS x, $1::text AS a, $2::text AS b", *two, cache_key="same:{a}"),
        query(tmp_path, "other", "SELECT 2 AS x, $1::text AS a, $2::text AS b", *two, cache_key="same:{a}"),
    ]
    async with asking(dsn, *made) as ask:
        for _ in range(2):
            for name, x in (("one", 1), ("other", 2)):
                for a, b in (("p", ""), ("p", "q"), ("p q", ""), ("p:q", ""), ("", "p"), ("%20", ""), ("+", "")):
                    reply = await ask(f"/api/queries/{name}", params={"a": a, "b": b})
                    assert reply.rows == [{"x": x, "a": a, "b": b}]


@pytest.mark.parametrize("cache_key", ["same:{a}-{b}", "same:{a}{b}"])
async def test_a_cache_key_that_may_mean_two_sets_of_values_does_not_make_them_share(
    dsn: str, tmp_path: Path, cache_key: str
) -> None:
    made = query(tmp_path, "two", "SELECT $1::text AS a, $2::text AS b", "a", "b", cache_key=cache_key)
    async with asking(dsn, made) as ask:
        for a, b in (("1-2", "3"), ("1", "2-3"), ("12", "3"), ("1", "23")):
            assert (await ask("two", params={"a": a, "b": b})).rows == [{"a": a, "b": b}]


async def test_different_texts_of_one_value_share_an_answer(dsn: str, tmp_path: Path) -> None:
    listed: list[dict[str, Any]] = [{"name": "n"}, {"name": "at", "default": "2026-01-02T00:00:00Z"}]
    made = query(tmp_path, "got", "SELECT $1::int AS n, $2::timestamptz AS at", *listed)
    async with asking(dsn, made) as ask:
        texts = ["n=5", "n=05", "n=%2B5", "n=5&at=2026-01-02T01:00:00%2B01:00"]
        assert [(await ask(f"got?{text}")).how for text in texts] == ["miss", "hit", "hit", "hit"]


async def test_answers_that_are_too_large_are_not_kept_and_all_together_are_bounded(dsn: str, tmp_path: Path) -> None:
    made = query(tmp_path, "big", "SELECT repeat('x', $1) AS x", "size")
    async with asking(dsn, made, query={"cache_bytes": 20_000}) as ask:
        assert [(await ask("big?size=30000")).how for _ in range(2)] == ["miss", "miss"]
        assert [(await ask("big?size=9000")).how for _ in range(2)] == ["miss", "hit"]
        await ask("big?size=9001")
        await ask("big?size=9002")
        assert (await ask("big?size=9000")).how == "miss"


# While the log cannot be read, and behind others.


async def test_while_the_log_cannot_be_followed_nothing_that_is_kept_is_given_out(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "POLL", 0.05)
    async with asking(dsn, one_number(tmp_path), tables=[NUMBERS]) as ask:
        await until_ready(ask, "number")
        await ask("number?id=1")
        assert (await ask("number?id=1")).how == "hit"
        await numbers.execute("ALTER TABLE afresh.invalidation_log RENAME TO elsewhere")
        await ask.running.seen.until(TailFailed)
        replies = [await ask("number?id=1") for _ in range(3)]
        assert [reply.how for reply in replies] == ["miss"] * 3
        # It is not heard of, and known all the same.
        await numbers.execute("UPDATE numbers SET n = 11 WHERE id = 1")
        assert (await ask("number?id=1")).rows == [{"n": 11}]
        await numbers.execute("ALTER TABLE afresh.elsewhere RENAME TO invalidation_log")

        async def kept() -> bool:
            reply = await ask("number?id=1")
            assert reply.rows == [{"n": 11}]
            return reply.how == "hit"

        await eventually(kept)


async def test_an_instance_that_is_behind_catches_up_before_it_answers(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = one_number(tmp_path)
    async with asking(dsn, made, tables=[NUMBERS]) as first, asking(dsn, made, tables=[NUMBERS]) as second:
        await until_ready(first, "number")
        await until_ready(second, "number")
        one, other = first.running, second.running
        # The second hears nothing from now on, unless it must.
        monkeypatch.setattr(tail_module.Tail, "wake", _deaf(other.service.hub, tail_module.Tail.wake))
        monkeypatch.setattr(tail_module, "POLL", 1e6)
        await asyncio.sleep(0)
        for n in range(20):
            for ask in (first, second):
                assert (await ask("number?id=1")).status == 200
            await numbers.execute("UPDATE numbers SET n = $1 WHERE id = 1", 100 + n)
            reply = await becomes(first, "number?id=1", [{"n": 100 + n}])
            position = reply.headers["Afresh-Position"]
            assert Position.parse(position).offset <= one.service.hub.newest
            reply = await second("number?id=1", headers={"Afresh-Position": position})
            assert reply.rows == [{"n": 100 + n}]
            assert Position.parse(reply.headers["Afresh-Position"]).offset >= Position.parse(position).offset
        foreign = await second("number?id=1", headers={"Afresh-Position": "another-log:5"})
        assert foreign.rows == [{"n": 119}]
        for bad in ("", "5", "x:-1", "x:y"):
            reply = await second("number?id=1", headers={"Afresh-Position": bad})
            assert (reply.status, reply.code) == (400, "bad_request")


def _deaf(hub: object, wake: Any) -> Any:
    def deaf(self: tail_module.Tail, offset: int | None = None) -> None:
        if self._hub is not hub:
            wake(self, offset)

    return deaf


async def test_who_leaves_before_his_answer_leaves_it_to_the_others(
    numbers: asyncpg.Connection, dsn: str, tmp_path: Path
) -> None:
    made = query(tmp_path, "slow", "SELECT gate(1) AS gate", timeout="30s")
    async with asking(dsn, made, query={"concurrency": 1}) as ask, gates(dsn) as gate:
        await until_ready(ask, "slow")
        await gate.close(1)
        leader = asyncio.create_task(ask("slow"))
        pid = await gate.reached(1)
        others = [asyncio.create_task(ask("slow")) for _ in range(5)]
        await asyncio.sleep(0.05)
        leader.cancel()
        await asyncio.wait([leader])

        async def another() -> bool:
            return await gate.hanging(1) not in (None, pid)

        await eventually(another)
        await gate.open(1)
        async with asyncio.timeout(PATIENCE):
            assert [reply.rows for reply in await asyncio.gather(*others)] == [[{"gate": 1}]] * 5


async def test_a_question_is_asked_without_http_too(numbers: asyncpg.Connection, dsn: str, tmp_path: Path) -> None:
    async with asking(dsn, one_number(tmp_path), tables=[NUMBERS]) as ask:
        await until_ready(ask, "number")
        library: Library = ask.running.service.library
        question = await library.question("number", {"id": 1})
        assert question.key.startswith("numbers:1 ")
        answer = await library.ask(question)
        assert (answer.body, answer.count, answer.truncated, answer.how) == (b'[{"n":10}]', 1, False, "miss")
        assert answer.position.epoch == ask.running.service.hub.position.epoch
        assert (await ask("number?id=1")).how == "hit"
        for name, params, parameter in (
            ("number", {"id": "x"}, "id"),
            ("number", {"\ud800": 1}, "body"),
        ):
            with pytest.raises(BadParameter) as caught:
                await library.question(name, params)
            assert caught.value.parameter == parameter
        with pytest.raises(UnknownQuery, match="no named query 'numbre'; known here: number"):
            await library.question("numbre", {})
        with pytest.raises(UnknownQuery, match="known here: number"):
            await library.question("numbre", {})
