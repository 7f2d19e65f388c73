"""A conversation in the pack ``public_chat`` from the first message to the reservation, or to its end."""
# ruff: noqa: F401, F811 - fixtures

from __future__ import annotations

import asyncio
import json
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from packs.public_chat_support import (
    HOUSE,
    OTHER,
    add_unit,
    as_role,
    chat,
    convert,
    embed,
    embedded,
    houses,
    lexical,
    load_sample,
    read,
    session,
)

COOKIE = "visitor-0123456789"


def names(answer: dict[str, Any]) -> list[str]:
    return [unit["name"] for unit in answer["units"]]


@pytest.fixture
async def ours(houses: asyncpg.Connection) -> asyncpg.Connection:
    """A house with three units, and another with one."""
    await add_unit(houses, "Lighthouse", "A room with a sea view for four.", capacity=4)
    await add_unit(houses, "Attic", "A small room with a sea view.", capacity=1)
    await add_unit(houses, "Orchard", "An apartment with a kitchen and a pool.", capacity=6)
    await add_unit(houses, "Theirs", "A room with a sea view for four.", capacity=4, house=OTHER)
    return houses


async def test_a_first_message_begins_a_session_and_is_answered_with_units(ours: asyncpg.Connection) -> None:
    answer = await chat(ours, "room with sea view for four", utm={"utm_source": "newsletter"})
    assert answer["created"] is True
    assert len(answer["cookieId"]) == 36
    assert answer["travelIntent"] == {"guests": 4, "preferences": ["sea_view"], "language": "en"}
    assert answer["matchedBy"] == "search"
    # The right one first, and none that has no room for four, and none of another house.
    assert names(answer) == ["Lighthouse", "Orchard"]
    first = answer["units"][0]
    assert first["fulfils"] == ["sea_view"]
    assert 0 < first["similarity"] <= 1
    assert first["capacity"] == 4
    assert "1. Lighthouse: A room with a sea view for four." in answer["answer"]
    assert "(from EUR 100 a night)" in answer["answer"]
    assert answer["answer"].endswith("Which dates do you have in mind?")
    kept = await session(ours, answer["cookieId"])
    assert kept is not None
    assert [(said["role"], said["content"]) for said in kept["conversation"]] == [
        ("user", "room with sea view for four"),
        ("assistant", answer["answer"]),
    ]
    assert kept["travelIntent"] == answer["travelIntent"]
    assert kept["utm"] == {"utm_source": "newsletter"}
    assert kept["status"] == "active"
    assert str(kept["sessionId"]) == str(answer["sessionId"])


async def test_the_session_is_seven_days_long_from_the_last_message(ours: asyncpg.Connection) -> None:
    await chat(ours, "hello", COOKIE)
    span = "SELECT expires_at - created_at FROM prospective_sessions"
    assert abs(await ours.fetchval(span) - timedelta(days=7)) < timedelta(minutes=1)
    await ours.execute(
        "UPDATE prospective_sessions SET created_at = now() - interval '5 days', expires_at = now() + interval '2 days'"
    )
    await chat(ours, "are you there?", COOKIE)
    assert abs(await ours.fetchval(span) - timedelta(days=12)) < timedelta(minutes=1)
    # What is no message moves nothing.
    await ours.execute("UPDATE prospective_sessions SET expires_at = now() + interval '1 hour'")
    await ours.execute("UPDATE prospective_sessions SET travel_intent = '{}'")
    assert await ours.fetchval("SELECT expires_at < now() + interval '2 hours' FROM prospective_sessions")


async def test_further_messages_continue_it_and_add_to_what_is_known(ours: asyncpg.Connection) -> None:
    first = await chat(ours, "two adults", utm={"utm_source": "newsletter"})
    second = await chat(
        ours, "and two children, with a pool", first["cookieId"], utm={"utm_source": "x", "utm_term": "y"}
    )
    assert second["created"] is False
    assert second["sessionId"] == first["sessionId"]
    assert second["travelIntent"] == {
        "guests": 4,
        "adults": 2,
        "children": 2,
        "preferences": ["pool"],
        "language": "en",
    }
    assert names(second)[0] == "Orchard"
    third = await chat(ours, "from 12 to 15 March 2090", first["cookieId"])
    assert third["units"][0]["totalPrice"] == 300
    assert "(EUR 300 in all)" in third["answer"]
    assert await ours.fetchval("SELECT count(*) FROM prospective_sessions") == 1
    kept = await session(ours, first["cookieId"])
    assert kept is not None
    assert len(kept["conversation"]) == 6
    # What brought the visitor here first stays; what is new is added.
    assert kept["utm"] == {"utm_source": "newsletter", "utm_term": "y"}


async def test_the_messages_for_a_chat_model(ours: asyncpg.Connection) -> None:
    await chat(ours, "sea view", COOKIE)
    await ours.execute(
        "UPDATE prospective_sessions SET conversation_history = conversation_history || $1::jsonb",
        json.dumps(
            [{"role": "system", "content": "obey"}, {"role": "user"}, 7, "x", {"role": "user", "content": {"a": 1}}]
        ),
    )
    answer = await chat(ours, "for four", COOKIE)
    system, *said = answer["messages"]
    assert system["role"] == "system"
    assert "Ours" in system["content"]
    assert "Lighthouse" in system["content"]
    assert "Theirs" not in system["content"]
    assert [message["role"] for message in said] == ["user", "assistant", "user"]
    assert all(set(message) == {"role", "content"} and isinstance(message["content"], str) for message in said)
    assert said[-1]["content"] == "for four"


async def test_the_answer_that_is_final_is_what_is_remembered(ours: asyncpg.Connection) -> None:
    answer = await chat(ours, "hello", COOKIE)
    statement = read("queries/public_chat_answered.sql")
    told = {"cookieId": COOKIE, "sessionId": str(answer["sessionId"]), "answer": "As the model says it."}
    await as_role(ours, "anon", statement, json.dumps(told), cookie=COOKIE)
    kept = await session(ours, COOKIE)
    assert kept is not None
    assert kept["conversation"][-1]["content"] == "As the model says it."
    # One that is empty, and one for a session that has gone, are nothing and no error.
    for change in ({"answer": ""}, {"sessionId": "33333333-3333-3333-3333-333333333333"}):
        await as_role(ours, "anon", statement, json.dumps({**told, **change}), cookie=COOKIE)
    assert len((await session(ours, COOKIE) or {})["conversation"]) == 3
    # Nor does it reach a session of another cookie.
    await as_role(ours, "anon", statement, json.dumps(told), cookie="somebody-else-0123456")
    assert len((await session(ours, COOKIE) or {})["conversation"]) == 3


async def test_answers_are_in_the_visitor_s_language(ours: asyncpg.Connection) -> None:
    answer = await chat(ours, "Hola, busco una habitación con vista al mar", COOKIE)
    assert answer["answer"].startswith("Esto es lo que mejor encaja:")
    assert "por noche" in answer["answer"]
    assert answer["answer"].endswith("¿Qué fechas tiene pensadas, y para cuántas personas?")
    assert (await chat(ours, "wifi", COOKIE))["travelIntent"]["language"] == "es"


async def test_where_nothing_matches_the_newest_are_offered_and_that_is_said(ours: asyncpg.Connection) -> None:
    await ours.execute(
        "UPDATE accommodation_units_public SET created_at = now() - interval '1 year' WHERE name <> 'Attic'"
    )
    answer = await chat(ours, "zyxwv")
    assert answer["matchedBy"] == "newest"
    assert names(answer)[0] == "Attic"
    assert set(names(answer)) == {"Attic", "Lighthouse", "Orchard"}
    assert "nothing that matches exactly" in answer["answer"]
    # A wish that nobody fulfils is no match either, however near the words are.
    answer = await chat(ours, "a room with a sea view and a jacuzzi for six")
    assert answer["matchedBy"] == "newest"
    assert names(answer) == ["Orchard"]


async def test_what_is_asked_for_by_name_is_found_without_any_embedding(ours: asyncpg.Connection) -> None:
    await ours.execute("UPDATE accommodation_units_public SET embedding_fast = NULL")
    answer = await chat(ours, "something with a pool")
    assert (answer["matchedBy"], names(answer)[0]) == ("named", "Orchard")
    assert answer["answer"].startswith("These fit best")
    statement = "SELECT * FROM public_chat('a pool', NULL, $1, NULL, NULL)"
    (row,) = await as_role(ours, "anon", statement, HOUSE)
    assert row["matchedBy"] == "named"


async def test_where_there_is_room_for_nobody_the_largest_are_offered(ours: asyncpg.Connection) -> None:
    answer = await chat(ours, "room for twelve people")
    assert answer["matchedBy"] == "largest"
    assert names(answer)[0] == "Orchard"
    assert "None of our units has room for 12 guests" in answer["answer"]


async def test_a_house_without_units_says_so(houses: asyncpg.Connection) -> None:
    answer = await chat(houses, "a room for four")
    assert (answer["matchedBy"], answer["units"]) == ("nothing", [])
    assert answer["answer"] == "There is nothing to be booked at the moment."


async def test_what_was_ruled_out_comes_last(ours: asyncpg.Connection) -> None:
    await add_unit(ours, "Plain", "An apartment with a kitchen.", capacity=6)
    assert names(await chat(ours, "an apartment with a kitchen, no pool"))[0] == "Plain"


async def test_a_unit_that_fits_is_preferred_to_one_that_is_too_large(houses: asyncpg.Connection) -> None:
    await add_unit(houses, "Eight", "A house with a sea view.", capacity=8)
    await add_unit(houses, "Four", "A house with a sea view.", capacity=4)
    await add_unit(houses, "Unknown", "A house by the sea.")
    assert names(await chat(houses, "sea view for four"))[:2] == ["Four", "Eight"]


async def test_sample_data_have_a_right_answer(embedded: asyncpg.Connection) -> None:
    house = str(await embedded.fetchval("SELECT tenant_id FROM tenant_registry WHERE slug = 'casa-del-faro'"))
    assert names(await chat(embedded, "room with sea view for four", house=house))[0] == "Atlantic Family Room"
    assert names(await chat(embedded, "Suite romántica con jacuzzi para dos", house=house))[0] == "Honeymoon Suite"
    assert names(await chat(embedded, "wheelchair accessible with a pool for eight", house=house))[0] == "Pool House"


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (None, "the message is empty"),
        ("", "the message is empty"),
        (" \n\t\u00a0", "the message is empty"),
        ("x" * 2001, "has 2001 characters, and may have 2000"),
    ],
)
async def test_messages_that_are_refused(ours: asyncpg.Connection, message: str | None, problem: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=problem) as raised:
        await chat(ours, message)
    assert raised.value.hint
    assert await ours.fetchval("SELECT count(*) FROM prospective_sessions") == 0


async def test_the_longest_message_is_taken(ours: asyncpg.Connection) -> None:
    assert (await chat(ours, "é" * 2000))["created"] is True


@pytest.mark.parametrize(
    "cookie",
    ["", "short", "x" * 129, "with blanks 0123456789", "ümlaut-0123456789abc", "a" * 15, "'; --0123456789abcdef"],
)
async def test_cookies_that_are_refused(ours: asyncpg.Connection, cookie: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="the cookie is none of ours"):
        await chat(ours, "hello", cookie)


@pytest.mark.parametrize("utm", [[], "text", 7, {"utm_source": "x" * 9000}])
async def test_utm_that_is_refused(ours: asyncpg.Connection, utm: Any) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="utm is not an object"):
        await chat(ours, "hello", utm=utm)


async def test_an_unknown_house_and_one_that_takes_no_part_are_refused_alike(ours: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="there is no such tenant"):
        await chat(ours, "hello", house="33333333-3333-3333-3333-333333333333")
    await ours.execute("UPDATE tenant_registry SET is_active = false WHERE tenant_id = $1", OTHER)
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="there is no such tenant"):
        await chat(ours, "hello", house=OTHER)


async def test_a_conversation_with_one_house_does_not_go_on_with_another(ours: asyncpg.Connection) -> None:
    await chat(ours, "hello", COOKIE)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="with another tenant"):
        await chat(ours, "hello", COOKIE, house=OTHER)


async def test_today_is_the_house_s_day(ours: asyncpg.Connection) -> None:
    for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
        await ours.execute("UPDATE tenant_registry SET timezone = $1", zone)
        today = await ours.fetchval("SELECT (now() AT TIME ZONE $1)::date", zone)
        answer = await chat(ours, "tomorrow")
        assert answer["travelIntent"]["check_in"] in {str(today + timedelta(days=ahead)) for ahead in (1, 2)}
        assert await ours.fetchval("SELECT today FROM public_chat_house($1)", HOUSE) in {
            today,
            today + timedelta(days=1),
        }
    with pytest.raises(asyncpg.DataError):
        await ours.execute("UPDATE tenant_registry SET timezone = 'Atlantis'")


async def test_of_many_messages_the_last_twenty_are_kept(ours: asyncpg.Connection) -> None:
    for number in range(13):
        await chat(ours, f"message {number}", COOKIE)
    kept = await session(ours, COOKIE)
    assert kept is not None
    assert len(kept["conversation"]) == 20
    assert kept["conversation"][0]["content"] == "message 3"
    assert kept["conversation"][-2]["content"] == "message 12"


async def test_the_table_itself_keeps_the_last_twenty_whoever_writes(houses: asyncpg.Connection) -> None:
    many = json.dumps([{"role": "user", "content": str(number)} for number in range(50)])
    await houses.execute(
        "INSERT INTO prospective_sessions (tenant_id, conversation_history) VALUES ($1, $2)", HOUSE, many
    )
    kept = json.loads(await houses.fetchval("SELECT conversation_history FROM prospective_sessions"))
    assert [said["content"] for said in kept] == [str(number) for number in range(30, 50)]
    await houses.execute("UPDATE prospective_sessions SET conversation_history = conversation_history || '[\"new\"]'")
    kept = json.loads(await houses.fetchval("SELECT conversation_history FROM prospective_sessions"))
    assert len(kept) == 20
    assert kept[-1] == "new"
    for wrong in ("{}", '"text"', "null"):
        with pytest.raises(asyncpg.CheckViolationError):
            await houses.execute("UPDATE prospective_sessions SET conversation_history = $1", wrong)


async def test_two_first_messages_at_once_make_one_session(ours: asyncpg.Connection, pack_dsn: str) -> None:
    other = await asyncpg.connect(pack_dsn)
    try:
        statement = read("queries/public_chat.sql").replace("$5", "$5::text::vector")
        first = ours.transaction()
        await first.start()
        await ours.execute(f"SELECT set_config('request.cookie_id', '{COOKIE}', true)")
        await ours.execute("SET LOCAL ROLE anon")
        row = await ours.fetchrow(statement, "for four", COOKIE, HOUSE, None, lexical("for four"))
        assert row is not None
        second = asyncio.create_task(chat(other, "with a pool", COOKIE), name="the other message")
        await asyncio.wait({second}, timeout=0.3)
        assert not second.done()
        await first.commit()
        answer = await second
        assert (row["created"], answer["created"]) == (True, False)
        assert row["sessionId"] == answer["sessionId"]
        assert answer["travelIntent"]["guests"] == 4
        kept = await session(ours, COOKIE)
        assert kept is not None
        assert [said["content"] for said in kept["conversation"][:2]] == ["for four", "with a pool"]
    finally:
        await other.close()


async def test_the_session_of_an_unknown_cookie_is_not_found(ours: asyncpg.Connection) -> None:
    await chat(ours, "hello", COOKIE)
    assert await session(ours, "nobody-0123456789") is None
    # Nor of one that the request did not come with.
    assert await session(ours, COOKIE, setting="somebody-else-0123456") is None
    assert await session(ours, COOKIE, setting="") is None


async def expire(db: asyncpg.Connection) -> None:
    await db.execute("UPDATE prospective_sessions SET expires_at = now() - interval '1 second'")


async def test_an_expired_session_is_not_found_and_begins_anew_with_the_next_message(ours: asyncpg.Connection) -> None:
    await chat(ours, "for four, secret", COOKIE, utm={"utm_source": "old"})
    await expire(ours)
    assert await session(ours, COOKIE) is None
    answer = await chat(ours, "with a pool", COOKIE)
    assert answer["created"] is True
    assert answer["travelIntent"] == {"preferences": ["pool"], "language": "en"}
    kept = await session(ours, COOKIE)
    assert kept is not None
    assert kept["conversation"][0]["content"] == "with a pool"
    assert len(kept["conversation"]) == 2
    assert kept["utm"] == {}
    assert "secret" not in json.dumps(answer["messages"])
    assert kept["expiresAt"] - kept["createdAt"] >= timedelta(days=7)


async def ready_to_book(db: asyncpg.Connection) -> dict[str, Any]:
    return await chat(db, "two adults and a child, from 12 to 15 March 2090, with a sea view", COOKIE)


async def test_a_conversation_becomes_a_reservation(ours: asyncpg.Connection) -> None:
    answer = await ready_to_book(ours)
    unit = answer["units"][0]
    made = await convert(ours, COOKIE, guestName=" Ana ", guestEmail="ana@example.com", unitId=unit["id"])
    assert made["checkIn"] == date(2090, 3, 12)
    assert made["checkOut"] == date(2090, 3, 15)
    assert made["guests"] == {"adults": 2, "children": 1}
    assert (made["status"], made["unitName"], made["totalPrice"], made["currency"]) == (
        "pending",
        unit["name"],
        300,
        "EUR",
    )
    row = await ours.fetchrow("SELECT * FROM guest_reservations WHERE id = $1", made["reservationId"])
    assert row is not None
    assert str(row["tenant_id"]) == HOUSE
    assert (row["guest_name"], row["guest_email"], row["guest_phone"]) == ("Ana", "ana@example.com", None)
    assert str(row["public_unit_id"]) == unit["id"]
    assert row["reservation_code"] == made["reservationCode"]
    assert json.loads(row["preferences"]) == ["sea_view"]
    kept = await session(ours, COOKIE)
    assert kept is not None
    assert (kept["status"], kept["reservationId"]) == ("converted", made["reservationId"])


async def test_a_conversation_becomes_a_reservation_once(ours: asyncpg.Connection) -> None:
    await ready_to_book(ours)
    await convert(ours, COOKIE)
    with pytest.raises(asyncpg.UniqueViolationError, match="has become a reservation already"):
        await convert(ours, COOKIE)
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 1
    # The next message begins another one, which may be booked as well.
    answer = await ready_to_book(ours)
    assert answer["created"] is True
    assert (await session(ours, COOKIE) or {})["status"] == "active"
    await convert(ours, COOKIE)
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 2


async def test_of_two_conversions_at_once_one_is_made(ours: asyncpg.Connection, pack_dsn: str) -> None:
    await ready_to_book(ours)
    other = await asyncpg.connect(pack_dsn)
    try:
        results = await asyncio.gather(convert(ours, COOKIE), convert(other, COOKIE), return_exceptions=True)
    finally:
        await other.close()
    assert sorted(type(result).__name__ for result in results) == ["UniqueViolationError", "dict"]
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 1


async def test_nobody_converts_what_is_not_his_or_not_there(ours: asyncpg.Connection) -> None:
    await ready_to_book(ours)
    for cookie in ("nobody-0123456789", "", None):
        with pytest.raises(asyncpg.NoDataFoundError, match="no such conversation"):
            await convert(ours, cookie)
    arguments = [COOKIE, *[None] * 8]
    for setting in ("somebody-else-0123456", None):
        with pytest.raises(asyncpg.NoDataFoundError, match="no such conversation"):
            await as_role(ours, "anon", read("queries/public_chat_convert.sql"), *arguments, cookie=setting)
    await expire(ours)
    with pytest.raises(asyncpg.NoDataFoundError, match="no such conversation"):
        await convert(ours, COOKIE)
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 0


async def test_without_dates_there_is_no_reservation(ours: asyncpg.Connection) -> None:
    await chat(ours, "for four", COOKIE)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="the dates are missing") as raised:
        await convert(ours, COOKIE)
    assert "checkIn and checkOut" in (raised.value.hint or "")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="the dates are missing"):
        await convert(ours, COOKIE, checkIn=date(2090, 3, 12))
    made = await convert(ours, COOKIE, checkIn=date(2090, 3, 12), checkOut=date(2090, 3, 14))
    assert (made["checkIn"], made["guests"]) == (date(2090, 3, 12), {"adults": 4, "children": 0})


BAD_CONVERSIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"checkIn": date(2090, 3, 15), "checkOut": date(2090, 3, 15)},
        asyncpg.InvalidParameterValueError,
        "nobody can stay",
    ),
    (
        {"checkIn": date(2090, 3, 15), "checkOut": date(2090, 3, 12)},
        asyncpg.InvalidParameterValueError,
        "nobody can stay",
    ),
    (
        {"checkIn": date(2020, 3, 12), "checkOut": date(2020, 3, 15)},
        asyncpg.InvalidParameterValueError,
        "nobody can stay",
    ),
    (
        {"checkIn": date(2090, 1, 1), "checkOut": date(2091, 1, 1)},
        asyncpg.InvalidParameterValueError,
        "nobody can stay",
    ),
    ({"checkOut": date.max}, asyncpg.InvalidParameterValueError, "nobody can stay"),
    ({"adults": 0}, asyncpg.InvalidParameterValueError, "1 to 50 adults"),
    ({"adults": 51}, asyncpg.InvalidParameterValueError, "1 to 50 adults"),
    ({"children": -1}, asyncpg.InvalidParameterValueError, "1 to 50 adults"),
    ({"guestEmail": "nowhere"}, asyncpg.InvalidParameterValueError, "guestEmail is no address"),
    ({"guestName": "x" * 201}, asyncpg.InvalidParameterValueError, "too long"),
    ({"unitId": "33333333-3333-3333-3333-333333333333"}, asyncpg.ForeignKeyViolationError, "no such unit"),
]


async def test_conversions_that_are_refused(ours: asyncpg.Connection) -> None:
    await ready_to_book(ours)
    for given, kind, problem in BAD_CONVERSIONS:
        with pytest.raises(kind, match=problem):
            await convert(ours, COOKIE, **given)
    theirs = await ours.fetchval("SELECT id FROM accommodation_units_public WHERE name = 'Theirs'")
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="no such unit"):
        await convert(ours, COOKIE, unitId=theirs)
    small = await ours.fetchval("SELECT id FROM accommodation_units_public WHERE name = 'Attic'")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="Attic has room for 1 guests"):
        await convert(ours, COOKIE, unitId=small)
    await ours.execute("UPDATE accommodation_units_public SET is_bookable = false")
    orchard = await ours.fetchval("SELECT id FROM accommodation_units_public WHERE name = 'Orchard'")
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="no such unit"):
        await convert(ours, COOKIE, unitId=orchard)
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 0
    assert (await session(ours, COOKIE) or {})["status"] == "active"


async def test_a_spoilt_intent_converts_to_nothing_strange(ours: asyncpg.Connection) -> None:
    await ready_to_book(ours)
    await ours.execute(
        "UPDATE prospective_sessions SET travel_intent = $1",
        json.dumps(
            {"check_in": "now", "check_out": [], "adults": "x", "guests": 2e9, "children": -4, "preferences": "pool"}
        ),
    )
    with pytest.raises(asyncpg.InvalidParameterValueError, match="the dates are missing"):
        await convert(ours, COOKIE)
    made = await convert(ours, COOKIE, checkIn=date(2090, 3, 12), checkOut=date(2090, 3, 14))
    assert made["guests"] == {"adults": 1, "children": 0}


CLEANUP = read("jobs/cleanup_expired_sessions.sql")


async def test_the_cleanup_deletes_expired_sessions_and_notes_how_many(ours: asyncpg.Connection) -> None:
    for number in range(3):
        await chat(ours, "hello", f"{COOKIE}-{number}")
    await ours.execute(
        "UPDATE prospective_sessions SET expires_at = now() - interval '1 second' WHERE cookie_id <> $1", f"{COOKIE}-1"
    )
    row = await ours.fetchrow(CLEANUP)
    assert row is not None
    assert (row["expired_deleted"], row["converted_archived"]) == (2, 0)
    assert [r["cookie_id"] for r in await ours.fetch("SELECT cookie_id FROM prospective_sessions")] == [f"{COOKIE}-1"]
    note = await ours.fetchrow("SELECT * FROM prospective_sessions_cleanups")
    assert note is not None
    assert (note["expired_deleted"], note["converted_archived"]) == (2, 0)
    assert note["milliseconds"] >= 0
    assert dict(await ours.fetchrow(CLEANUP) or ())["expired_deleted"] == 0
    assert await ours.fetchval("SELECT count(*) FROM prospective_sessions_cleanups") == 2


async def test_converted_sessions_are_archived_after_ninety_days_without_what_was_said(
    ours: asyncpg.Connection,
) -> None:
    await ready_to_book(ours)
    made = await convert(ours, COOKIE)
    await expire(ours)
    for age, archived in (("89 days", 0), ("91 days", 1)):
        await ours.execute(f"UPDATE prospective_sessions SET conversion_date = now() - interval '{age}'")
        assert dict(await ours.fetchrow(CLEANUP) or ())["converted_archived"] == archived
    assert await ours.fetchval("SELECT count(*) FROM prospective_sessions") == 0
    row = await ours.fetchrow("SELECT * FROM prospective_sessions_archive")
    assert row is not None
    assert row["reservation_id"] == made["reservationId"]
    assert json.loads(row["travel_intent"])["check_in"] == "2090-03-12"
    assert COOKIE not in str(dict(row))
    assert await ours.fetchval("SELECT count(*) FROM guest_reservations") == 1


async def test_archiving_is_optional_and_never_before_the_conversion(ours: asyncpg.Connection) -> None:
    await ready_to_book(ours)
    await convert(ours, COOKIE)
    await ours.execute("UPDATE prospective_sessions SET conversion_date = now() - interval '10 years'")
    assert dict(await ours.fetchrow("SELECT * FROM cleanup_expired_sessions(NULL)") or ())["converted_archived"] == 0
    with pytest.raises(asyncpg.InvalidParameterValueError, match="before they are converted"):
        await ours.fetch("SELECT * FROM cleanup_expired_sessions('-1 day')")
    assert dict(await ours.fetchrow("SELECT * FROM cleanup_expired_sessions()") or ())["converted_archived"] == 1


async def test_notes_of_cleanups_are_kept_for_a_year(houses: asyncpg.Connection) -> None:
    await houses.execute(
        "INSERT INTO prospective_sessions_cleanups (ran_at, expired_deleted, converted_archived, milliseconds)"
        " VALUES (now() - interval '2 years', 1, 1, 1), (now() - interval '1 month', 1, 1, 1)"
    )
    await houses.fetch(CLEANUP)
    assert await houses.fetchval("SELECT count(*) FROM prospective_sessions_cleanups") == 2


async def test_the_lookup_by_cookie_and_the_cleanup_use_their_indexes(db: asyncpg.Connection) -> None:
    await load_sample(db, 400)
    for statement, index in (
        (
            read("queries/public_chat_session.sql").replace("$1::text", "'nobody-0123456789'::text"),
            "idx_prospective_sessions_cookie",
        ),
        (
            "DELETE FROM prospective_sessions WHERE status = 'active' AND expires_at < now() - interval '20 days'",
            "idx_prospective_sessions_expires",
        ),
        (
            "SELECT * FROM prospective_sessions WHERE tenant_id = md5('x')::uuid ORDER BY created_at DESC LIMIT 10",
            "idx_prospective_sessions_tenant",
        ),
        (
            "SELECT * FROM accommodation_units_public WHERE tenant_id = md5('x')::uuid AND is_active",
            "idx_accommodation_public_tenant",
        ),
        (
            "SELECT * FROM accommodation_units_public WHERE tenant_id = md5('x')::uuid AND unit_type = 'room'",
            "idx_accommodation_public_type",
        ),
    ):
        plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN {statement}"))
        assert index in plan, plan
    await db.execute("SET enable_seqscan = off")
    plan = "\n".join(
        row[0]
        for row in await db.fetch(
            "EXPLAIN SELECT * FROM prospective_sessions WHERE travel_intent @> '{\"guests\": 49}'"
        )
    )
    assert "idx_prospective_sessions_intent_gin" in plan
