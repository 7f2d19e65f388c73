-- event_compliance_summary: one row for each client and year, event types against what the tier is owed
-- depends: client_health_0005_client_health_summary

-- migrate: apply

-- The definition, once. The steps stand inside a LATERAL subquery and work for one client and year, so that a
-- condition on client_name, or a join with a list of names, reaches every base table by its index. (A WITH at the top
-- of the view would let conditions through, but no join.) Each of them is used once, so that the planner merges it
-- into the query.
--
-- Years: for each client from the year of the first completed event up to the current one (in UTC), years without any
-- event included, and later years with completed events. A client without events has the current year alone. No more
-- than fifty years are counted back, so that one mistyped date costs little (and the planner expects fifty rows here,
-- not a thousand).
--
-- For each event type that the client's tier is owed (expected_count above 0; an expected_count of 0 is the same as
-- no requirement), compliance is 100 * completed events / expected_count, and status
--     critical below 50, at-risk below 100, compliant at exactly 100, exceeded above,
-- judged by the unrounded value. The value shown is cut after two decimals and not rounded, so that what is not yet
-- compliant never reads 100.00.
--
-- overall_compliance_score is the percentage of those event types that reach 100; overall_status follows from it by
-- the same thresholds ('exceeded' cannot occur: no more than all types can comply). A client who is owed nothing has
-- neither: a null score and the status 'not-required'. Completed events of types that are not owed are counted in
-- other_event_count and nowhere else.
CREATE VIEW public.event_compliance_summary_live AS
SELECT
    client.client_name,
    span.year,
    client.segment,
    client.cse,
    summary.event_type_count,
    summary.compliant_event_type_count,
    summary.expected_event_count,
    summary.actual_event_count,
    summary.other_event_count,
    summary.overall_compliance_score,
    public.compliance_status(summary.overall_compliance_score) AS overall_status,
    summary.event_compliance
FROM public.nps_clients AS client
CROSS JOIN (SELECT extract(year FROM now() AT TIME ZONE 'UTC')::integer AS this_year) AS clock
CROSS JOIN LATERAL (
    (
        SELECT generate_series(clock.this_year, least(first.year, clock.this_year), -1) AS year
        FROM (
            SELECT min(e.event_year)::integer AS year
            FROM public.segmentation_events AS e
            WHERE e.client_name = client.client_name AND e.completed
        ) AS first
        LIMIT 50
    )
    UNION ALL
    SELECT DISTINCT e.event_year::integer
    FROM public.segmentation_events AS e
    WHERE e.client_name = client.client_name AND e.completed AND e.event_year > clock.this_year
) AS span
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE type.expected_count IS NOT NULL)::integer AS event_type_count,
        count(*) FILTER (WHERE type.percentage >= 100)::integer AS compliant_event_type_count,
        coalesce(sum(type.expected_count), 0)::integer AS expected_event_count,
        coalesce(sum(type.actual_count) FILTER (WHERE type.expected_count IS NOT NULL), 0)::integer
            AS actual_event_count,
        coalesce(sum(type.actual_count) FILTER (WHERE type.expected_count IS NULL), 0)::integer AS other_event_count,
        public.overall_compliance_score(
            count(*) FILTER (WHERE type.percentage >= 100), count(*) FILTER (WHERE type.expected_count IS NOT NULL)
        )::numeric(5, 2) AS overall_compliance_score,
        coalesce(
            jsonb_agg(
                jsonb_build_object(
                    'event_type_id', type.event_type_id,
                    'event_type', type.event_name,
                    'expected_count', type.expected_count,
                    'actual_count', type.actual_count,
                    'compliance_percentage', trunc(type.percentage, 2),
                    'status', type.status
                ) ORDER BY type.event_name, type.event_type_id
            ) FILTER (WHERE type.expected_count IS NOT NULL),
            '[]'
        ) AS event_compliance
    FROM public.client_event_types(client.client_name, client.segment, span.year) AS type
) AS summary
WHERE client.client_name IS NOT NULL;

COMMENT ON VIEW public.event_compliance_summary_live IS
    'What event_compliance_summary holds, computed at the moment of asking';

CREATE MATERIALIZED VIEW public.event_compliance_summary AS
SELECT * FROM public.event_compliance_summary_live;

COMMENT ON MATERIALIZED VIEW public.event_compliance_summary IS
    'Events held against events owed, for each client and year';

CREATE UNIQUE INDEX idx_event_compliance_client_year ON public.event_compliance_summary (client_name, year);
CREATE INDEX idx_event_compliance_year ON public.event_compliance_summary (year);
CREATE INDEX idx_event_compliance_segment ON public.event_compliance_summary (segment);
CREATE INDEX idx_event_compliance_status ON public.event_compliance_summary (overall_status);
CREATE INDEX idx_event_compliance_score ON public.event_compliance_summary (overall_compliance_score DESC);

-- migrate: rollback

-- Without CASCADE: a view or function of somebody else's that reads the summary is named in the error, not dropped
-- with it.
DROP MATERIALIZED VIEW IF EXISTS public.event_compliance_summary;
DROP VIEW IF EXISTS public.event_compliance_summary_live;
