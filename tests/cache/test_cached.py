"""The decorator: what it refuses at once, what key a call has, and that a cached method stays a method."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from afresh_cache.cached import cached
from afresh_cache.patterns import Template, escape, segment
from afresh_cache.store import PatternCache

ANY = PatternCache[object]()


class Colour(Enum):
    RED = "dark red"


class Level(IntEnum):
    HIGH = 3


async def test_a_function_is_called_once_for_each_key() -> None:
    cache = PatternCache[list[object]]()
    calls = 0

    @cached("clients:{client_id}:{page}", cache=cache)
    async def clients(client_id: int, page: int = 1) -> list[object]:
        """The clients."""
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return [client_id, page]

    results = await asyncio.gather(clients(7), clients(7, 1), clients(client_id=7), clients(7, page=2))
    assert list(results) == [[7, 1]] * 3 + [[7, 2]]
    assert calls == 2
    assert list(cache) == ["clients:7:1", "clients:7:2"]
    assert clients.cache is cache
    assert clients.key(7) == clients.key(client_id=7, page=1) == "clients:7:1"
    assert clients.__wrapped__.__name__ == "clients"
    assert clients.__doc__ == "The clients."
    assert list(inspect.signature(clients).parameters) == ["client_id", "page"]
    assert cache.delete_prefix("clients:7") == 2
    await clients(7)
    assert calls == 3


async def test_what_makes_no_difference_is_ignored_by_name() -> None:
    @cached("a:{x}:{flag}", cache=ANY, ignore=("session", "rest", "options"))
    async def function(session: object, x: int, *rest: int, flag: bool = True, **options: int) -> object:
        return (session, x)

    assert function.key("one", 1) == function.key("other", 1, 2, 3, size=4) == "a:1:true"
    assert function.key("one", 1, flag=False) == "a:1:false"
    assert await function("one", 1) == await function("other", 1, 2, size=5) == ("one", 1)


@pytest.mark.parametrize(
    ("template", "ignore", "expected"),
    [
        (
            "a:{client}",
            (),
            r"names 'client', which .*function\(\) does not take: did you mean 'client_id'\? .*client_id",
        ),
        ("a:{zzz}", (), r"names 'zzz', .*: its parameters are client_id, page, rest, options"),
        ("a:{client_id}:{page}", ("rest", "optoins"), "ignore names 'optoins'.*did you mean 'options'"),
        ("a:{client_id}", ("page",), r"differ in 'rest', 'options' would share an entry"),
        ("a:{client_id}", ("rest", "options"), r"differ in 'page' would share an entry: put it into the template"),
        ("a:{client_id}:{page}:{rest}", ("options",), r"\*rest of .* cannot stand in a key"),
        ("a:{client_id}:{page}:{options}", ("rest",), r"\*\*options of .* cannot stand in a key"),
        ("a:{client_id}:{page}", ("page", "rest", "options"), "'page' .* is in the template and ignored at once"),
        ("a:{client_id}{page}", ("rest", "options"), "that differ would share an entry: .* put a colon between"),
        ("a:{client_id}-{page}", ("rest", "options"), "that differ would share an entry: .* put a colon between"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_when_the_function_is_decorated(
    template: str, ignore: tuple[str, ...], expected: str
) -> None:
    async def function(client_id: int, page: int = 1, *rest: int, **options: int) -> object:
        return None

    with pytest.raises(TypeError, match=expected):
        cached(template, cache=ANY, ignore=ignore)(function)


def test_what_is_no_async_function_is_refused() -> None:
    def plain(x: int) -> object:
        return x

    decorate: Any = cached("a:{x}", cache=ANY)
    others: list[Any] = [plain, staticmethod(plain), lambda: 1]
    for function in others:
        with pytest.raises(TypeError, match="no async function"):
            decorate(function)


def test_bad_times_and_templates_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="ttl"):
        cached("a", cache=ANY, ttl=0)
    with pytest.raises(ValueError, match="early"):
        cached("a", cache=ANY, early=-1)
    with pytest.raises(ValueError, match="closed"):
        cached("a:{x", cache=ANY)


async def test_a_call_that_the_function_would_not_take_is_refused_though_its_key_is_there() -> None:
    @cached("a:{x}", cache=ANY, ignore="y")
    async def function(x: int, *, y: int) -> object:
        return x

    assert function.key(1, y=2) == "a:1"
    assert await function(x=1, y=2) == 1
    call: Any = function
    for arguments, named in (((1,), {}), ((), {}), ((1, 2), {"y": 3}), ((1,), {"y": 2, "z": 3})):
        with pytest.raises(TypeError):
            await call(*arguments, **named)


async def test_a_function_without_parameters_has_one_entry() -> None:
    @cached("settings", cache=ANY, ttl=None)
    async def function() -> object:
        return object()

    assert await function() is await function()
    assert function.key() == "settings"


async def test_a_method_stays_a_method() -> None:
    cache = PatternCache[str]()

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        @cached("orders:{number}", cache=cache, ignore="self")
        async def order(self, number: int) -> str:
            return f"{self.name}:{number}"

        @classmethod
        @cached("names:{number}", cache=cache, ignore=("cls",))
        async def title(cls, number: int) -> str:
            return f"{cls.__name__}:{number}"

        @staticmethod
        @cached("static:{number}", cache=cache)
        async def static(number: int) -> str:
            return str(number)

    shop: Any = Shop("one")
    assert await shop.order(7) == "one:7"
    assert await Shop("other").order(number=7) == "one:7"
    assert shop.order.key(7) == Shop.order.key(shop, 7) == "orders:7"
    assert shop.order.cache is cache
    assert await type(shop).title(1) == "Shop:1"
    assert await shop.static(1) == "1"
    assert sorted(cache) == ["names:1", "orders:7", "static:1"]


async def test_a_failure_is_not_kept() -> None:
    calls = 0

    @cached("failing", cache=PatternCache[int]())
    async def function() -> int:
        nonlocal calls
        calls += 1
        raise OSError

    for _ in range(2):
        with pytest.raises(OSError):
            await function()
    assert calls == 2


async def test_an_argument_that_cannot_stand_in_a_key_is_refused() -> None:
    @cached("a:{x}", cache=ANY)
    async def function(x: object) -> object:
        return x

    for value in (b"a", [1], {}, object()):
        with pytest.raises(TypeError, match=r"cannot stand in a cache key.*pass what identifies it"):
            await function(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("7", "7"),
        ("a:b*", "a%3Ab%2A"),
        ("", "%00"),
        ("\0", "%nul"),
        ("\udcff", "%ED%B3%BF"),
        (None, "%none"),
        ("%none", "%25none"),
        (True, "true"),
        (1.5, "1.5"),
        (Decimal("1E+2"), "100"),
        (Colour.RED, "dark%20red"),
        (Level.HIGH, "3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03%3A00%3A00%2B00%3A00"),
    ],
)
def test_an_argument_is_written_so(value: object, text: str) -> None:
    assert segment(value) == text  # type: ignore[arg-type]


TEXT = st.text(st.characters(exclude_categories=[]), max_size=10)


@given(st.one_of(st.none(), TEXT), st.one_of(st.none(), TEXT))
def test_different_arguments_have_different_segments(one: str | None, other: str | None) -> None:
    assert (segment(one) == segment(other)) == (one == other)
    assert not set(segment(one)) & set(":*?{}")


@given(st.text("a-%:", max_size=4), st.lists(TEXT, min_size=2, max_size=2), st.lists(TEXT, min_size=2, max_size=2))
@example("-", ["1-2", "3"], ["1", "2-3"])
@example("", ["1", "23"], ["12", "3"])
def test_a_template_that_is_taken_tells_different_arguments_apart(
    between: str, one: list[str], other: list[str]
) -> None:
    async def function(x: str, y: str) -> object:
        return None

    try:
        key = cached(f"a:{{x}}{between}{{y}}", cache=ANY)(function).key
    except TypeError:
        assert ":" not in between
        return
    assert (key(*one) == key(*other)) == (one == other)


@given(st.one_of(TEXT.filter(lambda text: "\0" not in text), st.integers(), st.booleans(), st.floats()))
def test_a_segment_is_what_an_invalidation_has_for_the_same_value(value: str | float) -> None:
    assert segment(value) == escape(value)
    template = Template.parse("a:{x}:b")
    assert segment(value).join(template.pieces) == template.fill({"x": value})
