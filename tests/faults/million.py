"""A million durable changes from eight writers, while the leader is killed twenty times: none is lost.

A change is a statement of its own, on a table captured in the log; writers commit some hundreds at once, as a batch
job does, and wait for each commit. Three instances of the real command, with the settings that they have when nobody sets
any; whoever leads is killed (SIGKILL), again and again, a moment after it began to lead, and started again.

How it is known that none was lost, without trusting the service: an eye in the database counts, in the very
transaction that takes changes out of the log, how many it takes. At the end the log is empty and as many were taken as were
committed; the view that counts them shows its definition's result; and so does what each client read last, who reads only
when he is told to. A client's readings never go backwards, and the first that he makes upon a message shows at least what
the view showed when that message was appended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from afresh_cache import client
from afresh_cache.messages import Invalidate, Position, Resync, Status
from faults.world import Instance, Lane, World, until

WRITERS = 8

#: Statements that are committed together, at least and at most.
BATCH = (50, 500)

#: Changes in a second, all writers together, that they do not exceed: so that they still write when the last leader dies.
PACE = 12_500.0

SCHEMA = """
CREATE TABLE changes (writer int, n int, PRIMARY KEY (writer, n));
SELECT afresh.watch('changes', '{writer}');

CREATE FUNCTION put(who int, first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN first .. last LOOP
        INSERT INTO changes VALUES (who, n);
    END LOOP;
END;
$$;

CREATE VIEW tally_live AS SELECT c.writer, count(*)::int AS n, max(c.n) AS last FROM changes AS c GROUP BY c.writer;
CREATE MATERIALIZED VIEW tally AS SELECT * FROM tally_live;
CREATE UNIQUE INDEX ON tally (writer);

CREATE TABLE taken (rows bigint);
CREATE FUNCTION see_taken() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    INSERT INTO taken SELECT count(*) FROM old_rows AS o WHERE o.target = 'public.changes'::regclass;
    RETURN NULL;
END;
$$;
CREATE TRIGGER see_taken AFTER DELETE ON afresh.change_log REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION see_taken();

CREATE TABLE told ("offset" bigint, content json);
CREATE FUNCTION see_told() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
    IF 'public.tally' = ANY (new.views) THEN
        INSERT INTO told SELECT new.id, json_object_agg(t.writer, t.n) FROM tally AS t;
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER see_told AFTER INSERT ON afresh.invalidation_log FOR EACH ROW EXECUTE FUNCTION see_told();
"""

TALLY = "SELECT json_object_agg(writer, n) FROM tally"

Counts = dict[str, int]


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of it."""

    changes: int
    kills: int = 0
    taken: int = 0
    left: int = 0
    writing: float = 0.0
    seconds: float = 0.0
    hand_over: float = 0.0
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """As a Markdown table."""
        cells = {
            "changes": f"{self.changes:,}",
            "writers": str(WRITERS),
            "leader killed": f"{self.kills} times",
            "longest until another led": f"{self.hand_over:.1f} s",
            "taken from the log": f"{self.taken:,}",
            "lost": f"{self.changes - self.taken:,}",
            "seconds": f"{self.seconds:,.0f}, {self.writing:,.0f} of them writing",
        }
        return "\n".join((f"| {' | '.join(cells)} |", "|---:" * len(cells) + "|", f"| {' | '.join(cells.values())} |"))


@dataclass(slots=True)
class _Reader:
    """A client that reads the whole view whenever it is told anything of it."""

    world: World
    since: Position | None = None
    #: What it read upon which offset; 0 for a resync.
    read: list[tuple[int, Counts]] = field(default_factory=list)

    async def run(self) -> None:
        """Hear until cancelled, at one instance after another."""
        number = 0
        async with contextlib.AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self.world.session())
            while True:
                url = self.world.instances[number % len(self.world.instances)].url
                async with aclosing(client.listen(url, since=self.since)) as events:
                    async for event in events:
                        if isinstance(event, client.Disconnected):
                            break
                        if isinstance(event, Status):
                            continue
                        if isinstance(event, client.Connected):
                            self.since = event.position
                        if isinstance(event, client.Connected | Resync) or "public.tally" in event.views:
                            offset = event.offset if isinstance(event, Invalidate) else 0
                            self.read.append((offset, json.loads(await connection.fetchval(TALLY) or "{}")))
                        if isinstance(event, Invalidate | Resync) and self.since is not None:
                            offset = max(self.since.offset, event.offset)
                            self.since = Position(epoch=self.since.epoch, offset=offset)
                number += 1
                await asyncio.sleep(0.1)


async def _write(world: World, writer: int, count: int, seed: random.Random, wrote: Callable[[int], None]) -> None:
    """``count`` changes by one writer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with world.session() as connection:
        n = 0
        while n < count:
            last = min(count, n + seed.randint(*BATCH))
            await connection.execute("SELECT put($1, $2, $3)", writer, n + 1, last)
            wrote(last - n)
            n = last
            await asyncio.sleep(max(0.0, began + n * WRITERS / PACE - loop.time()))


async def _kill(world: World, times: int, seed: random.Random, result: Result) -> None:
    """Kill whoever leads, so many times, each a moment after it began to."""
    loop = asyncio.get_running_loop()
    for _ in range(times):
        leader = await world.leader()
        await asyncio.sleep(seed.uniform(0, 1.5))
        term, _, _ = await world.lease()
        began = loop.time()
        await leader.stop(signal.SIGKILL)
        result.kills += 1
        leader.start()
        await world.led_by_another(term)
        result.hand_over = max(result.hand_over, loop.time() - began)


@asynccontextmanager
async def _world(lane: Lane) -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="afresh-million-") as folder:
        async with lane.database() as database:
            world = World(
                lane, database, [Instance(f"instance-{n}", Path(folder), lane, database, "") for n in range(1, 4)]
            )
            async with world.session() as connection:
                await connection.execute(SCHEMA)
            try:
                for instance in world.instances:
                    await instance.open()
                    instance.start()
                await asyncio.gather(*(instance.ready() for instance in world.instances))
                yield world
            finally:
                for instance in world.instances:
                    await instance.close()


async def run(lane: Lane, *, changes: int, kills: int, seed: int, wrote: Callable[[int], None]) -> Result:
    """Do it; ``wrote`` is called with how many changes were committed more."""
    chosen = random.Random(seed)
    each = changes // WRITERS
    result = Result(changes=each * WRITERS)
    loop = asyncio.get_running_loop()
    async with _world(lane) as world:
        readers = [_Reader(world), _Reader(world)]
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            hearing = [group.create_task(reader.run(), name="reader") for reader in readers]
            killing = group.create_task(_kill(world, kills, chosen, result), name="killer")
            async with asyncio.TaskGroup() as writing:
                for writer in range(1, WRITERS + 1):
                    writing.create_task(
                        _write(world, writer, each, random.Random(chosen.random()), wrote), name=f"writer {writer}"
                    )
            result.writing = loop.time() - began
            await killing
            wanted = {str(writer): each for writer in range(1, WRITERS + 1)}

            async def done() -> bool:
                result.left, result.taken = await _counted(world)
                return (
                    result.left == 0
                    and json.loads(str(await world.fetchval(TALLY)) or "{}") == wanted
                    and all(reader.read and reader.read[-1][1] == wanted for reader in readers)
                )

            with contextlib.suppress(TimeoutError):
                await until(done, "all is fresh and told")
            result.seconds = loop.time() - began
            for task in hearing:
                task.cancel()
        await _judge(world, result, readers, wanted)
    return result


async def _counted(world: World) -> tuple[int, int]:
    async with world.session() as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM afresh.change_log) AS left, (SELECT sum(rows)::bigint FROM taken) AS taken"
        )
    assert row is not None
    return row["left"], row["taken"] or 0


async def _judge(world: World, result: Result, readers: list[_Reader], wanted: Counts) -> None:
    complain = result.problems.append
    if result.left or result.taken != result.changes:
        complain(f"{result.taken} changes were taken out of the log, {result.left} are left there")
    shown = json.loads(str(await world.fetchval(TALLY)) or "{}")
    if shown != wanted:
        complain(f"the view shows {shown}")
    async with world.session() as connection:
        rows = await connection.fetch('SELECT "offset", content FROM told ORDER BY "offset"')
    told = {row["offset"]: json.loads(row["content"] or "{}") for row in rows}
    for number, reader in enumerate(readers, 1):
        if not reader.read or reader.read[-1][1] != wanted:
            complain(f"reader {number} has {reader.read[-1:]}")
        newest: Counts = {}
        for offset, read in reader.read:
            for least in (newest, told.get(offset, {})):
                if any(read.get(writer, 0) < n for writer, n in least.items()):
                    complain(f"reader {number} was told {offset} and read {read}, less than {least}")
            newest = read
