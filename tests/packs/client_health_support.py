"""What the tests of the pack ``client_health`` share: sample data, and the pack taken down again."""

from __future__ import annotations

import asyncpg

from afresh_notifier import migrate, packs

PACK = packs.find("client_health")

#: The tables on which the pack stands, in an order in which they can be filled.
TABLES = (
    "nps_clients",
    "nps_responses",
    "unified_meetings",
    "actions",
    "segmentation_tiers",
    "segmentation_event_types",
    "tier_event_requirements",
    "segmentation_events",
    "segmentation_event_compliance",
)

VIEWS = ("client_health_summary", "event_compliance_summary")

FOREIGN_KEYS = {
    "fk_nps_responses_client": ("nps_responses", "client_name"),
    "fk_unified_meetings_client": ("unified_meetings", "client_name"),
    "fk_actions_client": ("actions", "Client"),
    "fk_segmentation_events_client": ("segmentation_events", "client_name"),
    "fk_event_compliance_client": ("segmentation_event_compliance", "client_name"),
}


async def pack_up(connection: asyncpg.Connection) -> list[str]:
    """Apply the pack's migrations; returns the ids of those that were."""
    return [step.migration async for step in migrate.up(connection, [PACK.scope])]


async def pack_down(connection: asyncpg.Connection) -> list[str]:
    """Take the pack's migrations back; returns the ids of those that were."""
    return [step.migration async for step in migrate.down(connection, [PACK.scope])]


async def load_sample(connection: asyncpg.Connection, size: int | None) -> None:
    """The sample data for ``size`` clients, as its callers load it."""
    async with connection.transaction():
        if size is not None:
            await connection.execute(f"SET LOCAL afresh.sample_size = '{size}'")
        await connection.execute(PACK.read("sample.sql"))


async def refresh(connection: asyncpg.Connection) -> None:
    """Refresh both summaries as the service does."""
    for view in VIEWS:
        await connection.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}")
