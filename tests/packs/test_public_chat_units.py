"""The data migration of the pack ``public_chat``: units as the house keeps them, and as the public sees them."""
# ruff: noqa: F401, F811 - fixtures

from __future__ import annotations

import json
from typing import Any

import asyncpg
import pytest

from packs.public_chat_support import HOUSE, OTHER, houses, load_sample, read

DESCRIPTION = "A bright room with a sea view."


async def add_source(db: asyncpg.Connection, name: str = "Lighthouse", **columns: Any) -> str:
    """A unit as the house keeps it; returns its id."""
    values = {"tenant_id": HOUSE, "name": name, "description": DESCRIPTION, **columns}
    values = {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in values.items()}
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    unit = await db.fetchval(
        f"INSERT INTO accommodation_units ({', '.join(values)}) VALUES ({places}) RETURNING id", *values.values()
    )
    return str(unit)


async def run(db: asyncpg.Connection, arguments: str = "") -> dict[str, str]:
    """Migrate; what became of each unit, by name."""
    rows = await db.fetch(f"SELECT * FROM migrate_accommodation_units_public({arguments})")
    return {
        row["name"]: row["outcome"] if row["error"] is None else f"{row['outcome']}: {row['error']}" for row in rows
    }


async def shown(db: asyncpg.Connection, name: str = "Lighthouse") -> dict[str, Any]:
    """A unit's public form."""
    row = await db.fetchrow("SELECT * FROM accommodation_units_public WHERE name = $1", name)
    assert row is not None
    documents = ("amenities", "pricing", "photos", "metadata")
    return {key: json.loads(value) if key in documents else value for key, value in row.items()}


async def test_an_active_unit_gets_its_public_form(houses: asyncpg.Connection) -> None:
    source = await add_source(
        houses,
        " Lighthouse ",
        unit_number="12",
        unit_type="suite",
        description="<p>A  bright <b>suite</b>\n with a sea view.</p>",
        capacity=4,
        bedrooms=2,
        bathrooms=1.5,
        beds=[{"kind": "double", "count": 2}],
        size_m2=45,
        floor_number=3,
        view_type="sea",
        unique_features=["Four-poster bed", " "],
        amenities=["wifi", "balcony", "kitchen"],
        photos=["https://example.com/1.jpg", {"src": "https://example.com/2.jpg", "caption": "The bath"}],
        virtual_tour_url="https://example.com/tour",
        base_price_night=120,
        currency="EUR",
        seasonal_rates=[{"name": "Summer", "from": "2026-07-01", "to": "2026-08-31", "price_night": 150}],
        is_featured=True,
    )
    assert await run(houses) == {" Lighthouse ": "added"}
    unit = await shown(houses)
    assert str(unit["tenant_id"]) == HOUSE
    assert str(unit["source_unit_id"]) == source
    assert (unit["unit_number"], unit["unit_type"]) == ("12", "suite")
    assert unit["description"] == unit["short_description"] == "A bright suite with a sea view."
    assert unit["highlights"] == ["Four-poster bed", "Sea view", "Balcony", "Kitchen", "Sleeps 4"]
    assert unit["amenities"] == {
        "capacity": 4,
        "bedrooms": 2,
        "bathrooms": 1.5,
        "beds": [{"kind": "double", "count": 2}],
        "size_m2": 45,
        "floor": 3,
        "view": "sea",
        "features": ["wifi", "balcony", "kitchen"],
    }
    assert unit["pricing"] == {
        "currency": "EUR",
        "base_price_night": 120,
        "seasonal": [{"name": "Summer", "from": "2026-07-01", "to": "2026-08-31", "price_night": 150}],
    }
    assert unit["photos"] == [
        {"url": "https://example.com/1.jpg", "alt": "Lighthouse", "order": 1, "is_primary": True},
        {"url": "https://example.com/2.jpg", "alt": "The bath", "order": 2, "is_primary": False},
    ]
    assert unit["virtual_tour_url"] == "https://example.com/tour"
    assert unit["metadata"] == {
        "source": {"table": "accommodation_units", "unit_id": source, "unit_number": "12"},
        "is_featured": True,
    }
    assert (unit["is_active"], unit["is_bookable"], unit["embedding_fast"], unit["embedding_full"]) == (
        True,
        True,
        None,
        None,
    )
    assert unit["capacity"] == 4
    assert set(unit["features"]) >= {"sea_view", "wifi", "balcony", "kitchen"}
    for part in ("Lighthouse (suite)", "bright suite", "Four-poster bed", "wifi", "For up to 4 guests"):
        assert part in unit["content"]


async def test_a_unit_of_which_little_is_known_is_shown_with_that(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    unit = await shown(houses)
    assert (unit["highlights"], unit["amenities"], unit["photos"]) == ([], {"features": []}, [])
    assert unit["pricing"] == {"currency": "USD", "base_price_night": None, "seasonal": []}


SHORT = [
    ("Short.", "Short."),
    ("  two \n\t blanks  ", "two blanks"),
    ("x" * 150, "x" * 150),
    ("x" * 151, "x" * 149 + "…"),
    ("word " * 40, "word " * 29 + "word…"),
    ("a" * 149 + " b", "a" * 149 + "…"),
    ("a" * 150 + " b", "a" * 149 + "…"),
    ("a" * 140 + ", and more than that", "a" * 140 + ", and…"),
    ("a" * 146 + ", b c d", "a" * 146 + ", b…"),
    ("a" * 147 + ", b c d", "a" * 147 + "…"),
    ("ñ" * 151, "ñ" * 149 + "…"),
    ("", ""),
]


async def test_the_short_description_is_cut_after_a_word(db: asyncpg.Connection) -> None:
    for text, expected in SHORT:
        found = await db.fetchval("SELECT accommodation_short_description($1)", text)
        assert found == expected
        assert len(found) <= 150
    for length in range(140, 170):
        found = await db.fetchval("SELECT accommodation_short_description($1)", ("wörd " * 50)[:length])
        assert len(found) <= 150
        assert found.rstrip("…").split()[-1] in ("wörd", ("wörd " * 50)[:length].split()[-1])


AMENITIES: list[tuple[Any, list[str]]] = [
    (None, []),
    ([], []),
    (["wifi", "pool", " ", ""], ["wifi", "pool"]),
    (
        {
            "wifi": True,
            "air_conditioning": True,
            "pool": False,
            "parking": 2,
            "gym": 0,
            "kitchen": "shared",
            "tv": None,
        },
        ["air conditioning", "kitchen: shared", "parking", "wifi"],
    ),
]


async def test_amenities_are_taken_from_lists_and_from_objects(houses: asyncpg.Connection) -> None:
    for number, (given, _) in enumerate(AMENITIES):
        await add_source(houses, f"Unit {number}", amenities=given)
    await run(houses)
    for number, (_, expected) in enumerate(AMENITIES):
        assert (await shown(houses, f"Unit {number}"))["amenities"]["features"] == expected


PHOTOS: list[tuple[Any, list[tuple[str, str]]]] = [
    (None, []),
    ([], []),
    (["b", "a"], [("b", "Unit"), ("a", "Unit")]),
    (
        [{"url": "b", "order": 2}, {"url": "a", "order": 1, "alt": "First"}, "c"],
        [("a", "First"), ("b", "Unit"), ("c", "Unit")],
    ),
    ([{"url": "b"}, {"src": "a", "is_primary": True, "title": "Front"}], [("a", "Front"), ("b", "Unit")]),
    ([{"url": "b", "position": "x"}, {"caption": "lost"}, 7, None, " ", {"url": ""}], [("b", "Unit")]),
]


async def test_photos_are_taken_in_every_form(db: asyncpg.Connection) -> None:
    for given, expected in PHOTOS:
        found = json.loads(await db.fetchval("SELECT accommodation_photos($1::jsonb, 'Unit')", json.dumps(given)))
        assert [(photo["url"], photo["alt"]) for photo in found] == expected, given
        assert [photo["order"] for photo in found] == list(range(1, len(found) + 1))
        assert [photo["is_primary"] for photo in found] == [number == 0 for number in range(len(found))]


async def test_highlights_are_six_at_the_most_and_none_is_said_twice(houses: asyncpg.Connection) -> None:
    await add_source(
        houses,
        view_type="garden",
        capacity=8,
        unique_features=["Garden view", "One", "one", "Two"],
        amenities=["pool", "jacuzzi", "kitchen", "wifi", "terrace"],
    )
    await run(houses)
    assert (await shown(houses))["highlights"] == ["Garden view", "One", "Two", "Pool", "Jacuzzi", "Kitchen"]


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("No words", {"description": None}, "it has no description"),
    ("Only tags", {"description": "<p> </p>"}, "it has no description"),
    (" ", {}, "it has no name"),
    ("Amenities", {"amenities": '"wifi"'}, "amenities is a string, and should be a list or an object"),
    ("Items", {"amenities": [1, 2]}, "amenities has an item that is no text"),
    ("Features", {"unique_features": "7"}, "unique_features is a number, and should be a list or an object"),
    ("Photos", {"photos": {"url": "a"}}, "photos is a object, and should be a list"),
    ("Seasons", {"seasonal_rates": {}}, "seasonal_rates is a object, and should be a list"),
    (
        "Dates",
        {"seasonal_rates": [{"from": "2026-02-30", "to": "2026-03-01", "price_night": 5}]},
        "a seasonal rate lacks a date (2026-07-01) in from or to, or a number in price_night",
    ),
    ("Price", {"base_price_night": -1}, "a capacity, a number of rooms or a price is negative or nought"),
    ("Capacity", {"capacity": 0}, "a capacity, a number of rooms or a price is negative or nought"),
]


async def test_a_broken_unit_is_reported_and_the_others_go_on(houses: asyncpg.Connection) -> None:
    await add_source(houses, "First")
    for name, columns, _ in BROKEN:
        await add_source(houses, name, **columns)
    await add_source(houses, "Last")
    outcomes = await run(houses)
    assert outcomes == {
        "First": "added",
        **{name: f"failed: {problem}" for name, _, problem in BROKEN},
        "Last": "added",
    }
    assert await houses.fetchval("SELECT count(*) FROM accommodation_units_public") == 2
    kept = await houses.fetch("SELECT error FROM accommodation_unit_migrations WHERE outcome = 'failed' ORDER BY error")
    assert [row["error"] for row in kept] == sorted(problem for *_, problem in BROKEN)
    # It is tried again each time, and taken in when it is repaired.
    await houses.execute("UPDATE accommodation_units SET description = 'Words.' WHERE name = 'No words'")
    assert (await run(houses))["No words"] == "added"
    assert (
        await houses.fetchval("SELECT count(*) FROM accommodation_unit_migrations WHERE error IS NOT NULL")
        == len(BROKEN) - 1
    )


async def test_a_unit_that_breaks_later_keeps_the_form_it_had(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    before = await shown(houses)
    await houses.execute("UPDATE accommodation_units SET description = NULL")
    assert await run(houses) == {"Lighthouse": "failed: it has no description"}
    assert await shown(houses) == before


async def test_a_second_run_changes_nothing(houses: asyncpg.Connection) -> None:
    for number in range(5):
        await add_source(houses, f"Unit {number}")
    await run(houses)
    before = await houses.fetch("SELECT ctid, xmin, * FROM accommodation_units_public ORDER BY id")
    assert set((await run(houses)).values()) == {"unchanged"}
    # Another moment of writing is no change of what is written.
    await houses.execute("UPDATE accommodation_units SET updated_at = now() + interval '1 day'")
    assert set((await run(houses)).values()) == {"unchanged"}
    assert await houses.fetch("SELECT ctid, xmin, * FROM accommodation_units_public ORDER BY id") == before
    job = await houses.fetch(read("jobs/migrate_accommodation_units.sql"))
    assert job == []


async def test_it_goes_on_where_it_was_stopped(houses: asyncpg.Connection) -> None:
    for number in range(5):
        await add_source(houses, f"Unit {number}")
    assert list((await run(houses, "most => 2")).values()) == ["added", "added"]
    assert sorted((await run(houses, "most => 2")).values()) == ["added", "added", "unchanged", "unchanged"]
    assert sorted((await run(houses)).values()) == ["added", *["unchanged"] * 4]
    assert await houses.fetchval("SELECT count(*) FROM accommodation_units_public") == 5


async def test_after_the_public_form_was_emptied_it_is_made_anew(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute("TRUNCATE TABLE accommodation_units_public")
    assert await run(houses) == {"Lighthouse": "added"}


async def test_one_house_may_be_taken_alone(houses: asyncpg.Connection) -> None:
    await add_source(houses, "Ours")
    await add_source(houses, "Theirs", tenant_id=OTHER)
    assert await run(houses, f"'{OTHER}'") == {"Theirs": "added"}
    assert await run(houses) == {"Ours": "added", "Theirs": "unchanged"}


async def test_a_source_that_changed_changes_the_public_form_and_keeps_its_identity(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    before = await shown(houses)
    await houses.execute("UPDATE accommodation_units SET description = 'Another.', capacity = 3")
    assert await run(houses) == {"Lighthouse": "updated"}
    after = await shown(houses)
    assert after["id"] == before["id"]
    assert (after["description"], after["capacity"]) == ("Another.", 3)
    assert "Another." in after["content"]


async def test_what_the_staff_wrote_stays_unless_it_is_to_be_overwritten(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute("UPDATE accommodation_units_public SET description = 'By hand.', is_bookable = false")
    assert await run(houses) == {"Lighthouse": "unchanged"}
    await houses.execute("UPDATE accommodation_units SET capacity = 3")
    assert await run(houses) == {"Lighthouse": "kept"}
    assert await run(houses) == {"Lighthouse": "unchanged"}
    unit = await shown(houses)
    assert (unit["description"], unit["is_bookable"], unit["capacity"]) == ("By hand.", False, None)
    assert await run(houses, "overwrite => true") == {"Lighthouse": "updated"}
    unit = await shown(houses)
    assert (unit["description"], unit["is_bookable"], unit["capacity"]) == (DESCRIPTION, False, 3)


async def test_whether_it_can_be_booked_is_the_staff_s_to_say(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute("UPDATE accommodation_units_public SET is_bookable = false")
    await houses.execute("UPDATE accommodation_units SET capacity = 3")
    assert await run(houses) == {"Lighthouse": "updated"}
    assert (await shown(houses))["is_bookable"] is False


async def test_a_price_that_only_the_public_form_has_stays(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute(
        'UPDATE accommodation_units_public SET pricing = \'{"currency": "EUR", "base_price_night": 99}\''
    )
    await houses.execute("UPDATE accommodation_units SET capacity = 3")
    assert await run(houses, "overwrite => true") == {"Lighthouse": "updated"}
    unit = await shown(houses)
    assert (unit["pricing"]["base_price_night"], unit["capacity"]) == (99, 3)
    await houses.execute("UPDATE accommodation_units SET base_price_night = 80")
    await run(houses, "overwrite => true")
    assert (await shown(houses))["pricing"]["base_price_night"] == 80


async def test_a_unit_that_is_active_no_more_is_withdrawn_and_comes_back(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await add_source(houses, "Never active", status="inactive")
    await run(houses)
    await houses.execute("UPDATE accommodation_units SET status = 'maintenance' WHERE name = 'Lighthouse'")
    assert await run(houses) == {"Lighthouse": "withdrawn"}
    assert (await shown(houses))["is_active"] is False
    assert await run(houses) == {}
    await houses.execute("UPDATE accommodation_units SET status = 'active' WHERE name = 'Lighthouse'")
    assert await run(houses) == {"Lighthouse": "updated"}
    assert (await shown(houses))["is_active"] is True
    # One that the staff has taken away themselves does not.
    await houses.execute("UPDATE accommodation_units_public SET is_active = false")
    await houses.execute("UPDATE accommodation_units SET capacity = 3 WHERE name = 'Lighthouse'")
    assert await run(houses) == {"Lighthouse": "updated"}
    assert (await shown(houses))["is_active"] is False


async def test_one_that_was_edited_and_withdrawn_comes_back_as_it_was_edited(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute("UPDATE accommodation_units_public SET description = 'By hand.'")
    for status, outcome, active in (("inactive", "withdrawn", False), ("active", "kept", True)):
        await houses.execute("UPDATE accommodation_units SET status = $1", status)
        assert await run(houses) == {"Lighthouse": outcome}
        unit = await shown(houses)
        assert (unit["description"], unit["is_active"]) == ("By hand.", active)


async def test_units_written_by_hand_are_left_alone(houses: asyncpg.Connection) -> None:
    await houses.execute(
        "INSERT INTO accommodation_units_public (tenant_id, name, unit_type, description, short_description)"
        " VALUES ($1, 'Mine', 'room', 'Mine.', 'Mine.')",
        HOUSE,
    )
    assert await run(houses) == {}
    assert (await shown(houses, "Mine"))["is_active"] is True


async def test_updated_at_is_set_by_itself(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    await houses.execute(
        "ALTER TABLE accommodation_units_public DISABLE TRIGGER trigger_accommodation_units_public_updated_at;"
        "UPDATE accommodation_units_public SET updated_at = '2000-01-01';"
        "ALTER TABLE accommodation_units_public ENABLE TRIGGER trigger_accommodation_units_public_updated_at"
    )
    await houses.execute("UPDATE accommodation_units_public SET is_bookable = false")
    assert await houses.fetchval(
        "SELECT updated_at = now() OR updated_at > '2020-01-01' FROM accommodation_units_public"
    )
    await houses.execute("UPDATE accommodation_units_public SET updated_at = '2000-01-01'")
    assert await houses.fetchval("SELECT updated_at > '2020-01-01' FROM accommodation_units_public")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("short_description", "repeat('x', 151)"),
        ("name", "' '"),
        ("description", "''"),
        ("pricing", "'{\"base_price_night\": -1}'"),
        ("pricing", '\'{"base_price_night": "a lot"}\''),
        ("pricing", "'[]'"),
        ("amenities", "'[]'"),
        ("photos", "'{}'"),
        ("metadata", "'7'"),
    ],
)
async def test_the_table_refuses_what_is_no_public_form(houses: asyncpg.Connection, column: str, value: str) -> None:
    await add_source(houses)
    await run(houses)
    with pytest.raises(asyncpg.CheckViolationError):
        await houses.execute(f"UPDATE accommodation_units_public SET {column} = {value}")


async def test_embeddings_of_other_dimensions_are_refused(houses: asyncpg.Connection) -> None:
    await add_source(houses)
    await run(houses)
    for column, dimensions in (("embedding_fast", 1024), ("embedding_full", 3072)):
        right = "[" + ",".join(["0.5"] * dimensions) + "]"
        await houses.execute(f"UPDATE accommodation_units_public SET {column} = $1::text::vector", right)
        with pytest.raises(asyncpg.DataError, match=f"expected {dimensions} dimensions"):
            await houses.execute(f"UPDATE accommodation_units_public SET {column} = '[1,2,3]'")


async def test_the_sample_s_units_are_migrated_and_the_broken_one_is_reported(db: asyncpg.Connection) -> None:
    await load_sample(db, None)
    rows = await db.fetch("SELECT outcome, count(*) AS many FROM accommodation_unit_migrations GROUP BY 1")
    assert {row["outcome"]: row["many"] for row in rows} == {"added": 46, "failed": 1}
    assert (
        await db.fetchval("SELECT error FROM accommodation_unit_migrations WHERE error IS NOT NULL")
        == "it has no description"
    )
