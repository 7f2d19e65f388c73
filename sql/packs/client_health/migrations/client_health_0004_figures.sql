-- What a client's records come to: NPS, meetings, actions, compliance and event types, as functions of the client
-- depends: client_health_0003_formulas

-- migrate: apply

-- Each is one query that PostgreSQL puts in the place of the call, so a view that calls it for every client is planned
-- as if the query stood there, and a condition on the client's name reaches the tables by their indexes. For that they
-- are STABLE and not STRICT, run with the caller's rights, and carry no SET; the bodies are kept parsed, names and all,
-- so they need none, and the catalogue knows which tables each reads: Afresh refreshes the views when one of these
-- changes.
--
-- The caller's rights, also inside a view: who reads one of the *_live views needs to be able to read the tables, and
-- sees what their policies let him see.
--
-- A client's name is of whatever type it has in nps_clients (it may be a varchar or citext in a system that was there
-- before), so that it is compared as it is compared there. None of them asks whether there is such a client: for a
-- name without records the figures are those of no records.

CREATE FUNCTION public.client_nps(
    client_name public.nps_clients.client_name%TYPE,
    from_day date DEFAULT ((now() AT TIME ZONE 'UTC')::date - 364),
    to_day date DEFAULT NULL
)
RETURNS TABLE (
    promoters bigint, passives bigint, detractors bigint, responses bigint, score numeric,
    responses_ever bigint, last_response_date date
)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT
        counted.promoters,
        counted.passives,
        counted.detractors,
        counted.responses,
        public.nps_score(counted.promoters, counted.detractors, counted.responses),
        counted.responses_ever,
        counted.last_response_date
    FROM (
        SELECT
            count(*) FILTER (WHERE age.within AND response.score >= 9) AS promoters,
            count(*) FILTER (WHERE age.within AND response.score >= 7 AND response.score < 9) AS passives,
            count(*) FILTER (WHERE age.within AND response.score < 7) AS detractors,
            count(*) FILTER (WHERE age.within) AS responses,
            count(*) AS responses_ever,
            max(response.response_date)::date AS last_response_date
        FROM public.nps_responses AS response
        CROSS JOIN LATERAL (
            SELECT
                response.response_date::date >= coalesce(client_nps.from_day, '-infinity')
                AND response.response_date::date <= coalesce(client_nps.to_day, 'infinity') AS within
        ) AS age
        WHERE response.client_name = client_nps.client_name AND response.score IS NOT NULL
    ) AS counted;
END;

COMMENT ON FUNCTION public.client_nps(public.nps_clients.client_name%TYPE, date, date) IS
    'A client''s NPS and what it is made of, from one day to another, both included; a NULL is no bound. Without days: the '
    'last 365 days (UTC) and what is dated later. responses_ever and last_response_date are of all days';

CREATE FUNCTION public.client_meetings(
    client_name public.nps_clients.client_name%TYPE,
    today date DEFAULT (now() AT TIME ZONE 'UTC')::date
)
RETURNS TABLE (held bigint, held_lately bigint, last_meeting_date date, next_meeting_date date)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT
        count(*) FILTER (WHERE meeting.meeting_date::date <= client_meetings.today),
        count(*) FILTER (
            WHERE meeting.meeting_date::date <= client_meetings.today
                AND meeting.meeting_date::date > client_meetings.today - 90
        ),
        max(meeting.meeting_date::date) FILTER (WHERE meeting.meeting_date::date <= client_meetings.today),
        min(meeting.meeting_date::date) FILTER (WHERE meeting.meeting_date::date > client_meetings.today)
    FROM public.unified_meetings AS meeting
    WHERE meeting.client_name = client_meetings.client_name;
END;

COMMENT ON FUNCTION public.client_meetings(public.nps_clients.client_name%TYPE, date) IS
    'A client''s meetings up to a day (today in UTC, unless given): held ever, held within the 90 days before, the last one, '
    'and the next one planned';

CREATE FUNCTION public.client_actions(
    client_name public.nps_clients.client_name%TYPE,
    today date DEFAULT (now() AT TIME ZONE 'UTC')::date
)
RETURNS TABLE (open_actions bigint, overdue_actions bigint, completed_actions bigint)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT
        count(*) FILTER (WHERE public.action_is_open(action."Status")),
        count(*) FILTER (
            WHERE public.action_is_open(action."Status") AND action."Due_Date"::date < client_actions.today
        ),
        count(*) FILTER (WHERE public.action_is_completed(action."Status"))
    FROM public.actions AS action
    WHERE action."Client" = client_actions.client_name;
END;

COMMENT ON FUNCTION public.client_actions(public.nps_clients.client_name%TYPE, date) IS
    'A client''s actions: open, open and due before a day (today in UTC, unless given), and completed';

CREATE FUNCTION public.client_compliance(
    client_name public.nps_clients.client_name%TYPE,
    up_to_year integer DEFAULT extract(year FROM now() AT TIME ZONE 'UTC')::integer
)
RETURNS TABLE (year integer, event_types bigint, percentage numeric)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT
        max(record.year)::integer,
        count(*),
        avg(least(greatest(record.compliance_percentage::numeric, 0), 100))
    FROM public.segmentation_event_compliance AS record
    WHERE record.client_name = client_compliance.client_name
        AND record.compliance_percentage IS NOT NULL
        AND record.year = (
            SELECT max(latest.year)
            FROM public.segmentation_event_compliance AS latest
            WHERE latest.client_name = client_compliance.client_name
                AND latest.compliance_percentage IS NOT NULL
                AND latest.year <= client_compliance.up_to_year
        );
END;

COMMENT ON FUNCTION public.client_compliance(public.nps_clients.client_name%TYPE, integer) IS
    'A client''s assessed compliance in the latest year, up to the one given or this one, that has records: the year, its '
    'event types, and their mean percentage, each counting for 100 at most';

-- The steps are used once each, so that the planner merges them into the query.
CREATE FUNCTION public.client_event_types(
    client_name public.nps_clients.client_name%TYPE,
    segment public.nps_clients.segment%TYPE,
    year integer
)
RETURNS TABLE (
    event_type_id public.tier_event_requirements.event_type_id%TYPE, event_name text,
    expected_count integer, actual_count integer, percentage numeric, status text
)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
BEGIN ATOMIC
    WITH client_tiers AS (
        SELECT tier.id AS tier_id
        FROM public.segmentation_tiers AS tier
        WHERE tier.tier_name = client_event_types.segment
        ORDER BY tier.id
        LIMIT 1
    ),
    tier_requirements AS (
        SELECT requirement.event_type_id, type.event_name, requirement.expected_count::integer AS expected_count
        FROM client_tiers
        JOIN public.tier_event_requirements AS requirement USING (tier_id)
        JOIN public.segmentation_event_types AS type ON type.id = requirement.event_type_id
        WHERE requirement.expected_count > 0
    ),
    event_counts AS (
        SELECT e.event_type_id, count(*)::integer AS actual_count
        FROM public.segmentation_events AS e
        WHERE e.client_name = client_event_types.client_name
            AND e.event_year = client_event_types.year
            AND e.completed
        GROUP BY e.event_type_id
    ),
    event_type_compliance AS (
        SELECT
            event_type_id,
            tier_requirements.event_name,
            tier_requirements.expected_count,
            coalesce(event_counts.actual_count, 0) AS actual_count,
            public.compliance_percentage(coalesce(event_counts.actual_count, 0), tier_requirements.expected_count)
                AS percentage
        FROM tier_requirements
        FULL JOIN event_counts USING (event_type_id)
    )
    SELECT
        c.event_type_id, c.event_name, c.expected_count, c.actual_count, c.percentage,
        public.compliance_status(c.percentage)
    FROM event_type_compliance AS c;
END;

COMMENT ON FUNCTION public.client_event_types(
    public.nps_clients.client_name%TYPE, public.nps_clients.segment%TYPE, integer
) IS
    'For a client of a segment and a year, a row for each event type that the segment''s tier is owed, with the events owed '
    'and held; and one for each other type of which events were held, with neither name nor expected_count';

-- migrate: rollback

DROP FUNCTION IF EXISTS public.client_event_types(
    public.nps_clients.client_name%TYPE, public.nps_clients.segment%TYPE, integer
);
DROP FUNCTION IF EXISTS public.client_compliance(public.nps_clients.client_name%TYPE, integer);
DROP FUNCTION IF EXISTS public.client_actions(public.nps_clients.client_name%TYPE, date);
DROP FUNCTION IF EXISTS public.client_meetings(public.nps_clients.client_name%TYPE, date);
DROP FUNCTION IF EXISTS public.client_nps(public.nps_clients.client_name%TYPE, date, date);
