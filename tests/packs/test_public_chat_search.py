"""The search of the pack ``public_chat``: who is found, who is not, and by which way."""
# ruff: noqa: F401, F811 - fixtures

from __future__ import annotations

import json

import asyncpg
import pytest

from packs.public_chat_support import (
    HOUSE,
    OTHER,
    add_unit,
    as_role,
    embedded,
    houses,
    lexical,
    staff_of,
)

SEARCH = "SELECT * FROM match_accommodations_public($1::text::vector, $2, $3, $4)"


async def names(
    db: asyncpg.Connection, question: str, house: str = HOUSE, threshold: float | None = 0.1, count: int | None = 4
) -> list[str]:
    rows = await db.fetch(SEARCH, lexical(question), house, threshold, count)
    similarities = [row["similarity"] for row in rows]
    assert similarities == sorted(similarities, reverse=True)
    return [json.loads(row["metadata"])["name"] for row in rows]


async def test_the_signature_is_the_documented_one(db: asyncpg.Connection) -> None:
    row = await db.fetchrow(
        "SELECT pg_get_function_arguments(p.oid) AS given, pg_get_function_result(p.oid) AS found,"
        " prosecdef, provolatile::text AS volatility,"
        " l.lanname AS language FROM pg_proc AS p JOIN pg_language AS l ON l.oid = prolang WHERE"
        " proname = 'match_accommodations_public'"
    )
    assert row is not None
    assert dict(row) == {
        "given": (
            "query_embedding vector, p_tenant_id uuid,"
            " match_threshold double precision DEFAULT 0.3, match_count integer DEFAULT 4"
        ),
        "found": (
            "TABLE(id uuid, content text, similarity double precision, source_file text,"
            " pricing jsonb, photos jsonb, metadata jsonb)"
        ),
        "prosecdef": True,
        "volatility": "s",
        "language": "plpgsql",
    }


async def test_the_nearest_come_first_and_the_far_do_not_come(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Blue", "blue whale with a harpoon")
    await add_unit(houses, "Green", "green frog")
    await add_unit(houses, "Both", "blue whale and green frog")
    assert await names(houses, "blue whale harpoon", threshold=0.2) == ["Blue", "Both"]
    assert await names(houses, "blue whale harpoon", count=1) == ["Blue"]
    assert await names(houses, "blue whale harpoon", threshold=0.99) == []
    assert len(await names(houses, "blue whale harpoon", threshold=-1)) == 3


async def test_what_is_told_of_a_unit(houses: asyncpg.Connection) -> None:
    unit = await add_unit(
        houses,
        "Blue",
        "blue whale, sea view",
        capacity=3,
        photos=json.dumps([{"url": "https://example.com/a.jpg"}]),
        metadata='{"note": "kept"}',
        highlights=["Harpoon"],
    )
    (row,) = await houses.fetch(SEARCH, lexical("blue whale"), HOUSE, 0.1, 4)
    assert str(row["id"]) == unit
    assert "blue whale" in row["content"]
    assert "Harpoon" in row["content"]
    assert 0.1 < row["similarity"] <= 1
    assert row["source_file"] == f"accommodation_units_public/{unit}"
    assert json.loads(row["pricing"])["base_price_night"] == 100
    assert json.loads(row["photos"]) == [{"url": "https://example.com/a.jpg"}]
    metadata = json.loads(row["metadata"])
    assert metadata["note"] == "kept"
    assert metadata["amenities"] == {"capacity": 3}
    assert metadata["highlights"] == ["Harpoon"]
    assert "sea_view" in metadata["features"]


async def test_the_defaults_are_four_units_above_three_tenths(houses: asyncpg.Connection) -> None:
    for number in range(6):
        await add_unit(houses, f"Unit {number}", "blue whale harpoon")
    await add_unit(houses, "Far", "green frog")
    default = await houses.fetch(
        "SELECT * FROM match_accommodations_public($1::text::vector, $2)", lexical("whale"), HOUSE
    )
    assert default == await houses.fetch(SEARCH, lexical("whale"), HOUSE, 0.3, 4)
    assert default == await houses.fetch(SEARCH, lexical("whale"), HOUSE, None, None)
    assert len(default) == 4
    assert all(row["similarity"] > 0.3 for row in default)


async def test_no_house_finds_another_s_units_nor_what_is_not_shown(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Ours", "blue whale")
    await add_unit(houses, "Theirs", "blue whale", house=OTHER)
    await add_unit(houses, "Inactive", "blue whale", is_active=False)
    await add_unit(houses, "Not bookable", "blue whale", is_bookable=False)
    await add_unit(houses, "Not embedded", "blue whale", embedded=False)
    assert await names(houses, "blue whale", threshold=-1) == ["Ours"]
    assert await names(houses, "blue whale", OTHER, threshold=-1) == ["Theirs"]
    assert await names(houses, "blue whale", "33333333-3333-3333-3333-333333333333", threshold=-1) == []


async def test_strange_arguments_find_nothing_or_say_what_is_wrong(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Ours", "blue whale")
    ours = lexical("blue whale")
    assert await houses.fetch(SEARCH, None, HOUSE, 0.3, 4) == []
    assert await houses.fetch(SEARCH, ours, None, 0.3, 4) == []
    for count in (0, -1, -(2**31)):
        assert await houses.fetch(SEARCH, ours, HOUSE, 0.3, count) == []
    assert len(await houses.fetch(SEARCH, ours, HOUSE, 0.3, 2**31 - 1)) == 1
    # A vector of zeros is near to nothing, not to everything.
    zeros = "[" + ",".join(["0"] * 1024) + "]"
    assert await houses.fetch(SEARCH, zeros, HOUSE, -1, 4) == []
    with pytest.raises(asyncpg.DataError, match="different vector dimensions 1024 and 3"):
        await houses.fetch(SEARCH, "[1,2,3]", HOUSE, 0.3, 4)


async def test_visitors_and_staff_search_alike_and_other_roles_do_not(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Ours", "blue whale")
    await add_unit(houses, "Hidden", "blue whale", is_bookable=False)
    for role in ("anon", "authenticated", "service_role"):
        rows = await as_role(houses, role, SEARCH, lexical("blue whale"), HOUSE, -1, 4, claims=staff_of(OTHER))
        assert [json.loads(row["metadata"])["name"] for row in rows] == ["Ours"]
    await houses.execute("CREATE ROLE public_chat_stranger")
    try:
        await houses.execute("GRANT USAGE ON SCHEMA public TO public_chat_stranger")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_role(houses, "public_chat_stranger", SEARCH, lexical("blue whale"), HOUSE, -1, 4)
    finally:
        await houses.execute("DROP OWNED BY public_chat_stranger; DROP ROLE public_chat_stranger")


async def test_objects_that_a_caller_makes_cannot_come_in_between(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Ours", "blue whale")
    await houses.execute(
        """
        CREATE TEMPORARY TABLE accommodation_units_public (LIKE public.accommodation_units_public);
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.sqrt(double precision) RETURNS double precision LANGUAGE sql AS 'SELECT 1 / 0.0::float8';
        CREATE FUNCTION evil.ceil(double precision) RETURNS double precision LANGUAGE sql AS 'SELECT 1 / 0.0::float8'
        """
    )
    await houses.execute("SET search_path = pg_temp, evil, public, pg_catalog")
    assert await names(houses, "blue whale") == ["Ours"]


async def fill(db: asyncpg.Connection, units: dict[str, int]) -> None:
    """So many units for each house, with embeddings of a few random places each, which the index takes quickly."""
    await db.execute("ALTER TABLE accommodation_units_public DISABLE TRIGGER USER")
    await db.execute("SELECT setseed(0.5)")
    for house, many in units.items():
        await db.execute(
            """
            INSERT INTO accommodation_units_public (
                tenant_id, name, unit_type, description, short_description, embedding_fast
            )
            SELECT $1::uuid, 'Unit ' || n, 'room', 'A room', 'A room', (
                SELECT format('{%s}/1024', string_agg(place || ':' || round(random()::numeric, 3) + 0.1, ','))
                FROM (
                    SELECT DISTINCT 1 + floor(random() * 1024)::integer AS place FROM generate_series(1, 12) WHERE n = n
                ) AS p
            )::sparsevec::vector
            FROM generate_series(1, $2::integer) AS n
            """,
            house,
            many,
        )
    await db.execute("ALTER TABLE accommodation_units_public ENABLE TRIGGER USER; ANALYZE accommodation_units_public")


EXACT = """
SELECT id FROM accommodation_units_public
WHERE tenant_id = $2 AND is_active AND is_bookable ORDER BY (embedding_fast <=> $1::text::vector) + 0 LIMIT $3
"""
SCANS = "SELECT pg_stat_get_xact_numscans(to_regclass('idx_accommodation_public_embedding_fast_hnsw'))"


async def test_large_houses_are_searched_by_the_index_and_small_ones_wholly(houses: asyncpg.Connection) -> None:
    third = "33333333-3333-3333-3333-333333333333"
    await houses.execute(f"INSERT INTO tenant_registry (tenant_id, slug, name) VALUES ('{third}', 'third', 'Third')")
    await fill(houses, {HOUSE: 1500, OTHER: 480, third: 20})
    asked = await houses.fetchval("SELECT embedding_fast::text FROM accommodation_units_public OFFSET 77 LIMIT 1")
    for house, count, by_index in ((HOUSE, 4, True), (OTHER, 4, True), (third, 4, False), (third, 30, False)):
        async with houses.transaction():
            before = await houses.fetchval(SCANS)
            rows = await houses.fetch(SEARCH, asked, house, -1, count)
            assert (await houses.fetchval(SCANS) > before) is by_index, house
        assert len(rows) == min(count, 20 if house == third else count)
        if not by_index:
            exact = await houses.fetch(EXACT, asked, house, count)
            assert {row["id"] for row in rows} == {row["id"] for row in exact}


async def test_what_the_index_does_not_give_is_found_all_the_same(houses: asyncpg.Connection) -> None:
    await fill(houses, {HOUSE: 300, OTHER: 900})
    asked = await houses.fetchval(
        "SELECT embedding_fast::text FROM accommodation_units_public WHERE tenant_id = $1 LIMIT 1", HOUSE
    )
    # As an old pgvector does: it looks at a few, here at the unit itself, and gives up.
    await houses.execute(
        "ALTER FUNCTION match_accommodations_public(vector, uuid, double precision, integer) SET hnsw.iterative_scan = off;"
        "ALTER FUNCTION match_accommodations_public(vector, uuid, double precision, integer) SET hnsw.ef_search = 1"
    )
    exact = {row["id"] for row in await houses.fetch(EXACT, asked, HOUSE, 4)}
    rows = await houses.fetch(SEARCH, asked, HOUSE, -1, 4)
    assert {row["id"] for row in rows} == exact


async def test_the_settings_of_the_index_are_the_function_s_and_no_one_else_s(houses: asyncpg.Connection) -> None:
    settings = await houses.fetchval("SELECT proconfig FROM pg_proc WHERE proname = 'match_accommodations_public'")
    assert "hnsw.iterative_scan=relaxed_order" in settings
    assert "search_path=pg_catalog, public, pg_temp" in settings
    await houses.execute("SELECT '[1]'::vector")
    before = await houses.fetch("SELECT name, setting FROM pg_settings WHERE name LIKE 'hnsw%' OR name LIKE 'enable%'")
    await houses.fetch(SEARCH, lexical("x"), HOUSE, 0.1, 4)
    assert before == await houses.fetch(
        "SELECT name, setting FROM pg_settings WHERE name LIKE 'hnsw%' OR name LIKE 'enable%'"
    )


async def test_sample_data_have_a_right_answer(embedded: asyncpg.Connection) -> None:
    house = await embedded.fetchval("SELECT tenant_id FROM tenant_registry WHERE slug = 'casa-del-faro'")
    assert (await names(embedded, "room with sea view for four", house))[0] == "Atlantic Family Room"
    assert (await names(embedded, "romantic honeymoon with a jacuzzi", house))[0] == "Honeymoon Suite"
    assert (await names(embedded, "dogs welcome garden barbecue", house))[0] == "Garden Apartment"
