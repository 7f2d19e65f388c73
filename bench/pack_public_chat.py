"""What the pack `public_chat` takes beside what was asked of it: 10,000 units, 100,000 sessions.

Each operation is one statement, timed in the server, around its execution; a visitor's are run as the role `anon`, under
its policies, and undone again where they write. Embeddings are random vectors of length 1, the hardest case for an
index: real ones lie closer together. Ten houses share the units, so that every search has a filter to pass.
"""

from __future__ import annotations

import asyncpg

from afresh_notifier import migrate, packs
from bench.report import Report, milliseconds, quantile
from bench.setup import progress, server

_HOUSES = 10

#: Runs a statement so many times with the numbers from 1 on, each in a subtransaction that is undone, and gives the
#: milliseconds that each took by the server's clock.
_TIMER = """
CREATE FUNCTION pg_temp.measure(statement text, times integer, undo boolean) RETURNS SETOF double precision
LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    taken double precision;
BEGIN
    FOR number IN 1..times LOOP
        BEGIN
            began := clock_timestamp();
            EXECUTE statement USING number;
            taken := extract(epoch FROM clock_timestamp() - began);
            IF undo THEN
                RAISE EXCEPTION 'undone' USING ERRCODE = 'UN000';
            END IF;
        EXCEPTION WHEN SQLSTATE 'UN000' THEN
            NULL;
        END;
        RETURN NEXT taken;
    END LOOP;
END
$$
"""

#: As a request does it: the cookie is set, and the session asked for, which has to be there.
_LOOK_UP = """
CREATE FUNCTION pg_temp.look_up(cookie text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    session prospective_sessions;
BEGIN
    PERFORM set_config('request.cookie_id', cookie, true);
    SELECT * INTO STRICT session FROM prospective_sessions WHERE cookie_id = cookie AND status = 'active';
END
$$
"""

#: A vector of length 1 that looks in any direction, drawn anew for each row.
_VECTOR = """
CREATE FUNCTION pg_temp.direction(seed bigint) RETURNS vector LANGUAGE sql AS $$
    SELECT l2_normalize(array_agg(sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) + 0 * seed)::vector)
    FROM generate_series(1, 1024)
$$
"""

_SESSION = """
INSERT INTO prospective_sessions (tenant_id, cookie_id, conversation_history, travel_intent, expires_at)
SELECT md5('house ' || n % $2)::uuid, md5('cookie ' || n), '[{"role": "user", "content": "A room with a sea view"}]',
    '{"guests": 4, "preferences": ["sea_view"]}', now() + make_interval(mins => 1 + (n % 10000)::integer)
FROM generate_series(1, $1::integer) AS n
"""

_UNITS = """
INSERT INTO accommodation_units (tenant_id, name, description, capacity, view_type, amenities, photos, base_price_night)
SELECT md5('house ' || n % $2)::uuid, 'Unit ' || n,
    'A room with a sea view and a balcony, five minutes from the beach. Number ' || n,
    1 + n % 6, 'sea', '["wifi", "balcony", "kitchen"]', '["https://example.com/1.jpg", "https://example.com/2.jpg"]', 100
FROM generate_series(1, $1::integer) AS n
"""


async def measure(scale: float) -> Report:
    """Run it: ``scale`` 1 is 10,000 units, 100,000 sessions and 200 runs of each operation."""
    units, sessions = max(500, round(10_000 * scale)), max(5_000, round(100_000 * scale))
    rounds = max(20, round(200 * scale))
    with server(maintenance_work_mem="512MB") as running:
        connection = await asyncpg.connect(running.dsn())
        try:
            with progress() as bar:
                task = bar.add_task("filling the tables", total=None)
                async for _ in migrate.up(connection, packs.installable(packs.find_all(["public_chat"]))):
                    pass
                migration = await _fill(connection, units, sessions)
                bar.update(task, description="measuring")
                rows = await _operations(connection, sessions, rounds)
        finally:
            await connection.close()
    per_unit = migration / units
    return Report(
        title=f"A public chat with {units:,} units and {sessions:,} sessions",
        columns=("operation", "asked for", "p50", "p95"),
        rows=(
            *rows,
            ("data migration, a unit", "about 500 ms, with its embeddings", milliseconds(per_unit), "-"),
        ),
        note=f"By the server's clock, {rounds} runs each (the clean-up: {max(5, rounds // 10)}, of a day's expired "
        f"sessions, one in seven). {_HOUSES} houses share the units; vectors are random ones. The data migration is "
        "without the embeddings, which follow by themselves.",
    )


async def _fill(connection: asyncpg.Connection, units: int, sessions: int) -> float:
    """Units, their public form and vectors, and sessions; the seconds that the data migration took."""
    await connection.execute(_TIMER)
    await connection.execute(_LOOK_UP)
    await connection.execute(_VECTOR)
    await connection.execute(
        "INSERT INTO tenant_registry (tenant_id, slug, name)"
        f" SELECT md5('house ' || n)::uuid, 'house-' || n, 'House ' || n FROM generate_series(0, {_HOUSES - 1}) AS n"
    )
    await connection.execute(_UNITS, units, _HOUSES, timeout=600)
    (migration,) = await _timed(connection, "SELECT count(*) FROM migrate_accommodation_units_public()", 1)
    # The index is built at the end, as one would; its triggers would only tell of what nobody hears here.
    await connection.execute("ALTER TABLE accommodation_units_public DISABLE TRIGGER USER")
    await connection.execute(
        """
        DO $$ BEGIN
            EXECUTE format('DROP INDEX %s', 'idx_accommodation_public_embedding_fast_hnsw'::regclass);
            UPDATE accommodation_units_public SET embedding_fast = pg_temp.direction(hashtext(name));
            CREATE INDEX idx_accommodation_public_embedding_fast_hnsw
                ON accommodation_units_public USING hnsw (embedding_fast vector_cosine_ops);
        END $$
        """,
        timeout=1200,
    )
    await connection.execute("ALTER TABLE accommodation_units_public ENABLE TRIGGER USER")
    await connection.execute(_SESSION, sessions, _HOUSES, timeout=600)
    await connection.execute("VACUUM ANALYZE accommodation_units_public")
    await connection.execute("VACUUM ANALYZE prospective_sessions")
    # The questions, drawn beforehand: drawing one takes longer than answering it.
    await connection.execute(
        "CREATE TABLE questions AS SELECT n, pg_temp.direction(n) AS direction FROM generate_series(1, 400) AS n;"
        "GRANT SELECT ON questions TO anon; ANALYZE questions"
    )
    return migration


async def _operations(connection: asyncpg.Connection, sessions: int, rounds: int) -> list[tuple[str, str, str, str]]:
    house = f"md5('house ' || $1 % {_HOUSES})::uuid"
    question = "(SELECT direction FROM questions WHERE n = 1 + $1 % 400)"
    lookup = f"SELECT pg_temp.look_up(md5('cookie ' || 1 + $1 * 7919 % {sessions}))"
    chat = f"SELECT * FROM public_chat('A room with a sea view for four', NULL, {house}, NULL, {question})"
    create = f"INSERT INTO prospective_sessions (tenant_id) VALUES ({house})"
    search = f"SELECT * FROM match_accommodations_public({question}, {house}, -1, 4)"
    found = []
    for what, target, statement, role in (
        ("session look-up by cookie", "below 10 ms", lookup, "anon"),
        ("session creation", "below 20 ms", create, "service_role"),
        ("vector search, 1,024 dimensions", "below 50 ms", search, "anon"),
        ("a whole message, with its answer", "-", chat, "anon"),
    ):
        await connection.execute("BEGIN")
        await connection.execute(f"GRANT USAGE ON SCHEMA {await _temporary(connection)} TO {role}")
        await connection.execute(f"SET LOCAL ROLE {role}")
        taken = await _timed(connection, statement, rounds)
        await connection.execute("ROLLBACK")
        found.append((what, target, milliseconds(quantile(taken, 0.5)), milliseconds(quantile(taken, 0.95))))
    # A day's expired sessions: one in seven of those that are there.
    await connection.execute(
        "UPDATE prospective_sessions SET expires_at = now() - interval '1 hour' WHERE hashtext(cookie_id) % 7 = 0",
        timeout=600,
    )
    await connection.execute("VACUUM ANALYZE prospective_sessions")
    for what, limit in (("clean-up of a day's expired sessions", None), ("clean-up of a thousand", 1000)):
        await connection.execute("BEGIN")
        if limit is not None:
            await connection.execute(
                "UPDATE prospective_sessions SET expires_at = now() + interval '1 hour'"
                " WHERE expires_at < now() AND session_id NOT IN"
                " (SELECT session_id FROM prospective_sessions WHERE expires_at < now() LIMIT $1)",
                limit,
                timeout=600,
            )
        taken = await _timed(connection, "SELECT cleanup_expired_sessions()", max(5, rounds // 10))
        await connection.execute("ROLLBACK")
        found.append((what, "below 100 ms", milliseconds(quantile(taken, 0.5)), milliseconds(quantile(taken, 0.95))))
    return found


async def _temporary(connection: asyncpg.Connection) -> str:
    name: str = await connection.fetchval("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")
    return name


async def _timed(connection: asyncpg.Connection, statement: str, times: int) -> list[float]:
    """The seconds of each run, in order; what the statement writes is undone where it runs more than once."""
    rows = await connection.fetch(
        "SELECT * FROM pg_temp.measure($1, $2, $3)", statement, times, times > 1, timeout=1200
    )
    return [row[0] for row in rows]
