-- client_health_summary: one row of health figures for each client, with its five indexes
-- depends: client_health_0004_figures

-- migrate: apply

-- The definition, once: the figures and formulas are functions, which PostgreSQL puts in the place of their calls. The
-- figures are LATERAL, so that a condition on client_name reaches every base table by its index. OFFSET 0 keeps the
-- planner from writing the day and the parts out wherever they are used, where they would be computed anew each time
-- (a refresh takes a seventh longer then, and the status is a function's call for each client).
--
-- "Today" is the date in UTC, whatever the session's time zone. The view reads no finer clock than that: with
-- unchanged data it gives identical rows all day long, and a concurrent refresh then rewrites none. Midnight changes
-- rows without any table's changing, which is why the pack asks for a refresh by time (`every`) beside those by
-- change.
--
-- health_score = 0.25 * NPS + 0.25 * engagement + 0.30 * compliance + 0.20 * actions, each part from 0 to 100, the
-- sum of the unrounded parts rounded to two decimals. A part without data is 50: it speaks neither for the client nor
-- against him, the scores of all clients stay comparable, and the first good record raises a score where the first
-- bad one lowers it.
--
--   NPS         (NPS + 100) / 2, where NPS = 100 * (promoters - detractors) / responses over the last 365 days;
--               promoters gave 9 or 10, passives 7 or 8, detractors 6 or less. No response in that time: 50.
--   engagement  the mean of recency and frequency of the meetings held (dated today or earlier). Recency: 100 up to
--               30 days after the last meeting, 0 from 120 days on, straight in between. Frequency: 100 for three
--               meetings or more within the last 90 days, one third of it for each. No meeting ever held: 50.
--   compliance  the mean compliance_percentage over the client's event types in the latest year, up to this one, that
--               has records; each counts for no more than 100, so that a surplus of one type hides no lack of
--               another. No record: 50.
--   actions     the share of open actions that are not overdue. An action is completed where its status is Completed,
--               Done or Closed, left out where it is Cancelled (or Canceled), and open otherwise; open ones are
--               overdue from the day after their due date. All completed: 100. No action at all: 50.
--
-- status: healthy from 70, at-risk from 50, critical below, by the health_score as it is shown.
CREATE VIEW public.client_health_summary_live AS
SELECT
    client.id AS client_id,
    client.client_name,
    client.segment,
    client.cse,
    round(nps.score, 2)::numeric(5, 2) AS nps_score,
    nps.promoters::integer AS promoters,
    nps.passives::integer AS passives,
    nps.detractors::integer AS detractors,
    nps.responses::integer AS response_count,
    nps.responses_ever::integer AS response_count_ever,
    nps.last_response_date,
    meetings.held::integer AS meeting_count,
    meetings.held_lately::integer AS meeting_count_90_days,
    meetings.last_meeting_date,
    (clock.today - meetings.last_meeting_date) AS days_since_last_meeting,
    meetings.next_meeting_date,
    actions.open_actions::integer AS open_actions,
    actions.overdue_actions::integer AS overdue_actions,
    actions.completed_actions::integer AS completed_actions,
    compliance.year AS compliance_year,
    compliance.event_types::integer AS compliance_event_types,
    round(compliance.percentage, 2)::numeric(5, 2) AS compliance_percentage,
    round(part.nps, 2)::numeric(5, 2) AS nps_score_part,
    round(part.engagement, 2)::numeric(5, 2) AS engagement_part,
    round(part.compliance, 2)::numeric(5, 2) AS compliance_part,
    round(part.actions, 2)::numeric(5, 2) AS actions_part,
    health.score AS health_score,
    public.client_health_status(health.score) AS status,
    greatest(nps.last_response_date, meetings.last_meeting_date) AS last_contact_date,
    client.created_at,
    client.updated_at
FROM public.nps_clients AS client
CROSS JOIN (SELECT (now() AT TIME ZONE 'UTC')::date AS today OFFSET 0) AS clock
CROSS JOIN LATERAL public.client_nps(client.client_name, clock.today - 364, NULL) AS nps
CROSS JOIN LATERAL public.client_meetings(client.client_name, clock.today) AS meetings
CROSS JOIN LATERAL public.client_actions(client.client_name, clock.today) AS actions
CROSS JOIN LATERAL public.client_compliance(client.client_name, extract(year FROM clock.today)::integer) AS compliance
CROSS JOIN LATERAL (
    SELECT
        public.client_health_nps_part(nps.score) AS nps,
        public.client_health_engagement_part(
            meetings.held, meetings.held_lately, clock.today - meetings.last_meeting_date
        ) AS engagement,
        public.client_health_compliance_part(compliance.percentage) AS compliance,
        public.client_health_actions_part(actions.open_actions, actions.overdue_actions, actions.completed_actions)
            AS actions
    OFFSET 0
) AS part
CROSS JOIN LATERAL (
    SELECT
        public.client_health_score(part.nps, part.engagement, part.compliance, part.actions)::numeric(5, 2) AS score
    OFFSET 0
) AS health
WHERE client.client_name IS NOT NULL;

COMMENT ON VIEW public.client_health_summary_live IS
    'What client_health_summary holds, computed at the moment of asking';

CREATE MATERIALIZED VIEW public.client_health_summary AS
SELECT * FROM public.client_health_summary_live;

COMMENT ON MATERIALIZED VIEW public.client_health_summary IS
    'Health of each client, 0 to 100: NPS 25 %, engagement 25 %, compliance 30 %, actions 20 %';

CREATE UNIQUE INDEX idx_client_health_client_name ON public.client_health_summary (client_name);
CREATE INDEX idx_client_health_segment ON public.client_health_summary (segment);
CREATE INDEX idx_client_health_cse ON public.client_health_summary (cse);
CREATE INDEX idx_client_health_status ON public.client_health_summary (status);
CREATE INDEX idx_client_health_score ON public.client_health_summary (health_score DESC);

-- migrate: rollback

-- Without CASCADE: a view or function of somebody else's that reads the summary is named in the error, not dropped
-- with it.
DROP MATERIALIZED VIEW IF EXISTS public.client_health_summary;
DROP VIEW IF EXISTS public.client_health_summary_live;
