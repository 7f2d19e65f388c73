"""Everything this package raises on purpose.

    AfreshError
    ├── SettingsError            afresh.toml, a pack.toml or the environment says what we cannot take
    ├── PackError                a pack is missing or unreadable
    ├── DatabaseError            the server cannot be used as it is
    │   ├── Unreachable          nobody answers at the address, or refuses us
    │   ├── WrongDatabase        it answers, but cannot serve: too old, a standby, a pooler, no `afresh` schema
    │   └── NotThere             a table or view that was named does not exist
    ├── MigrationError           a migration failed, or the database holds ones we do not know
    ├── RefreshError             a refresh did not happen
    │   ├── RefreshBusy          somebody else holds the view: try again soon
    │   ├── RefreshBroken        it cannot work until a person changes something
    │   └── RefreshFailed        PostgreSQL or the network refused: worth another try
    ├── BadPayload               a notification on our channel that is none of ours
    ├── BadRequest               what a client asked for over HTTP makes no sense
    ├── QueryError               a named query gives no answer
    │   ├── UnknownQuery         there is none of this name
    │   ├── BadParameter         what a client sent for a parameter cannot be taken
    │   ├── QueryRefused         PostgreSQL, or the query itself, refuses these values
    │   │   ├── QueryConflict    what they would write is there already
    │   │   └── QueryForbidden   the role as which the query is run may not
    │   ├── NothingFound         it answers with one row, and there is none
    │   ├── QueryTimedOut        it took longer than it may
    │   ├── QueryBusy            no connection was free in time
    │   ├── QueryUnusable        it cannot work until a person changes something
    │   └── QueryFailed          PostgreSQL or the network refused: worth another try
    ├── SourceUnusable           a table or column that [[embeddings]] names is not as it says
    ├── ModelError               a model that embeds or chats gives no answer
    │   └── ModelRefused         it will not take this, however often it is asked
    ├── EmbeddedServerError      the demo's own PostgreSQL did not start
    ├── StoryUntold              something that must follow the demo's one change did not
    └── ServeError               the service cannot take its place (a port in use, …)

Every message says what to do next: ``str(error)`` is the problem, ``error.hint`` the way out.
"""

from __future__ import annotations


class AfreshError(Exception):
    """The base of all errors here: ``problem`` is what is wrong, ``hint`` what to do next (may be empty)."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class SettingsError(AfreshError):
    """One or more settings are wrong; ``problems`` holds a line for each: file, key, what was expected."""

    def __init__(self, problems: list[str], *, hint: str = "") -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = problems


class PackError(AfreshError):
    """A pack that was named is not there, or its files cannot be read."""


class DatabaseError(AfreshError):
    """The database cannot be used as it is."""


class Unreachable(DatabaseError):
    """Nobody answers at the address, or the server refuses the connection."""


class WrongDatabase(DatabaseError):
    """The server answers but cannot serve: too old, a standby, behind a transaction pooler, not migrated."""


class NotThere(DatabaseError):
    """A relation that was named does not exist; ``name`` is what was asked for."""

    def __init__(self, name: str, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.name = name


class MigrationError(AfreshError):
    """A migration could not be applied or taken back; the message says whether anything of it remains."""


class RefreshError(AfreshError):
    """A refresh of ``view`` did not happen."""

    def __init__(self, view: str, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.view = view


class RefreshBusy(RefreshError):
    """Somebody else holds a lock on the view; nothing is wrong with it."""


class RefreshBroken(RefreshError):
    """The view cannot be refreshed until a person changes something; ``hint`` says what."""


class RefreshFailed(RefreshError):
    """PostgreSQL or the network refused this time."""


class EmbeddedServerError(AfreshError):
    """The embedded PostgreSQL did not start."""


class ServeError(AfreshError):
    """The service cannot take its place."""


class BadPayload(AfreshError):
    """A notification on our channel is none of ours."""


class BadRequest(AfreshError):
    """What a client asked for over HTTP makes no sense as it stands."""


class QueryError(AfreshError):
    """The named query ``name`` gives no answer; ``code`` is what clients may rely on, ``status`` HTTP's word for it."""

    code = "query_failed"
    status = 503

    def __init__(self, name: str, problem: str, *, hint: str = "") -> None:
        super().__init__(problem, hint=hint)
        self.name = name


class UnknownQuery(QueryError):
    """There is no named query of this name."""

    code = "unknown_query"
    status = 404


class BadParameter(QueryError):
    """What a client sent for ``parameter`` of a query cannot be taken; the message says what was expected."""

    code = "bad_parameter"
    status = 400

    def __init__(self, name: str, parameter: str, problem: str) -> None:
        super().__init__(name, f"{parameter}: {problem}")
        self.parameter = parameter


class QueryRefused(QueryError):
    """PostgreSQL refuses these values (a division by zero, a date that is none), or the query does, by a RAISE of its
    own."""

    code = "query_refused"
    status = 422


class QueryConflict(QueryRefused):
    """What was to be written is there already."""

    code = "query_conflict"
    status = 409


class QueryForbidden(QueryRefused):
    """The role as which the query is run may not do that, or not with these rows."""

    code = "query_forbidden"
    status = 403


class NothingFound(QueryError):
    """The query answers with one row, and there is none for these values."""

    code = "nothing_found"
    status = 404


class QueryTimedOut(QueryError):
    """The query took longer than it may, and was stopped."""

    code = "query_timeout"
    status = 504


class QueryBusy(QueryError):
    """All connections for queries were in use for as long as a query may take."""

    code = "query_busy"


class QueryUnusable(QueryError):
    """The query cannot work until a person changes something: it, its settings, or the database; ``hint`` says what."""

    code = "query_unusable"


class QueryFailed(QueryError):
    """PostgreSQL or the network refused this time."""


class SourceUnusable(AfreshError):
    """A table or column that `[[embeddings]]` names is not as it says."""


class ModelError(AfreshError):
    """A model does not answer, or not with what was asked for: worth another try later."""


class ModelRefused(ModelError):
    """The model will not take what it is sent; it may take something else."""


class StoryUntold(AfreshError):
    """Something that must follow the demo's one change did not; the message says what."""
