"""The pack ``public_chat`` as a whole: migrations up and down, its settings, sample data, checks, view and demo."""
# ruff: noqa: F401, F811 - fixtures

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from typing import Any

import asyncpg
import pytest

from afresh_notifier.errors import MigrationError
from conftest import ServerUnderTest
from packs.every_pack import pg_dump, run, undone
from packs.public_chat_support import (
    HOUSE,
    PUBLIC_CHAT,
    WATCHED,
    chat,
    embedded,
    failed_checks,
    houses,
    load_sample,
    pack_down,
    pack_up,
    read,
    refresh,
)

SETTINGS: dict[str, Any] = tomllib.loads(read("pack.toml"))


async def test_a_dump_can_be_restored(db: asyncpg.Connection, pack_dsn: str, server: ServerUnderTest) -> None:
    """Functions in generated columns, constraints and policies find what they call on an empty search path."""
    await load_sample(db, 20)
    program = pg_dump(db.get_server_version().major)
    dump = await asyncio.to_thread(run, [str(program), "--inserts", pack_dsn])
    name = await server.create()
    restored = await asyncpg.connect(server.dsn(name))
    try:
        # A newer pg_dump sets what an older server does not know.
        unknown = ("\\", "SET transaction_timeout")
        await restored.execute("\n".join(line for line in dump.splitlines() if not line.startswith(unknown)))
        await restored.execute("RESET search_path")
        features = "SELECT id, features, content FROM accommodation_units_public ORDER BY id"
        assert await restored.fetch(features) == await db.fetch(features)
        await restored.execute("REFRESH MATERIALIZED VIEW public_chat_funnel")
        assert await failed_checks(restored) == set()
    finally:
        await restored.close()
        await server.drop(name)


async def test_down_leaves_the_extension_the_roles_and_what_is_not_the_pack_s(db: asyncpg.Connection) -> None:
    await db.execute("CREATE TABLE mine (embedding vector(3)); GRANT SELECT ON mine TO anon")
    await pack_down(db)
    assert await db.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 1
    assert (
        await db.fetchval("SELECT count(*) FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')")
        == 3
    )
    assert await db.fetchval("SELECT to_regclass('mine') IS NOT NULL AND has_table_privilege('anon', 'mine', 'SELECT')")
    left = await db.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname ~"
        " 'public|accommodation|travel|session'"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')"
    )
    assert left == []
    assert await db.fetchval("SELECT count(*) FROM afresh.watched") == 0


async def test_down_refuses_to_drop_what_somebody_built_on_it(db: asyncpg.Connection) -> None:
    await db.execute("CREATE VIEW mine AS SELECT name FROM accommodation_units_public")
    with pytest.raises(MigrationError, match="view mine depends on table accommodation_units_public"):
        await pack_down(db)
    assert await db.fetchval("SELECT count(*) FROM mine") == 0


def prerequisites(*changes: tuple[str, str]) -> list[str]:
    """The two blocks of the first migration, with changes."""
    text = read("migrations/public_chat_0001_prerequisites.sql")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return re.findall(r"^DO \$\$.*?^\$\$;", text, flags=re.DOTALL | re.MULTILINE)


async def test_where_pgvector_is_missing_or_old_the_migration_says_so(db: asyncpg.Connection) -> None:
    (extension, _) = prerequisites(("name = 'vector'", "name = 'no_such_extension'"))
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="needs the extension pgvector") as raised:
        await db.execute(extension)
    assert "Install pgvector" in (raised.value.hint or "")
    (extension, _) = prerequisites(("ARRAY[0, 5]", "ARRAY[9, 0]"))
    with pytest.raises(asyncpg.FeatureNotSupportedError, match=r"this database has \d") as raised:
        await db.execute(extension)
    assert "ALTER EXTENSION vector UPDATE" in (raised.value.hint or "")


async def test_who_may_not_make_the_extension_or_the_roles_is_told_who_may(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE ROLE public_chat_modest")
    try:
        await connection.execute("SET ROLE public_chat_modest")
        (extension, _) = prerequisites()
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="public_chat_modest may not create it") as raised:
            await connection.execute(extension)
        assert "Let a superuser run CREATE EXTENSION vector" in (raised.value.hint or "")
        (_, roles) = prerequisites(("ARRAY['anon',", "ARRAY['public_chat_no_such',"))
        with pytest.raises(
            asyncpg.InsufficientPrivilegeError, match="public_chat_modest may not create roles"
        ) as raised:
            await connection.execute(roles)
        assert "CREATE ROLE anon NOLOGIN" in (raised.value.hint or "")
    finally:
        await connection.execute("RESET ROLE; DROP ROLE public_chat_modest")
        await connection.close()


async def test_who_may_make_roles_becomes_a_member_of_them(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE ROLE public_chat_maker CREATEROLE")
    try:
        await connection.execute("SET ROLE public_chat_maker")
        (_, roles) = prerequisites(
            ("ARRAY['anon', 'authenticated', 'service_role']", "ARRAY['public_chat_made']"),
        )
        await connection.execute(roles)
        await connection.execute(roles)
        assert await connection.fetchval("SELECT NOT rolcanlogin FROM pg_roles WHERE rolname = 'public_chat_made'")
        await connection.execute("SET ROLE public_chat_made")
    finally:
        await connection.execute("RESET ROLE; DROP ROLE IF EXISTS public_chat_made; DROP ROLE public_chat_maker")
        await connection.close()


async def test_the_extension_may_be_in_a_schema_of_its_own(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
        assert await pack_up(connection) == PUBLIC_CHAT.migrations
        await load_sample(connection, 10)
        await refresh(connection)
        assert await failed_checks(connection) == set()
        house = await connection.fetchval("SELECT tenant_id FROM tenant_registry LIMIT 1")
        await connection.execute(
            "UPDATE accommodation_units_public SET embedding_fast = ('[' || repeat('1,', 1023) || '1]')::extensions.vector"
        )
        found = await connection.fetch(
            "SELECT * FROM match_accommodations_public(('[' || repeat('1,', 1023) || '1]')::extensions.vector, $1)",
            house,
        )
        assert found
        assert await pack_down(connection) == PUBLIC_CHAT.migrations[::-1]
    finally:
        await connection.close()


def test_settings_name_what_makes_what_stale() -> None:
    assert {table["name"]: (table["keys"], table["patterns"]) for table in SETTINGS["tables"]} == {
        "tenant_registry": (["tenant_id"], ["units:{tenant_id}", "funnel"]),
        "accommodation_units_public": (["tenant_id"], ["units:{tenant_id}", "funnel"]),
        "prospective_sessions": (["tenant_id"], ["sessions", "funnel"]),
        "prospective_sessions_archive": (["tenant_id"], ["funnel"]),
        "guest_reservations": (["tenant_id"], ["reservations:{tenant_id}"]),
    }
    assert SETTINGS["views"] == [{"name": "public_chat_funnel", "patterns": ["funnel"]}]


def test_no_cookie_is_told_to_subscribers() -> None:
    for table in SETTINGS["tables"]:
        assert not any("cookie" in part for part in (*table["keys"], *table["patterns"]))


def test_settings_name_the_jobs_embeddings_and_endpoints() -> None:
    assert {job["name"]: job["schedule"] for job in SETTINGS["jobs"]} == {
        "cleanup_expired_sessions": "0 3 * * *",
        "migrate_accommodation_units": "17 * * * *",
    }
    assert [(e["table"], e["text"], e["column"], e["dimensions"]) for e in SETTINGS["embeddings"]] == [
        ("accommodation_units_public", "content", "embedding_full", 3072),
        ("accommodation_units_public", "content", "embedding_fast", 1024),
    ]
    assert {(query.get("method", "GET"), query["path"]) for query in SETTINGS["queries"]} == {
        ("POST", "/api/public-chat"),
        ("GET", "/api/public-chat/session/{cookieId}"),
        ("POST", "/api/public-chat/convert"),
    }
    for query in SETTINGS["queries"]:
        assert query["role"] == "anon"
        assert query["one"] is True
        assert query["session"] == {"request.cookie_id": "{cookieId}"}


async def test_a_visitor_s_message_is_a_change_that_is_told_without_the_cookie(houses: asyncpg.Connection) -> None:
    await houses.execute("DELETE FROM afresh.change_log")
    answer = await chat(houses, "hello")
    rows = await houses.fetch("SELECT * FROM afresh.change_log")
    assert rows
    assert answer["cookieId"] not in str([dict(row) for row in rows])
    assert HOUSE in str([dict(row) for row in rows])


async def test_sample_data_have_everything_that_the_rules_speak_of(embedded: asyncpg.Connection) -> None:
    for condition in (
        "prospective_sessions WHERE status = 'active' AND expires_at > now()",
        "prospective_sessions WHERE status = 'active' AND expires_at < now()",
        "prospective_sessions WHERE status = 'converted' AND conversion_date < now() - interval '90 days'",
        "prospective_sessions WHERE status = 'converted' AND conversion_date > now() - interval '90 days'",
        "prospective_sessions WHERE conversation_history = '[]'",
        "prospective_sessions WHERE travel_intent ? 'check_in'",
        "prospective_sessions WHERE travel_intent ? 'children'",
        "prospective_sessions WHERE utm_tracking <> '{}'",
        "prospective_sessions AS s JOIN guest_reservations AS r ON r.id = s.converted_to_reservation_id",
        "accommodation_units WHERE status = 'inactive'",
        "accommodation_units WHERE status = 'maintenance'",
        "accommodation_units_public WHERE pricing -> 'base_price_night' = 'null'",
        "accommodation_units_public WHERE jsonb_array_length(pricing -> 'seasonal') > 0",
        "accommodation_units_public WHERE right(short_description, 1) = '…'",
        "accommodation_unit_migrations WHERE outcome = 'failed'",
        "tenant_registry WHERE NOT is_active",
    ):
        assert await embedded.fetchval(f"SELECT count(*) FROM {condition}") > 0, condition


BREAKAGES: dict[str, set[str]] = {
    "DROP INDEX idx_prospective_sessions_cookie": {
        "index idx_prospective_sessions_cookie",
        "count named indexes of prospective_sessions",
    },
    "DROP INDEX idx_prospective_sessions_tenant": {
        "index idx_prospective_sessions_tenant",
        "count named indexes of prospective_sessions",
    },
    "DROP INDEX idx_prospective_sessions_expires": {
        "index idx_prospective_sessions_expires",
        "count named indexes of prospective_sessions",
    },
    "DROP INDEX idx_prospective_sessions_intent_gin": {
        "index idx_prospective_sessions_intent_gin",
        "count named indexes of prospective_sessions",
    },
    "DROP INDEX idx_accommodation_public_tenant": {
        "index idx_accommodation_public_tenant",
        "count named indexes of accommodation_units_public",
    },
    "DROP INDEX idx_accommodation_public_type": {
        "index idx_accommodation_public_type",
        "count named indexes of accommodation_units_public",
    },
    "DROP INDEX idx_accommodation_public_embedding_fast_hnsw": {
        "index idx_accommodation_public_embedding_fast_hnsw",
        "count named indexes of accommodation_units_public",
    },
    "DROP INDEX idx_prospective_sessions_cookie;"
    " CREATE UNIQUE INDEX idx_prospective_sessions_cookie ON prospective_sessions (cookie_id)": {
        "index idx_prospective_sessions_cookie"
    },
    "DROP INDEX idx_accommodation_public_embedding_fast_hnsw;"
    " CREATE INDEX idx_accommodation_public_embedding_fast_hnsw"
    " ON accommodation_units_public USING hnsw (embedding_fast vector_l2_ops)": {
        "index idx_accommodation_public_embedding_fast_hnsw"
    },
    "DROP TRIGGER trigger_accommodation_units_public_updated_at ON accommodation_units_public": {
        "trigger trigger_accommodation_units_public_updated_at"
    },
    "ALTER TABLE accommodation_units_public DISABLE TRIGGER trigger_accommodation_units_public_updated_at": {
        "trigger trigger_accommodation_units_public_updated_at"
    },
    "DROP TRIGGER trigger_prospective_sessions_keep_recent ON prospective_sessions": {
        "trigger trigger_prospective_sessions_keep_recent"
    },
    "DROP FUNCTION match_accommodations_public": {
        (
            "function match_accommodations_public(query_embedding vector, p_tenant_id uuid,"
            " match_threshold double precision, match_count integer)"
        ),
        "arguments of function match_accommodations_public",
        "who may run match_accommodations_public",
    },
    "ALTER FUNCTION match_accommodations_public SECURITY INVOKER": {
        (
            "function match_accommodations_public(query_embedding vector, p_tenant_id uuid,"
            " match_threshold double precision, match_count integer)"
        )
    },
    "ALTER FUNCTION match_accommodations_public RESET search_path": {
        (
            "function match_accommodations_public(query_embedding vector, p_tenant_id uuid,"
            " match_threshold double precision, match_count integer)"
        )
    },
    "GRANT EXECUTE ON FUNCTION match_accommodations_public TO PUBLIC": {"who may run match_accommodations_public"},
    "REVOKE EXECUTE ON FUNCTION match_accommodations_public FROM anon": {"who may run match_accommodations_public"},
    "GRANT EXECUTE ON FUNCTION cleanup_expired_sessions TO anon": {"who may run cleanup_expired_sessions"},
    "ALTER TABLE prospective_sessions DISABLE ROW LEVEL SECURITY": {"table prospective_sessions"},
    "ALTER TABLE accommodation_units_public DISABLE ROW LEVEL SECURITY": {"table accommodation_units_public"},
    "DROP POLICY prospective_sessions_visitor_read ON prospective_sessions": {
        "policy prospective_sessions.prospective_sessions_visitor_read"
    },
    "ALTER POLICY prospective_sessions_visitor_read ON prospective_sessions USING (true)": {
        "policy prospective_sessions.prospective_sessions_visitor_read"
    },
    "ALTER POLICY accommodation_units_public_staff ON accommodation_units_public TO PUBLIC": {
        "policy accommodation_units_public.accommodation_units_public_staff"
    },
    "GRANT DELETE ON prospective_sessions TO anon": {"privileges anon on prospective_sessions"},
    "GRANT UPDATE (status) ON prospective_sessions TO anon": {"privileges anon on prospective_sessions"},
    "GRANT SELECT ON public_chat_funnel TO PUBLIC": {
        "privileges anon on public_chat_funnel",
        "privileges authenticated on public_chat_funnel",
    },
    "ALTER TABLE prospective_sessions ALTER COLUMN expires_at SET DEFAULT now() + interval '30 days'": {
        "column prospective_sessions.expires_at"
    },
    "ALTER TABLE accommodation_units_public DROP COLUMN embedding_full": {
        "column accommodation_units_public.embedding_full"
    },
    "ALTER TABLE prospective_sessions DROP CONSTRAINT prospective_sessions_reservation_fkey": {
        "constraint prospective_sessions.prospective_sessions_reservation_fkey"
    },
    "ALTER TABLE accommodation_units_public DROP CONSTRAINT accommodation_units_public_short_description_check;"
    " UPDATE accommodation_units_public SET short_description = repeat('x', 200)": {
        "constraint accommodation_units_public.accommodation_units_public_short_description_check",
        "count short descriptions of more than 150 characters",
    },
    "ALTER TABLE prospective_sessions DISABLE TRIGGER trigger_prospective_sessions_keep_recent;"
    " UPDATE prospective_sessions SET conversation_history = (SELECT jsonb_agg(n) FROM generate_series(1, 30) AS n)": {
        "trigger trigger_prospective_sessions_keep_recent",
        "count sessions with more than twenty messages",
    },
    "REFRESH MATERIALIZED VIEW public_chat_funnel WITH NO DATA": {
        "view public_chat_funnel",
        "count rows of public_chat_funnel that differ from public_chat_funnel_live",
    },
    "DROP MATERIALIZED VIEW public_chat_funnel": {
        "view public_chat_funnel",
        "index idx_public_chat_funnel_tenant",
        "privileges anon on public_chat_funnel",
        "privileges authenticated on public_chat_funnel",
        "count rows of public_chat_funnel that differ from public_chat_funnel_live",
    },
    "DELETE FROM prospective_sessions": {"count rows of public_chat_funnel that differ from public_chat_funnel_live"},
    "SELECT afresh.unwatch_embedding('accommodation_units_public', 'content')": {
        "embeddings follow accommodation_units_public"
    },
    **{f"SELECT afresh.unwatch('{table}')": {f"watch on {table}"} for table in WATCHED},
}


async def test_each_broken_thing_fails_its_own_checks_and_no_others(embedded: asyncpg.Connection) -> None:
    await PUBLIC_CHAT.fails_exactly(embedded, BREAKAGES.items())


async def test_each_object_that_is_missing_fails_its_own_check(embedded: asyncpg.Connection) -> None:
    """Whatever verify names, once it is gone, is reported; the query itself never fails."""
    rows = await embedded.fetch(read("verify.sql"))
    drops = {"table": "TABLE", "index": "INDEX", "function": "FUNCTION"}
    for row in rows:
        kind, name = row["check"].split(" ", 1)
        if kind in drops:
            # The arguments' names are given as well, which DROP FUNCTION understands.
            statement = f"DROP {drops[kind]} {name} CASCADE"
        elif kind == "column":
            statement = "ALTER TABLE {} DROP COLUMN {} CASCADE".format(*name.split("."))
        elif kind == "constraint":
            statement = "ALTER TABLE {} DROP CONSTRAINT {} CASCADE".format(*name.split("."))
        elif kind == "policy":
            table, policy = name.split(".")
            statement = f"DROP POLICY {policy} ON {table}"
        elif kind == "view":
            statement = f"DROP {'VIEW' if name.endswith('_live') else 'MATERIALIZED VIEW'} {name} CASCADE"
        elif row["check"] == "extension vector":
            statement = "DROP EXTENSION vector CASCADE"
        else:
            continue
        async with undone(embedded):
            await embedded.execute(statement)
            assert row["check"] in await failed_checks(embedded), statement


async def test_the_funnel_counts_what_became_of_the_conversations(embedded: asyncpg.Connection) -> None:
    rows = await embedded.fetch("SELECT * FROM public_chat_funnel ORDER BY tenant_name")
    for row in rows:
        for column, condition in (
            ("sessions", "true"),
            ("active_sessions", "status = 'active'"),
            ("converted_sessions", "status = 'converted'"),
            ("sessions_with_dates", "travel_intent ? 'check_in'"),
            ("sessions_with_guests", "travel_intent ? 'guests'"),
        ):
            counted = await embedded.fetchval(
                f"SELECT count(*) FROM prospective_sessions WHERE tenant_id = $1 AND {condition}", row["tenant_id"]
            )
            assert row[column] == counted, column
        assert row["public_units"] == row["bookable_units"] == row["units_with_embeddings"] > 0
        assert row["archived_sessions"] == 0
        rate = round(100 * row["converted_sessions"] / row["sessions"], 2) if row["sessions"] else None
        assert row["conversion_rate"] == rate
    assert len(rows) == 3
    await embedded.fetch("SELECT * FROM cleanup_expired_sessions()")
    await refresh(embedded)
    assert await embedded.fetchval("SELECT sum(archived_sessions) FROM public_chat_funnel") > 0


async def test_demo_traffic_leaves_each_house_two_hundred_conversations_at_the_most(db: asyncpg.Connection) -> None:
    await load_sample(db, 10)
    house = await db.fetchval("SELECT tenant_id FROM tenant_registry WHERE is_active LIMIT 1")
    await db.execute("INSERT INTO prospective_sessions (tenant_id) SELECT $1 FROM generate_series(1, 500)", house)
    for number in range(100):
        await db.execute("SELECT setseed($1)", number / 100)
        await db.execute(read("demo/traffic.sql"))
    counts = await db.fetch("SELECT count(*) AS many FROM prospective_sessions GROUP BY tenant_id")
    assert max(row["many"] for row in counts) <= 250


async def test_the_search_takes_a_vector_from_the_service(db: asyncpg.Connection) -> None:
    types = [t.name for t in (await db.prepare(read("queries/public_chat.sql"))).get_parameters()]
    assert types == ["text", "text", "uuid", "jsonb", "vector"]


async def test_the_documented_validation_queries_run(embedded: asyncpg.Connection) -> None:
    columns = await embedded.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'prospective_sessions'"
    )
    assert {"cookie_id", "conversation_history", "travel_intent", "utm_tracking", "expires_at"} <= {
        row["column_name"] for row in columns
    }
    rows = await embedded.fetch(
        """
        SELECT id, similarity FROM match_accommodations_public(
            (SELECT embedding_fast FROM accommodation_units_public LIMIT 1),
            (SELECT tenant_id FROM accommodation_units_public LIMIT 1),
            0.3, 4
        )
        """
    )
    assert rows[0]["similarity"] == pytest.approx(1, abs=1e-5)
    counted = await embedded.fetchrow(
        "SELECT COUNT(*) AS units, COUNT(embedding_fast) AS with_embeddings FROM accommodation_units_public"
    )
    assert counted is not None
    assert counted["units"] == counted["with_embeddings"] == 46
    policies = await embedded.fetch(
        "SELECT tablename, roles FROM pg_policies WHERE tablename IN ('prospective_sessions', 'accommodation_units_public')"
    )
    assert len(policies) == 8
    assert json.loads(json.dumps([list(row["roles"]) for row in policies]))
