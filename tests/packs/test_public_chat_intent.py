"""What the pack ``public_chat`` understands of a message: dates, guests, wishes, and how they add up."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: A Tuesday.
TODAY = date(2026, 2, 10)


async def heard(db: asyncpg.Connection, message: str | None, today: date = TODAY) -> dict[str, Any]:
    intent: dict[str, Any] = json.loads(await db.fetchval("SELECT extract_travel_intent($1, $2)", message, today))
    intent.pop("language", None)
    return intent


def stay(check_in: str, check_out: str) -> dict[str, Any]:
    nights = (date.fromisoformat(check_out) - date.fromisoformat(check_in)).days
    return {"check_in": check_in, "check_out": check_out, "nights": nights}


MARCH = stay("2026-03-12", "2026-03-15")

DATES = [
    ("from 12 to 15 March", MARCH),
    ("12-15 March", MARCH),
    ("12 – 15 march", MARCH),
    ("12th to 15th of March please", MARCH),
    ("between the 12th and the 15th of March", MARCH),
    ("March 12-15", MARCH),
    ("March 12th to 15th", MARCH),
    ("Mar 12 to Mar 15", MARCH),
    ("12 Mar - 15 Mar", MARCH),
    ("from the 12th of March until the 15th of March", MARCH),
    ("arrive 12 March, depart 15 March", MARCH),
    ("2026-03-12 to 2026-03-15", MARCH),
    ("2026-03-12T14:00:00Z - 2026-03-15", MARCH),
    ("2026/03/12 2026/03/15", MARCH),
    ("12/03/2026 - 15/03/2026", MARCH),
    ("12/3/26 to 15/3/26", MARCH),
    ("12/3 to 15/3", MARCH),
    ("3/15/2026", {"check_in": "2026-03-15"}),
    ("check-in 12.03.2026 check-out 15.03.2026", MARCH),
    ("from 2026-03-12 for three nights", MARCH),
    ("we check out on 15 March, 3 nights", MARCH),
    ("del 12 al 15 de marzo", MARCH),
    ("Del 12 al 15 de MARZO de 2026", MARCH),
    ("entre el 12 y el 15 de marzo", MARCH),
    ("desde el 12 de marzo hasta el 15 de marzo", MARCH),
    ("llegamos el 12 de marzo y salimos el 15 de marzo", MARCH),
    ("para el 12 de marzo, 3 noches", MARCH),
    ("12 de mar a 15 de mar", MARCH),
    ("del 1º al 3 de mayo", stay("2026-05-01", "2026-05-03")),
    ("March 28 - April 2", stay("2026-03-28", "2026-04-02")),
    ("del 28 de marzo al 2 de abril", stay("2026-03-28", "2026-04-02")),
    ("28 December to 2 January", stay("2026-12-28", "2027-01-02")),
    ("28 December to 2 January 2028", stay("2027-12-28", "2028-01-02")),
    ("12-15 March 2027", stay("2027-03-12", "2027-03-15")),
    ("from 3 to 7 January", stay("2027-01-03", "2027-01-07")),
    ("29 February for 2 nights", stay("2028-02-29", "2028-03-02")),
    ("2026-03-12", {"check_in": "2026-03-12"}),
    ("on 12 March", {"check_in": "2026-03-12"}),
    ("hasta el 15 de marzo", {"check_out": "2026-03-15"}),
    ("leaving on 15 March", {"check_out": "2026-03-15"}),
    ("tomorrow for two nights", stay("2026-02-11", "2026-02-13")),
    ("mañana", {"check_in": "2026-02-11"}),
    ("pasado mañana, por una noche", stay("2026-02-12", "2026-02-13")),
    ("the day after tomorrow", {"check_in": "2026-02-12"}),
    ("esta noche", {"check_in": "2026-02-10"}),
    ("por la mañana", {}),
    ("this weekend", stay("2026-02-13", "2026-02-15")),
    ("este fin de semana", stay("2026-02-13", "2026-02-15")),
    ("next Friday, two nights", stay("2026-02-13", "2026-02-15")),
    ("el viernes", {"check_in": "2026-02-13"}),
    ("on Tuesday", {"check_in": "2026-02-17"}),
    ("in 3 days for a week", stay("2026-02-13", "2026-02-20")),
    ("dentro de dos semanas", {"check_in": "2026-02-24"}),
    ("for two nights", {"nights": 2}),
    ("una semana", {"nights": 7}),
    ("a couple of nights", {"nights": 2}),
    ("how much is a night?", {}),
    # What is over cannot be booked, and what never is is no date.
    ("from 12 to 15 January 2026", {}),
    ("2025-03-12", {}),
    ("30 February", {}),
    ("30 February to 2 March", {"check_out": "2026-03-02"}),
    ("31/31/2026", {}),
    ("from 15 to 12 March", {"check_in": "2026-03-15"}),
    ("from 12 March to 15 September", {"check_in": "2026-03-12"}),
    ("100 nights", {}),
    ("99999999999999999999 nights", {}),
    ("open 24/7?", {}),
    ("call 300-123-4567", {}),
    ("room 12.5", {}),
]

GUESTS = [
    ("two adults and a child", {"guests": 3, "adults": 2, "children": 1}),
    ("2 adults, 1 child", {"guests": 3, "adults": 2, "children": 1}),
    ("one adult", {"guests": 1, "adults": 1}),
    ("dos adultos y un niño", {"guests": 3, "adults": 2, "children": 1}),
    ("somos cuatro adultos y dos niñas", {"guests": 6, "adults": 4, "children": 2}),
    ("2 adults and 2 children aged 4 and 6", {"guests": 4, "adults": 2, "children": 2}),
    ("2 adults, 2 kids and a baby", {"guests": 5, "adults": 2, "children": 3}),
    ("for four", {"guests": 4}),
    ("for 4", {"guests": 4}),
    ("para cuatro", {"guests": 4}),
    ("for four people", {"guests": 4}),
    ("dos personas", {"guests": 2}),
    ("we're 3", {"guests": 3}),
    ("somos 5", {"guests": 5}),
    ("party of six", {"guests": 6}),
    ("2 of us", {"guests": 2}),
    ("for 2 or 3 people", {"guests": 3}),
    ("coming with 2 friends", {"guests": 3}),
    ("a couple", {"guests": 2, "adults": 2}),
    ("una pareja", {"guests": 2, "adults": 2}),
    ("my wife and I", {"guests": 2, "adults": 2}),
    ("just me", {"guests": 1, "adults": 1}),
    ("viajo sola", {"guests": 1, "adults": 1}),
    ("for two with a baby", {"guests": 3, "adults": 2, "children": 1}),
    ("family of four with two kids", {"guests": 4, "adults": 2, "children": 2}),
    ("familia de cuatro, dos niños", {"guests": 4, "adults": 2, "children": 2}),
    ("4 people including 1 child", {"guests": 4, "adults": 3, "children": 1}),
    ("with a child", {"children": 1}),
    ("a 5 year old", {}),
    ("3 bedrooms", {}),
    ("for two nights", {"nights": 2}),
    ("for 2 weeks", {"nights": 14}),
    ("for $50", {}),
    ("for 50 euros", {}),
    ("for 500", {}),
    ("0 adults", {}),
    ("99 people", {}),
    ("March 2 adults", {"guests": 2, "adults": 2}),
    ("a room for 12 March for 2", {"guests": 2, "check_in": "2026-03-12"}),
    ("for 12 to 15 March, 3 people", {"guests": 3, **MARCH}),
    ("two people, 3 nights from tomorrow", {"guests": 2, **stay("2026-02-11", "2026-02-14")}),
]

WISHES = [
    ("sea view", ["sea_view"], None),
    ("a room with a view of the sea", ["sea_view"], None),
    ("overlooking the ocean", ["sea_view"], None),
    ("vista al mar", ["sea_view"], None),
    ("habitación con vistas al mar, 2 personas", ["sea_view"], None),
    ("pool", ["pool"], None),
    ("Swimming-POOL!", ["pool"], None),
    ("con piscina y aparcamiento", ["pool", "parking"], None),
    ("is there wi-fi and air conditioning?", ["wifi", "air_conditioning"], None),
    ("ＷＩＦＩ", ["wifi"], None),
    ("a quiet place with a kitchen, dogs allowed", ["kitchen", "pets", "quiet"], None),
    ("without a pool", None, ["pool"]),
    ("no pool, but parking", ["parking"], ["pool"]),
    ("no pool or garden", None, ["garden", "pool"]),
    ("sin piscina ni desayuno", None, ["pool", "breakfast"]),
    ("we don't need breakfast", None, ["breakfast"]),
    ("no necesitamos desayuno", None, ["breakfast"]),
    ("no pool? I want a pool", ["pool"], None),
    ("pool or garden", ["garden", "pool"], None),
    ("carpool spooling", None, None),
    ("", None, None),
]


async def test_dates(db: asyncpg.Connection) -> None:
    found = {message: await heard(db, message) for message, _ in DATES}
    kept = {
        message: {key: value for key, value in intent.items() if key in ("check_in", "check_out", "nights")}
        for message, intent in found.items()
    }
    assert kept == dict(DATES)


async def test_guests(db: asyncpg.Connection) -> None:
    assert {message: await heard(db, message) for message, _ in GUESTS} == dict(GUESTS)


async def test_wishes(db: asyncpg.Connection) -> None:
    found = {message: await heard(db, message) for message, *_ in WISHES}
    assert {message: (intent.get("preferences"), intent.get("not_wanted")) for message, intent in found.items()} == {
        message: (wanted, unwanted) for message, wanted, unwanted in WISHES
    }


async def test_one_message_may_say_everything(db: asyncpg.Connection) -> None:
    message = (
        "Hola, busco apartamento con cocina y vista al mar para 2 adultos y un niño del 3 al 10 de agosto, sin piscina"
    )
    assert json.loads(await db.fetchval("SELECT extract_travel_intent($1, $2)", message, TODAY)) == {
        **stay("2026-08-03", "2026-08-10"),
        "guests": 3,
        "adults": 2,
        "children": 1,
        "preferences": ["sea_view", "kitchen"],
        "not_wanted": ["pool"],
        "language": "es",
    }


async def test_nothing_is_heard_in_nothing(db: asyncpg.Connection) -> None:
    assert await heard(db, None) == {}
    assert await heard(db, " \t\n") == {}


async def test_letters_with_accents_apart_are_the_same_letters(db: asyncpg.Connection) -> None:
    # An n and a combining tilde, as some keyboards write it.
    assert await heard(db, "dos nin\u0303os y 2 adultos, pasado man\u0303ana") == {
        "guests": 4,
        "adults": 2,
        "children": 2,
        "check_in": "2026-02-12",
    }


async def test_the_language(db: asyncpg.Connection) -> None:
    for message, language in (
        ("Do you have a room with a pool?", "en"),
        ("¿Hay habitaciones con piscina?", "es"),
        ("wifi", None),
    ):
        found = json.loads(await db.fetchval("SELECT extract_travel_intent($1, $2)", message, TODAY))
        assert found.get("language") == language, message


SNIPPETS: st.SearchStrategy[str] = st.sampled_from(
    [message for message, _ in DATES]
    + [message for message, _ in GUESTS]
    + [message for message, *_ in WISHES]
    + ["<", ">", "#03#", "<2026-03-12>", "<--->", "-", "/", "12/", "to 15", "al", "31 de", "\u202e", "\\m(", "%", "'"]
)
TEXTS = st.lists(st.one_of(SNIPPETS, st.text(max_size=20)), max_size=8).map(" ".join)


async def test_no_text_whatever_makes_it_fail(db: asyncpg.Connection) -> None:
    texts: list[str] = []

    @settings(max_examples=400, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TEXTS)
    def collect(text: str) -> None:
        texts.append(text.replace("\0", "").encode("utf-8", "ignore").decode())

    collect()
    for days in (0, 19, 325, 689):
        rows = await db.fetch(
            "SELECT t, extract_travel_intent(t, $2::date + $3::integer) AS intent FROM unnest($1::text[]) AS t",
            texts,
            TODAY,
            days,
        )
        assert len(rows) == len(texts)
        for row in rows:
            intent = json.loads(row["intent"])
            if "check_in" in intent and "check_out" in intent:
                span = date.fromisoformat(intent["check_out"]) - date.fromisoformat(intent["check_in"])
                assert 1 <= span.days <= 90, row
                assert intent["nights"] == span.days, row
            assert 1 <= intent.get("guests", 1) <= 100, row


async def merged(db: asyncpg.Connection, known: Any, *messages: str) -> dict[str, Any]:
    intent = json.dumps(known)
    for message in messages:
        intent = await db.fetchval(
            "SELECT merge_travel_intent($1::jsonb, extract_travel_intent($2, $3))", intent, message, TODAY
        )
    found: dict[str, Any] = json.loads(intent)
    found.pop("language", None)
    return found


CONVERSATIONS: list[tuple[list[str], dict[str, Any]]] = [
    (["from 12 to 15 March", "for four"], {**MARCH, "guests": 4}),
    (["on 12 March", "three nights"], MARCH),
    (["three nights", "from 12 March"], MARCH),
    (["on 12 March", "until the 15th of March"], MARCH),
    (["from 12 to 15 March", "rather from 13 March"], stay("2026-03-13", "2026-03-15")),
    (["from 12 to 15 March", "rather from 20 March"], stay("2026-03-20", "2026-03-23")),
    (["from 12 to 15 March", "make it five nights"], stay("2026-03-12", "2026-03-17")),
    (["from 28 December", "until 2 January"], stay("2026-12-28", "2027-01-02")),
    (["two adults", "and a child"], {"guests": 3, "adults": 2, "children": 1}),
    (["for two", "with a child"], {"guests": 3, "adults": 2, "children": 1}),
    (["two adults and a child", "no, three adults"], {"guests": 4, "adults": 3, "children": 1}),
    (["two adults and a child", "for five"], {"guests": 5}),
    (["two adults", "with a pool"], {"guests": 2, "adults": 2, "preferences": ["pool"]}),
    (["a pool", "and a garden"], {"preferences": ["pool", "garden"]}),
    (["a pool and a garden", "without a pool"], {"preferences": ["garden"], "not_wanted": ["pool"]}),
    (["without a pool", "or with a pool after all"], {"preferences": ["pool"]}),
    (["hello", "purple elephants"], {}),
]


async def test_messages_add_up(db: asyncpg.Connection) -> None:
    for messages, expected in CONVERSATIONS:
        assert await merged(db, {}, *messages) == expected, messages


SPOILT: list[Any] = [
    None,
    [],
    "text",
    7,
    {"check_in": "soon", "check_out": 5, "nights": "three", "guests": -1, "adults": 1e30, "children": None},
    {"check_in": "2026-02-31", "preferences": "pool", "not_wanted": {"a": 1}, "language": ["en"]},
    {"preferences": [1, None, {"a": []}, ["pool"]], "guests": 2.5, "nights": 0},
]


async def test_an_intent_that_somebody_has_spoilt_harms_nothing(db: asyncpg.Connection) -> None:
    for known in SPOILT:
        assert await merged(db, known, "from 12 to 15 March for four with a pool") == {
            **MARCH,
            "guests": 4,
            "preferences": ["pool"],
        }
        assert set(await merged(db, known, "hello")) <= {"preferences", "not_wanted"}


async def test_what_else_is_in_an_intent_stays(db: asyncpg.Connection) -> None:
    assert await merged(db, {"budget": 200, "guests": 2}, "for four") == {"budget": 200, "guests": 4}


async def test_of_many_wishes_none_is_said_twice(db: asyncpg.Connection) -> None:
    assert (await merged(db, {"preferences": ["pool"]}, "a pool", "a pool and wifi"))["preferences"] == ["pool", "wifi"]


PRICES = {
    "currency": "EUR",
    "base_price_night": 100,
    "seasonal": [
        {"name": "Summer", "from": "2026-07-01", "to": "2026-08-31", "price_night": 150},
        {"name": "Fair", "from": "2026-08-30", "to": "2026-09-02", "price_night": 300},
    ],
}


STAYS: list[tuple[Any, str, str | None, int | None]] = [
    (PRICES, "2026-03-12", "2026-03-15", 300),
    (PRICES, "2026-06-29", "2026-07-02", 100 + 100 + 150),
    (PRICES, "2026-08-30", "2026-09-03", 150 + 150 + 300 + 300),
    (PRICES, "2026-09-02", "2026-09-04", 400),
    (PRICES, "2026-03-12", None, None),
    ({"base_price_night": None}, "2026-03-12", "2026-03-15", None),
    ({"base_price_night": "100"}, "2026-03-12", "2026-03-15", None),
    ({}, "2026-03-12", "2026-03-15", None),
    ({"base_price_night": 10, "seasonal": "x"}, "2026-03-12", "2026-03-15", 30),
    (
        {
            "base_price_night": 10,
            "seasonal": [7, {"from": "now", "to": "later", "price_night": 1}, {"price_night": "x"}],
        },
        "2026-03-12",
        "2026-03-15",
        30,
    ),
    (None, "2026-03-12", "2026-03-15", None),
]


async def test_what_a_stay_costs(db: asyncpg.Connection) -> None:
    for pricing, check_in, check_out, expected in STAYS:
        found = await db.fetchval(
            "SELECT accommodation_price($1::jsonb, $2, $3)",
            json.dumps(pricing),
            date.fromisoformat(check_in),
            None if check_out is None else date.fromisoformat(check_out),
        )
        assert found == expected, (pricing, check_in, check_out)
