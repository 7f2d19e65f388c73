"""Invalidations: which patterns a change or a refresh makes stale."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afresh_cache.patterns import Template
from afresh_notifier.changes import Key
from afresh_notifier.dependencies import Catalogue
from afresh_notifier.invalidation import MAX_KEYED, PatternMap, fill_all
from support.catalogues import view


def templates(*texts: str) -> tuple[Template, ...]:
    return tuple(map(Template.parse, texts))


def keys(*values: object) -> set[Key]:
    """Keys of one column, `name`."""
    return {(("name", value),) for value in values}  # type: ignore[misc]


#: `t` is read by `one` and `two`, on which `three` stands; each names patterns, and `t` does.
MAP = PatternMap(
    catalogue=Catalogue.of(
        [view("one", ["t"]), view("two", ["t", "u"]), view("three", parents=["two"]), view("far", ["x"])]
    ),
    tables={"t": templates("own", "shared", "keyed:{name}", "late"), "u": templates("shared")},
    views={
        "one": templates("shared", "keyed:{name}"),
        "two": templates("shared"),
        "three": templates("late"),
        "far": templates("own"),
    },
)
ALL = frozenset(MAP.catalogue.views)


# The rule: at once, or after the views.


def test_a_pattern_that_no_dependent_view_names_goes_out_at_once() -> None:
    assert MAP.at_once("t", None, ALL) == ["own"]


def test_a_pattern_that_a_view_of_another_table_names_is_not_waited_for() -> None:
    assert "far" in ALL
    assert "own" in MAP.at_once("t", None, ALL)


def test_a_pattern_waits_for_a_view_that_stands_on_another_view() -> None:
    assert "late" not in MAP.at_once("t", None, {"three"})
    assert "late" in MAP.at_once("t", None, {"one", "two"})


def test_a_pattern_waits_while_one_healthy_view_names_it() -> None:
    assert "shared" not in MAP.at_once("t", None, {"two"})
    assert "shared" in MAP.at_once("t", None, {"three"})


def test_nothing_is_waited_for_where_no_view_is_healthy() -> None:
    assert MAP.at_once("t", keys("Acme"), ()) == ["own", "shared", "keyed:Acme", "late"]
    assert MAP.at_once("t", None, ()) == ["own", "shared", "keyed:", "late"]


def test_a_table_without_patterns_says_nothing() -> None:
    assert MAP.at_once("x", None, ()) == []


def test_a_refresh_sends_the_views_patterns() -> None:
    assert MAP.after_refresh("one", keys("Acme", "Bolt")) == ["shared", "keyed:Acme", "keyed:Bolt"]
    assert MAP.after_refresh("one", None) == ["shared", "keyed:"]
    assert MAP.after_refresh("unheard of", None) == []


def named(*views: str) -> set[str]:
    """What these views name."""
    return {template.text for name in views for template in MAP.views[name]}


def test_what_waited_for_a_lost_view_is_owed_unless_another_will_send_it() -> None:
    assert MAP.owed(named("one"), ["t"], None, ALL - {"one"}) == ["keyed:"]
    assert MAP.owed(named("one"), ["t"], keys("Acme"), ALL - {"one"}) == ["keyed:Acme"]
    assert MAP.owed(named("one", "two"), ["t", "u"], None, ALL - {"one", "two"}) == ["shared", "keyed:"]
    assert MAP.owed(named("two", "three"), ["t"], None, {"one"}) == ["late"]
    assert MAP.owed(named("one"), ["x"], None, ()) == []
    assert MAP.owed((), ["t"], None, ()) == []


@given(
    healthy=st.sets(st.sampled_from(sorted(ALL))),
    lost=st.sets(st.sampled_from(sorted(ALL))),
    table=st.sampled_from(["t", "u", "x"]),
)
def test_every_pattern_of_a_table_goes_out_by_one_of_the_two_ways(
    healthy: set[str], lost: set[str], table: str
) -> None:
    everything = {template.literal for template in MAP.tables.get(table, ())}
    after = {
        pattern
        for name in MAP.catalogue.hanging_on(table)
        if name in healthy
        for pattern in MAP.after_refresh(name, None)
    }
    now = set(MAP.at_once(table, None, healthy))
    assert now | after >= everything
    assert not now & after
    # Once views are lost, what waited for them alone is owed; nobody is left waiting.
    left = healthy - lost
    still = {
        pattern for name in MAP.catalogue.hanging_on(table) if name in left for pattern in MAP.after_refresh(name, None)
    }
    owed = set(MAP.owed(named(*(healthy & lost)), [table], None, left))
    assert now | owed | still >= everything
    assert not owed & still


# Keys.


def test_a_template_whose_key_is_missing_is_its_literal_part() -> None:
    [template] = templates("c:{name}:{part}")
    assert fill_all([template], {(("name", "Acme"),)}) == ["c:"]
    assert fill_all([template], {(("name", "Acme"), ("part", None))}) == ["c:"]
    assert fill_all([template], {(("name", "Acme"), ("part", 3))}) == ["c:Acme:3"]


def test_one_unknown_key_widens_the_pattern_for_all() -> None:
    assert fill_all(templates("c:{name}"), keys("Acme", None)) == ["c:"]


def test_keys_do_not_matter_to_a_template_without_columns() -> None:
    assert fill_all(templates("c"), keys("Acme")) == ["c"]
    assert fill_all(templates("c"), set()) == ["c"]


def test_more_keys_than_one_message_holds_are_the_literal_part() -> None:
    assert len(fill_all(templates("c:{name}"), keys(*range(MAX_KEYED)))) == MAX_KEYED
    assert fill_all(templates("c:{name}"), keys(*range(MAX_KEYED + 1))) == ["c:"]


def test_the_same_pattern_is_said_once() -> None:
    assert fill_all(templates("c", "c", "c:{name}", "c:{name}"), keys("Acme")) == ["c", "c:Acme"]


def test_a_value_cannot_widen_a_pattern() -> None:
    assert fill_all(templates("c:{name}"), keys("a:b", "")) == ["c:%00", "c:a%3Ab"]
