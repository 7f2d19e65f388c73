"""Who may see and write what in the pack ``public_chat``: visitors, a house's staff, and those who try."""
# ruff: noqa: F401, F811 - fixtures

from __future__ import annotations

import json

import asyncpg
import pytest

from packs.public_chat_support import (
    HOUSE,
    OTHER,
    TABLES,
    add_unit,
    as_role,
    chat,
    houses,
    staff_of,
)

MINE = "mine-0123456789abcdef"
YOURS = "yours-0123456789abcdef"


@pytest.fixture
async def visited(houses: asyncpg.Connection) -> asyncpg.Connection:
    """Two houses, each with a unit of every state and one visitor's session."""
    for house, cookie in ((HOUSE, MINE), (OTHER, YOURS)):
        await add_unit(houses, "Shown", house=house)
        await add_unit(houses, "Inactive", house=house, is_active=False)
        await add_unit(houses, "Not bookable", house=house, is_bookable=False)
        await houses.execute(
            "INSERT INTO prospective_sessions (tenant_id, cookie_id, travel_intent) VALUES ($1, $2, '{\"guests\": 2}')",
            house,
            cookie,
        )
        await houses.execute(
            "INSERT INTO accommodation_units (tenant_id, name) VALUES ($1, 'A unit')",
            house,
        )
        await houses.execute(
            "INSERT INTO guest_reservations (tenant_id, check_in_date, check_out_date) VALUES ($1,"
            " '2030-01-01', '2030-01-02')",
            house,
        )
        await houses.execute(
            "INSERT INTO prospective_sessions_archive (session_id, tenant_id, travel_intent,"
            " utm_tracking, created_at, conversion_date)"
            " VALUES (gen_random_uuid(), $1, '{}', '{}', now(), now())",
            house,
        )
    return houses


async def cookies(
    db: asyncpg.Connection, role: str, *, cookie: str | None = None, claims: str | None = None
) -> set[str]:
    rows = await as_role(db, role, "SELECT cookie_id FROM prospective_sessions", cookie=cookie, claims=claims)
    return {row["cookie_id"] for row in rows}


async def units(db: asyncpg.Connection, role: str, claims: str | None = None) -> list[tuple[str, str]]:
    rows = await as_role(
        db, role, "SELECT tenant_id::text, name FROM accommodation_units_public ORDER BY 1, 2", claims=claims
    )
    return [(row["tenant_id"], row["name"]) for row in rows]


async def test_a_visitor_sees_his_own_session_and_no_other(visited: asyncpg.Connection) -> None:
    assert await cookies(visited, "anon", cookie=MINE) == {MINE}
    assert await cookies(visited, "anon", cookie=YOURS) == {YOURS}
    assert await cookies(visited, "anon", cookie="nobody-0123456789") == set()
    assert await cookies(visited, "anon") == set()
    assert await cookies(visited, "anon", cookie="%") == set()
    # A token's tenant gives a visitor nothing.
    assert await cookies(visited, "anon", claims=staff_of(HOUSE)) == set()


async def test_a_visitor_sees_active_bookable_units_of_any_house_and_changes_none(visited: asyncpg.Connection) -> None:
    assert await units(visited, "anon") == [(HOUSE, "Shown"), (OTHER, "Shown")]
    for statement in (
        "UPDATE accommodation_units_public SET name = 'Mine'",
        "DELETE FROM accommodation_units_public",
        "TRUNCATE accommodation_units_public",
        (
            f"INSERT INTO accommodation_units_public (tenant_id, name, unit_type, description,"
            f" short_description) VALUES ('{HOUSE}', 'x', 'x', 'x', 'x')"
        ),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_role(visited, "anon", statement, cookie=MINE)


@pytest.mark.parametrize(
    "table",
    [table for table in TABLES if table not in ("prospective_sessions", "accommodation_units_public")]
    + ["public_chat_funnel", "public_chat_funnel_live"],
)
async def test_a_visitor_reads_nothing_else(visited: asyncpg.Connection, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_role(visited, "anon", f"SELECT count(*) FROM {table}", cookie=MINE)


async def test_a_visitor_begins_a_session_of_his_own_only(visited: asyncpg.Connection) -> None:
    begin = "INSERT INTO prospective_sessions (tenant_id, cookie_id) VALUES ($1, $2)"
    await as_role(visited, "anon", begin, HOUSE, "fresh-0123456789abcdef", cookie="fresh-0123456789abcdef")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await as_role(visited, "anon", begin, HOUSE, "other-0123456789abcdef", cookie="fresh-0123456789abcdef")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await as_role(visited, "anon", begin, HOUSE, "other-0123456789abcdef")
    # Not with a house that takes no part.
    await visited.execute("UPDATE tenant_registry SET is_active = false WHERE tenant_id = $1", OTHER)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await as_role(visited, "anon", begin, OTHER, "late-0123456789abcdef", cookie="late-0123456789abcdef")


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("expires_at", "'2999-01-01'"),
        ("status, conversion_date", "'converted', now()"),
        ("session_id", "gen_random_uuid()"),
        ("created_at", "now()"),
    ],
)
async def test_a_visitor_cannot_say_how_long_it_lasts_nor_what_became_of_it(
    visited: asyncpg.Connection, columns: str, values: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await as_role(
            visited,
            "anon",
            f"INSERT INTO prospective_sessions (tenant_id, cookie_id, {columns}) VALUES ($1, $2, {values})",
            HOUSE,
            "fresh-0123456789abcdef",
            cookie="fresh-0123456789abcdef",
        )


async def test_a_visitor_changes_his_own_session_and_no_other(visited: asyncpg.Connection) -> None:
    change = "UPDATE prospective_sessions SET travel_intent = '{\"guests\": 9}' RETURNING cookie_id"
    rows = await as_role(visited, "anon", change, cookie=MINE)
    assert [row["cookie_id"] for row in rows] == [MINE]
    rows = await as_role(
        visited, "anon", f"{change[:-20]} WHERE cookie_id = $1 RETURNING cookie_id", YOURS, cookie=MINE
    )
    assert rows == []
    assert await as_role(visited, "anon", change) == []
    kept = await visited.fetchval("SELECT travel_intent FROM prospective_sessions WHERE cookie_id = $1", YOURS)
    assert json.loads(kept) == {"guests": 2}
    for forbidden in (
        "cookie_id = 'stolen-0123456789abc'",
        f"tenant_id = '{OTHER}'",
        "status = 'converted'",
        "expires_at = now()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await as_role(visited, "anon", f"UPDATE prospective_sessions SET {forbidden}", cookie=MINE)
    for forbidden in ("DELETE FROM prospective_sessions", "TRUNCATE prospective_sessions"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await as_role(visited, "anon", forbidden, cookie=MINE)


async def test_a_converted_session_is_read_only(visited: asyncpg.Connection) -> None:
    await visited.execute("UPDATE prospective_sessions SET status = 'converted', conversion_date = now()")
    assert await cookies(visited, "anon", cookie=MINE) == {MINE}
    assert (
        await as_role(visited, "anon", "UPDATE prospective_sessions SET travel_intent = '{}' RETURNING 1", cookie=MINE)
        == []
    )


async def test_the_staff_see_and_write_what_is_their_house_s(visited: asyncpg.Connection) -> None:
    ours = staff_of(HOUSE)
    assert await cookies(visited, "authenticated", claims=ours) == {MINE}
    # A cookie is no key for the staff.
    assert await cookies(visited, "authenticated", claims=ours, cookie=YOURS) == {MINE}
    assert await units(visited, "authenticated", ours) == [
        (HOUSE, "Inactive"),
        (HOUSE, "Not bookable"),
        (HOUSE, "Shown"),
    ]
    for table in ("tenant_registry", "accommodation_units", "guest_reservations", "prospective_sessions_archive"):
        rows = await as_role(visited, "authenticated", f"SELECT tenant_id::text FROM {table}", claims=ours)
        assert [row["tenant_id"] for row in rows] == [HOUSE], table
    rows = await as_role(
        visited,
        "authenticated",
        "UPDATE accommodation_units_public SET is_bookable = true RETURNING tenant_id::text",
        claims=ours,
    )
    assert {row["tenant_id"] for row in rows} == {HOUSE}
    assert len(rows) == 3
    rows = await as_role(visited, "authenticated", "DELETE FROM prospective_sessions RETURNING cookie_id", claims=ours)
    assert [row["cookie_id"] for row in rows] == [MINE]
    assert await visited.fetchval("SELECT count(*) FROM prospective_sessions") == 1


async def test_the_staff_write_texts_whose_embeddings_follow(visited: asyncpg.Connection) -> None:
    ours = staff_of(HOUSE)
    await visited.execute("DELETE FROM afresh.embedding_queue")
    await as_role(
        visited,
        "authenticated",
        "UPDATE accommodation_units_public SET description = 'New.' WHERE name = 'Shown'",
        claims=ours,
    )
    await as_role(
        visited,
        "authenticated",
        "INSERT INTO accommodation_units_public (tenant_id, name, unit_type, description, short_description)"
        " VALUES ($1, 'x', 'x', 'x', 'x')",
        HOUSE,
        claims=ours,
    )
    assert await visited.fetchval("SELECT count(*) FROM afresh.embedding_queue") == 2


async def test_the_staff_reach_no_other_house(visited: asyncpg.Connection) -> None:
    ours = staff_of(HOUSE)
    refused = [
        (
            f"INSERT INTO accommodation_units_public (tenant_id, name, unit_type, description,"
            f" short_description) VALUES ('{OTHER}', 'x', 'x', 'x', 'x')"
        ),
        f"INSERT INTO prospective_sessions (tenant_id) VALUES ('{OTHER}')",
        f"INSERT INTO accommodation_units (tenant_id, name) VALUES ('{OTHER}', 'x')",
        (
            f"INSERT INTO guest_reservations (tenant_id, check_in_date, check_out_date) VALUES"
            f" ('{OTHER}', '2030-01-01', '2030-01-02')"
        ),
        f"UPDATE accommodation_units_public SET tenant_id = '{OTHER}'",
        f"UPDATE prospective_sessions SET tenant_id = '{OTHER}'",
        f"UPDATE guest_reservations SET tenant_id = '{OTHER}'",
    ]
    for statement in refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await as_role(visited, "authenticated", statement, claims=ours)
    for table in ("accommodation_units_public", "prospective_sessions", "accommodation_units", "guest_reservations"):
        for statement in (
            f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = '{OTHER}' RETURNING 1",
            f"DELETE FROM {table} WHERE tenant_id = '{OTHER}' RETURNING 1",
        ):
            assert await as_role(visited, "authenticated", statement, claims=ours) == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_role(visited, "authenticated", f"TRUNCATE {table} CASCADE", claims=ours)


async def test_a_session_cannot_be_linked_to_another_house_s_reservation(visited: asyncpg.Connection) -> None:
    foreign = await visited.fetchval("SELECT id FROM guest_reservations WHERE tenant_id = $1", OTHER)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await as_role(
            visited,
            "authenticated",
            "UPDATE prospective_sessions SET status = 'converted', conversion_date = now(),"
            " converted_to_reservation_id = $1",
            foreign,
            claims=staff_of(HOUSE),
        )


@pytest.mark.parametrize(
    "claims",
    [
        None,
        "",
        "{",
        "not json",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"tenant_id": null}',
        '{"tenant_id": ""}',
        '{"tenant_id": "ours"}',
        '{"tenant_id": 7}',
        '{"tenant_id": ["11111111-1111-1111-1111-111111111111"]}',
        '{"tenant_id": "11111111-1111-1111-1111-111111111111\' OR true"}',
        '{"tenant": "11111111-1111-1111-1111-111111111111"}',
        '{"tenant_id": "\\u0000"}',
    ],
)
async def test_broken_or_missing_claims_mean_no_rows_and_no_error(
    visited: asyncpg.Connection, claims: str | None
) -> None:
    for table in TABLES:
        if table != "prospective_sessions_cleanups":
            assert await as_role(visited, "authenticated", f"SELECT * FROM {table}", claims=claims) == [], table
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await as_role(
            visited, "authenticated", f"INSERT INTO prospective_sessions (tenant_id) VALUES ('{HOUSE}')", claims=claims
        )


async def test_the_staff_see_what_the_migration_did_with_their_units(visited: asyncpg.Connection) -> None:
    await visited.execute("SELECT migrate_accommodation_units_public()")
    assert await visited.fetchval("SELECT count(*) FROM accommodation_unit_migrations") == 2
    rows = await as_role(
        visited, "authenticated", "SELECT * FROM accommodation_unit_migrations", claims=staff_of(HOUSE)
    )
    assert len(rows) == 1


async def test_a_server_of_the_operator_sees_all(visited: asyncpg.Connection) -> None:
    assert await cookies(visited, "service_role") == {MINE, YOURS}
    assert len(await units(visited, "service_role")) == 6
    assert await as_role(visited, "service_role", "SELECT * FROM public_chat_funnel") == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_nobody_from_outside_runs_the_jobs_or_reads_all_houses_figures(
    visited: asyncpg.Connection, role: str
) -> None:
    for statement in (
        "SELECT cleanup_expired_sessions()",
        "SELECT migrate_accommodation_units_public()",
        "SELECT * FROM public_chat_funnel",
        "SELECT * FROM public_chat_funnel_live",
        "SELECT * FROM prospective_sessions_cleanups",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_role(visited, role, statement, cookie=MINE, claims=staff_of(HOUSE))


async def test_default_privileges_of_the_database_do_not_leak_in(server_dsn_without_pack: str) -> None:
    # As where a platform hands every new table and function to these roles by default.
    from packs.public_chat_support import pack_up, read

    connection = await asyncpg.connect(server_dsn_without_pack)
    try:
        await connection.execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;"
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role"
        )
        await pack_up(connection)
        rows = await connection.fetch(read("verify.sql"))
        wrong = {row["check"]: row["found"] for row in rows if not row["ok"]}
        assert wrong == {}
    finally:
        await connection.close()


@pytest.fixture
async def server_dsn_without_pack(dsn: str, pack_template: str) -> str:
    """A database with the engine alone; the roles are in the cluster already."""
    del pack_template
    return dsn


async def test_the_chat_runs_under_the_policies(visited: asyncpg.Connection) -> None:
    from packs.public_chat_support import lexical, read

    # A cookie in the body that the request was not let in with is refused, whoever's it is.
    statement = read("queries/public_chat.sql").replace("$5", "$5::text::vector")
    for cookie in (YOURS, "unknown-0123456789abc"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_role(visited, "anon", statement, "hello", cookie, HOUSE, None, lexical("hello"), cookie=MINE)
    assert (await chat(visited, "hello", MINE))["created"] is False
