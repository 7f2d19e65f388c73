"""What the tests of the pack ``client_health`` share, and what those of every pack expect of it."""

from __future__ import annotations

from packs.every_pack import Expected, PackUnderTest

CLIENT_HEALTH = PackUnderTest("client_health")
PACK = CLIENT_HEALTH.pack
pack_up, pack_down, load_sample, refresh = (
    CLIENT_HEALTH.up,
    CLIENT_HEALTH.down,
    CLIENT_HEALTH.load_sample,
    CLIENT_HEALTH.refresh,
)
failed_checks = CLIENT_HEALTH.failed_checks

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

#: Those that grow with the number of clients.
LARGE = set(TABLES) - {"segmentation_tiers", "segmentation_event_types", "tier_event_requirements"}

VIEWS = ("client_health_summary", "event_compliance_summary")

FOREIGN_KEYS = {
    "fk_nps_responses_client": ("nps_responses", "client_name"),
    "fk_unified_meetings_client": ("unified_meetings", "client_name"),
    "fk_actions_client": ("actions", "Client"),
    "fk_segmentation_events_client": ("segmentation_events", "client_name"),
    "fk_event_compliance_client": ("segmentation_event_compliance", "client_name"),
}

EXPECTED = Expected(
    checks=132,
    ok_without=frozenset({"role anon", "role authenticated", "role service_role", "jobs of pg_cron"}),
    sized={"public.nps_clients": int, "public.client_health_summary": int},
    stale={
        *(f"rows in {view}" for view in VIEWS),
        *(f"{view} equals {view}_live" for view in VIEWS),
    }.__eq__,
    sample_of="clients",
    digests=(
        "SELECT concat(id, client_name, segment, cse) FROM nps_clients",
        # Dates as days before today, so that midnight between the two loads makes no difference.
        "SELECT concat(client_name, score, (now() AT TIME ZONE 'UTC')::date - response_date) FROM nps_responses",
        "SELECT concat(client_name, title, (now() AT TIME ZONE 'UTC')::date - meeting_date) FROM unified_meetings",
        'SELECT concat("Client", "Description", "Status", (now() AT TIME ZONE \'UTC\')::date - "Due_Date") FROM actions',
        "SELECT concat(client_name, event_type_id, year, actual_count) FROM segmentation_event_compliance",
    ),
    shown=lambda chosen, before, after: (
        after["client_name"] == before["client_name"] == chosen and after["health_score"] != before["health_score"]
    ),
    rounds=400,
    busy=frozenset(f"public.{table}" for table in LARGE),
    bounds={
        "SELECT max(n) FROM (SELECT count(*) AS n FROM nps_responses GROUP BY client_name) AS t": 12,
        "SELECT max(n) FROM (SELECT count(*) AS n FROM unified_meetings GROUP BY client_name) AS t": 20,
        'SELECT max(n) FROM (SELECT count(*) AS n FROM actions GROUP BY "Client") AS t': 15,
    },
)
