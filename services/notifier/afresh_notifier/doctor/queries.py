"""Checks of named queries: whether each can be run, and whether anything but time ends its answers.

`serve` says what `check_patterns` finds when it starts; whether they can be run it sees for itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from afresh_notifier.doctor.finding import Finding, ok, problem, warning
from afresh_notifier.errors import QueryError
from afresh_notifier.named_queries.execution import Execution
from afresh_notifier.named_queries.named_query import NamedQuery
from afresh_notifier.refresher import Plan
from afresh_notifier.settings import DatabaseSettings
from afresh_notifier.settings_queries import QueryDefaults


async def examine(
    database_settings: DatabaseSettings, settings: QueryDefaults, queries: Sequence[NamedQuery]
) -> list[Finding]:
    """Whether each query can be run, asked on such a connection as it is run on; nothing is run."""
    findings = []
    async with Execution.opened(database_settings, settings) as execution:
        for query in queries:
            about = f"query {query.name}"
            try:
                await execution.prepare(query)
            except QueryError as error:
                findings.append(problem(about, error.problem, error.hint))
            else:
                findings.append(ok(about, f"can be run, at {query.method} {query.path}"))
    return findings


def check_patterns(queries: Sequence[NamedQuery], plan: Plan) -> list[Finding]:
    """Whether some table's or view's pattern can make each query's answers stale."""
    literals = sorted(
        {
            template.literal
            for templates in (*plan.patterns.tables.values(), *plan.patterns.views.values())
            for template in templates
        }
    )
    findings = []
    for query in queries:
        if query.writes:
            continue
        key = query.cache_key.literal
        if any(key.startswith(literal) for literal in literals):
            continue
        if query.ttl is None:
            what = f"nothing ever makes its answers stale: no pattern is a beginning of {key}, and it has no ttl"
        else:
            what = f"only its ttl of {query.ttl:g} s ends an answer: no pattern is a beginning of {key}"
        patterns = ", ".join(literals) or "none"
        to_do = f"let its cache_key begin with one of: {patterns}; or name {key} among the patterns of what it reads"
        findings.append(warning(f"query {query.name}", what, to_do))
    return findings
