"""Metrics: an observer that keeps Prometheus counters; docs/metrics.md lists them, and a test holds it to that."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from afresh_notifier.observations import (
    BellSet,
    CatalogueRead,
    CaughtUp,
    ChangesHeard,
    ChatFailed,
    ClientJoined,
    ClientLeft,
    ClientResynced,
    ConsumeFailed,
    Delivered,
    Embedded,
    EmbeddingFailed,
    EmbeddingsWaiting,
    FellBehind,
    Following,
    GapFound,
    Invalidated,
    JobDone,
    JobFailed,
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
)

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The observer; `text` is what a scrape gets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._listening = Gauge("afresh_listening", "1 while the listening connection stands", registry=r)
        self._lost = Counter("afresh_listening_lost", "Times the listening connection was lost", registry=r)
        self._leading = Gauge("afresh_leading", "1 while this instance leads", registry=r)
        self._terms = Counter("afresh_terms", "Times this instance began to lead", registry=r)
        self._ringing = Gauge("afresh_bell_ringing", "1 while writers ring, 0 while they are silenced", registry=r)
        self._log_rows = Gauge(
            "afresh_change_log_rows", "Changes that wait in the change log (counted up to 10,000)", registry=r
        )
        self._log_age = Gauge("afresh_change_log_seconds", "For how long the oldest of them has waited", registry=r)
        self._failed_looks = Counter("afresh_consume_failures", "Times changes could not be taken", registry=r)
        self._gaps = Counter("afresh_gaps", "Stretches in which changes may have been missed", registry=r)
        self._changes = Counter("afresh_changes", "Changes heard", ["table"], registry=r)
        self._rejected = Counter("afresh_payloads_rejected", "Notifications that were none of ours", registry=r)
        self._views = Gauge("afresh_views", "Views that are kept fresh", registry=r)
        self._refreshes = Counter("afresh_refreshes", "Refreshes that committed", ["view", "method"], registry=r)
        self._failures = Counter("afresh_refresh_failures", "Refreshes that failed", ["view"], registry=r)
        self._postponed = Counter(
            "afresh_refreshes_postponed", "Refreshes put off since the view was locked", ["view"], registry=r
        )
        self._duration = Histogram(
            "afresh_refresh_seconds", "How long refreshes took", ["view"], buckets=_SECONDS, registry=r
        )
        self._staleness = Histogram(
            "afresh_dirty_seconds",
            "How long views had been dirty when their refresh began",
            ["view"],
            buckets=_SECONDS,
            registry=r,
        )
        self._invalidations = Counter("afresh_invalidations", "Invalidations put into the log", registry=r)
        self._offset = Gauge("afresh_offset", "The offset of the newest invalidation", registry=r)
        self._current = Gauge("afresh_current", "0 while the invalidation log cannot be read", registry=r)
        self._current.set(1)
        self._clients = Gauge("afresh_clients", "Clients connected", ["kind"], registry=r)
        self._resyncs = Counter("afresh_client_resyncs", "Clients told to drop everything", ["reason"], registry=r)
        self._delivered = Counter("afresh_deliveries", "Messages written to clients", registry=r)
        self._answers = Counter("afresh_query_answers", "Answers of named queries", ["query", "how"], registry=r)
        self._query_seconds = Histogram(
            "afresh_query_seconds", "How long answers that ran a query took", ["query"], buckets=_SECONDS, registry=r
        )
        self._query_rows = Counter("afresh_query_rows", "Rows in answers that ran a query", ["query"], registry=r)
        self._query_failures = Counter(
            "afresh_query_failures",
            "Named queries that gave an error in place of an answer",
            ["query", "code"],
            registry=r,
        )
        self._usable = Gauge("afresh_query_usable", "1 while the query can be run", ["query"], registry=r)
        self._chats = Counter("afresh_chat_failures", "Chats in which the model gave no answer", ["query"], registry=r)
        self._jobs = Counter("afresh_jobs", "Runs of jobs", ["job", "outcome"], registry=r)
        self._embedded = Counter("afresh_embedded_rows", "Rows that got embeddings", ["table"], registry=r)
        self._embedding_failures = Counter(
            "afresh_embedding_failures", "Rows whose embedding could not be made or stored", ["table"], registry=r
        )
        self._embeddings_waiting = Gauge(
            "afresh_embeddings_waiting", "Rows that wait for embeddings (counted up to 10,000)", ["table"], registry=r
        )
        self._lagging = Gauge("afresh_clients_lagging", "Clients that did not read at the last flush", registry=r)

    def __call__(self, observation: Observation) -> None:
        """Count."""
        match observation:
            case QueryAnswered(query=query, how=how, seconds=seconds, rows=rows):  # first, as there are most of these
                self._answers.labels(query, how).inc()
                if how in ("miss", "csv", "write"):
                    self._query_seconds.labels(query).observe(seconds)
                    self._query_rows.labels(query).inc(rows)
            case Listening():
                self._listening.set(1)
            case ListeningLost():
                self._listening.set(0)
                self._lost.inc()
            case Leading():
                self._leading.set(1)
                self._terms.inc()
            case Following():
                self._leading.set(0)
                self._ringing.set(0)
            case BellSet(ringing=ringing):
                self._ringing.set(int(ringing))
            case LogMeasured(changes=changes, oldest=oldest):
                self._log_rows.set(changes)
                self._log_age.set(oldest)
            case ConsumeFailed():
                self._failed_looks.inc()
            case GapFound():
                self._gaps.inc()
            case ChangesHeard(table=table, count=count):
                self._changes.labels(table).inc(count)
            case PayloadRejected():
                self._rejected.inc()
            case CatalogueRead(catalogue=catalogue):
                self._views.set(len(catalogue.views))
            case RefreshDone(view=view, method=method, seconds=seconds, dirty_for=dirty_for):
                self._refreshes.labels(view, method).inc()
                self._duration.labels(view).observe(seconds)
                self._staleness.labels(view).observe(dirty_for)
            case RefreshNotDone(view=view):
                self._failures.labels(view).inc()
            case RefreshPostponed(view=view):
                self._postponed.labels(view).inc()
            case Invalidated(offset=offset):
                self._invalidations.inc()
                self._offset.set(offset)
            case FellBehind():
                self._current.set(0)
            case CaughtUp():
                self._current.set(1)
            case ClientJoined(kind=kind):
                self._clients.labels(kind).inc()
            case ClientLeft(kind=kind):
                self._clients.labels(kind).dec()
            case ClientResynced(reason=reason, count=count):
                self._resyncs.labels(reason).inc(count)
            case Delivered(clients=clients, lagging=lagging):
                self._delivered.inc(clients)
                self._lagging.set(lagging)
            case QueryReady(query=query):
                self._usable.labels(query).set(1)
            case QueryBroken(query=query):
                self._usable.labels(query).set(0)
            case ChatFailed(query=query):
                self._chats.labels(query).inc()
            case JobDone(job=job):
                self._jobs.labels(job, "done").inc()
            case JobFailed(job=job):
                self._jobs.labels(job, "failed").inc()
            case Embedded(table=table, rows=rows):
                self._embedded.labels(table).inc(rows)
            case EmbeddingFailed(table=table, rows=rows):
                self._embedding_failures.labels(table).inc(rows)
            case EmbeddingsWaiting(table=table, rows=rows):
                self._embeddings_waiting.labels(table).set(rows)
            case QueryNotAnswered(query=query, code=code):
                self._query_failures.labels(query, code).inc()
            case _:
                pass

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
