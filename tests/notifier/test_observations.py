"""Observations: one closed set, of which every observer knows what to make; and the metrics, held to their document."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import io
import logging
import os
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from afresh_notifier import logs, observations
from afresh_notifier.board import Board
from afresh_notifier.dependencies import Catalogue
from afresh_notifier.logs import EVENTS, Log
from afresh_notifier.metrics import Metrics
from afresh_notifier.observations import (
    BellSet,
    CatalogueRead,
    CaughtUp,
    ChangesHeard,
    ClientJoined,
    ClientLeft,
    ClientResynced,
    ConnectFailed,
    ConsumeFailed,
    Delivered,
    FellBehind,
    Following,
    GapFound,
    Invalidated,
    Leading,
    Listening,
    ListeningLost,
    LogMeasured,
    Observation,
    PayloadRejected,
    QueryAnswered,
    QueryBroken,
    QueryNotAnswered,
    QueryReady,
    RefreshDone,
    RefreshNotDone,
    RefreshPostponed,
    RefreshStarted,
    SettingIgnored,
    fan_out,
)
from support.catalogues import view, watched

KINDS: tuple[type, ...] = typing.get_args(Observation)
METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"

Written = Callable[[], list[dict[str, Any]]]

#: A value for a field of each type that observations have.
VALUES: dict[Any, Any] = {
    int: 3,
    float: 0.25,
    str: "text",
    bool: True,
    float | None: 0.5,
    Catalogue: Catalogue.of([view("public.v", ["public.t"])], watched("public.t")),
    tuple[SettingIgnored, ...]: (SettingIgnored(name="x", problem="p", hint="h"),),
}


def sample(kind: type) -> Observation:
    """An observation of ``kind``."""
    hints = typing.get_type_hints(kind)
    made = {field.name: VALUES.get(hints[field.name], frozenset({"a", "b"})) for field in dataclasses.fields(kind)}
    observation: Observation = kind(**made)
    return observation


def test_the_set_is_closed() -> None:
    """Every class of the module is in the union: what is not there, no observer would know of."""
    defined = {
        kind
        for _, kind in inspect.getmembers(observations, inspect.isclass)
        if kind.__module__ == observations.__name__
    }
    assert defined == set(KINDS)
    assert len(KINDS) == len(set(KINDS)) >= 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_observation_is_frozen_and_says_what_it_means(kind: type) -> None:
    assert dataclasses.is_dataclass(kind)
    assert kind.__doc__
    observation = sample(kind)
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(observation, field.name, "changed")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_observer_takes_every_observation(kind: type) -> None:
    observe = fan_out(Board(), Metrics())
    observe(sample(kind))


def test_every_observation_has_an_event_in_the_log_and_no_two_the_same() -> None:
    assert EVENTS.keys() == set(KINDS)
    assert len({event for _, event in EVENTS.values()}) == len(EVENTS)
    assert all(level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR) for level, _ in EVENTS.values())


def test_observers_are_told_in_order() -> None:
    told: list[str] = []
    fan_out(lambda _: told.append("first"), lambda _: told.append("second"))(GapFound(reason="r"))
    assert told == ["first", "second"]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """The lines of JSON that went to stderr; the log's configuration is taken back after the test."""
    yield lambda: [orjson.loads(line) for line in capsys.readouterr().err.splitlines()]
    structlog.reset_defaults()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_log_writes_every_field_as_json(kind: type, written: Written) -> None:
    logs.configure(level="debug", json=True)
    Log()(sample(kind))
    [line] = written()
    level, event = EVENTS[kind]
    assert line["event"] == event
    assert line["level"] == logging.getLevelName(level).lower()
    assert line["timestamp"]
    for field in dataclasses.fields(kind):
        assert field.name in line
        assert "object at 0x" not in str(line[field.name])
        assert "(" not in str(line[field.name]), "a Python object's own form is no text for a log"


def test_the_log_is_for_machines_where_nobody_looks_on(written: Written) -> None:
    logs.configure(level="debug")
    Log()(GapFound(reason="r"))
    [line] = written()
    assert line["reason"] == "r"


def test_failures_in_a_row_are_written_at_growing_intervals_and_with_what_ends_them(written: Written) -> None:
    logs.configure(level="info", json=True)
    log = Log()
    for _ in range(9):
        log(ConnectFailed(problem="p", hint="h", retry_in=1.0))
    log(Listening(backend_pid=1))
    log(ConnectFailed(problem="p", hint="h", retry_in=1.0))
    log(Listening(backend_pid=2))
    assert [(line["event"], line.get("in_a_row"), line.get("after_failures")) for line in written()] == [
        ("cannot connect", None, None),
        ("cannot connect", 2, None),
        ("cannot connect", 4, None),
        ("cannot connect", 8, None),
        ("listening", None, 9),
        ("cannot connect", None, None),
        ("listening", None, 1),
    ]


def test_failures_of_one_view_say_nothing_of_another(written: Written) -> None:
    logs.configure(level="info", json=True)
    log = Log()
    for view_name in ("a", "a", "a", "b"):
        log(RefreshNotDone(view=view_name, problem="p", hint="h", failures=1, broken=False))
    log(RefreshDone(view="b", method="plain", seconds=0.1, dirty_for=0.1))
    log(RefreshDone(view="a", method="plain", seconds=0.1, dirty_for=0.1))
    assert [(line["view"], line.get("in_a_row"), line.get("after_failures")) for line in written()] == [
        ("a", None, None),
        ("a", 2, None),
        ("b", None, None),
        ("b", None, 1),
        ("a", None, 3),
    ]


def test_a_view_that_is_locked_for_long_is_told_of(written: Written) -> None:
    logs.configure(level="info", json=True)
    log = Log()
    for waits in range(1, 40):
        log(RefreshPostponed(view="v", problem="somebody has it", waits=waits))
    assert [(line["event"], line["level"], line["waits"]) for line in written()] == [
        ("refresh postponed", "warning", waits) for waits in (8, 16, 32)
    ]


def test_the_log_leaves_out_what_is_below_its_level(written: Written) -> None:
    logs.configure(level="warning", json=True)
    Log()(GapFound(reason="r"))
    Log()(ListeningLost(reason="r"))
    assert [line["event"] for line in written()] == ["listening connection lost"]


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    logs.configure(level="info", json=True)
    try:
        log = Log()
        for _ in range(3):
            log(GapFound(reason="r"))
    finally:
        structlog.reset_defaults()


# Metrics.


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by name and label values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_metrics_count_what_is_observed() -> None:
    metrics = Metrics()
    for observation in (
        Listening(backend_pid=1),
        ListeningLost(reason="r"),
        Listening(backend_pid=2),
        GapFound(reason="r"),
        Following(leader="another", term=1),
        Leading(term=2),
        BellSet(ringing=True),
        LogMeasured(changes=3, oldest=0.5),
        LogMeasured(changes=2, oldest=0.25),
        ConsumeFailed(problem="p", retry_in=1.0),
        ChangesHeard(table="public.t", count=3),
        ChangesHeard(table="public.t", count=2),
        PayloadRejected(problem="p", payload="x"),
        CatalogueRead(catalogue=VALUES[Catalogue], suspects=(), ignored=(), seconds=0.1),
        RefreshDone(view="v", method="concurrently", seconds=0.5, dirty_for=2.0),
        RefreshDone(view="v", method="plain", seconds=0.25, dirty_for=1.0),
        RefreshNotDone(view="v", problem="p", hint="", failures=1, broken=False),
        RefreshPostponed(view="v", problem="p", waits=1),
        Invalidated(offset=4, patterns=(), tables=(), views=(), reason=None, age=0),
        Invalidated(offset=9, patterns=(), tables=(), views=(), reason=None, age=0),
        ClientJoined(kind="sse"),
        ClientJoined(kind="sse"),
        ClientLeft(kind="sse"),
        ClientResynced(reason="gap", count=5),
        Delivered(clients=7, lagging=2),
        Delivered(clients=1, lagging=1),
        CaughtUp(),
        FellBehind(seconds=5),
        QueryReady(query="good", after_failure=False),
        QueryBroken(query="bad", problem="p", hint="h"),
        QueryAnswered(query="good", how="miss", seconds=0.5, rows=3),
        QueryAnswered(query="good", how="hit", seconds=0.25, rows=3),
        QueryAnswered(query="good", how="csv", seconds=1.5, rows=100),
        QueryNotAnswered(query="bad", code="query_unusable", problem="p"),
    ):
        metrics(observation)
    found = samples(metrics)
    wanted = {
        ("afresh_listening",): 1,
        ("afresh_listening_lost_total",): 1,
        ("afresh_leading",): 1,
        ("afresh_terms_total",): 1,
        ("afresh_bell_ringing",): 1,
        ("afresh_change_log_rows",): 2,
        ("afresh_change_log_seconds",): 0.25,
        ("afresh_consume_failures_total",): 1,
        ("afresh_gaps_total",): 1,
        ("afresh_changes_total", "public.t"): 5,
        ("afresh_payloads_rejected_total",): 1,
        ("afresh_views",): 1,
        ("afresh_refreshes_total", "concurrently", "v"): 1,
        ("afresh_refreshes_total", "plain", "v"): 1,
        ("afresh_refresh_failures_total", "v"): 1,
        ("afresh_refreshes_postponed_total", "v"): 1,
        ("afresh_refresh_seconds_count", "v"): 2,
        ("afresh_refresh_seconds_sum", "v"): 0.75,
        ("afresh_dirty_seconds_count", "v"): 2,
        ("afresh_dirty_seconds_sum", "v"): 3,
        ("afresh_invalidations_total",): 2,
        ("afresh_offset",): 9,
        ("afresh_clients", "sse"): 1,
        ("afresh_client_resyncs_total", "gap"): 5,
        ("afresh_deliveries_total",): 8,
        ("afresh_clients_lagging",): 1,
        ("afresh_current",): 0,
        ("afresh_query_usable", "good"): 1,
        ("afresh_query_usable", "bad"): 0,
        ("afresh_query_answers_total", "miss", "good"): 1,
        ("afresh_query_answers_total", "hit", "good"): 1,
        ("afresh_query_answers_total", "csv", "good"): 1,
        ("afresh_query_seconds_count", "good"): 2,
        ("afresh_query_seconds_sum", "good"): 2,
        ("afresh_query_rows_total", "good"): 103,
        ("afresh_query_failures_total", "query_unusable", "bad"): 1,
    }
    assert {key: value for key, value in found.items() if not key[0].endswith("_bucket")} == wanted


def test_docs_name_every_metric_with_its_type_and_labels_and_no_other() -> None:
    """What `/metrics` has once everything was observed, against the table."""
    metrics = Metrics()
    for kind in KINDS:
        metrics(sample(kind))
    metrics(QueryAnswered(query="q", how="miss", seconds=1, rows=1))
    made = set()
    for family in text_string_to_metric_families(metrics.text().decode()):
        if family.type == "gauge" and family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for one in family.samples for label in one.labels} - {"le"}
        made.add((name, family.type, frozenset(labels)))
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", METRICS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert made == named
    assert len(rows) == len(named)


def test_who_ceases_to_lead_says_nothing_of_the_bell() -> None:
    metrics = Metrics()
    for observation in (Leading(term=1), BellSet(ringing=True), Following(leader=None, term=None, reason="r")):
        metrics(observation)
    found = samples(metrics)
    assert found["afresh_leading",] == found["afresh_bell_ringing",] == 0


def test_the_board_knows_who_leads_and_what_the_leader_refreshed() -> None:
    board = Board()
    board(CatalogueRead(catalogue=VALUES[Catalogue], suspects=(), ignored=(), seconds=0.1))
    assert board.role == "follower"
    board(Following(leader="another", term=1))
    assert (board.role, board.leader) == ("follower", "another")
    board(Invalidated(offset=1, patterns=("p",), tables=(), views=("public.v", "unknown"), reason=None, age=0))
    assert board.views["public.v"].last_refresh is not None
    board(Leading(term=2))
    assert (board.role, board.leader) == ("leader", None)
    board(RefreshStarted(view="public.v"))
    assert board.views["public.v"].refreshing
    board(Following(leader=None, term=None, reason="another instance leads"))
    assert board.role == "follower"
    assert not board.views["public.v"].refreshing
