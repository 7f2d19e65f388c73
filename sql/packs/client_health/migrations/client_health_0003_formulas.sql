-- The formulas of client health and event compliance, each a function that the views and ad-hoc queries share
-- depends: client_health_0002_foreign_keys

-- migrate: apply

-- They read no table and no clock, so the same arguments give the same answer for ever. Each body is one expression
-- that PostgreSQL puts in the place of the call, and a call in a view costs what the expression written there would:
-- for that they are in SQL and not in PL/pgSQL, are not STRICT, and carry no SET. The bodies are kept parsed, so no
-- search path has a say in them.
--
-- Nothing is rounded until it is shown: parts go into the score as they are, and what is not yet compliant must not
-- be rounded up to 100. Scores are the two that are shown, and they are rounded to two decimals.

CREATE FUNCTION public.nps_score(promoters bigint, detractors bigint, responses bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 100.0 * (promoters - detractors) / nullif(responses, 0);

COMMENT ON FUNCTION public.nps_score(bigint, bigint, bigint) IS
    'NPS, -100 to 100, of so many promoters (9 and 10), detractors (0 to 6) and responses in all; NULL without responses';

-- An action without a status is open.
CREATE FUNCTION public.action_is_open(status text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(lower(status), '') NOT IN ('completed', 'done', 'closed', 'cancelled', 'canceled');

COMMENT ON FUNCTION public.action_is_open(text) IS
    'Whether an action of this status is still to be done: neither completed nor cancelled';

CREATE FUNCTION public.action_is_completed(status text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(lower(status), '') IN ('completed', 'done', 'closed');

COMMENT ON FUNCTION public.action_is_completed(text) IS
    'Whether an action of this status has been done; one that is cancelled is neither done nor open';

CREATE FUNCTION public.client_health_nps_part(nps numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((nps + 100) / 2, 50);

COMMENT ON FUNCTION public.client_health_nps_part(numeric) IS
    'The NPS part of the health score, 0 to 100: (NPS + 100) / 2, and 50 without an NPS';

CREATE FUNCTION public.client_health_engagement_part(held bigint, held_lately bigint, days_since_last integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN held = 0 THEN 50
    ELSE (
        least(greatest(120 - days_since_last, 0), 90) * 100.0 / 90
        + least(held_lately, 3) * 100.0 / 3
    ) / 2
END;

COMMENT ON FUNCTION public.client_health_engagement_part(bigint, bigint, integer) IS
    'The engagement part, 0 to 100, of so many meetings held, so many of them within 90 days, and the days since the '
    'last: the mean of recency (100 up to 30 days, 0 from 120 days on) and frequency (a third of 100 for each of up to '
    'three meetings within 90 days); 50 if none was ever held';

CREATE FUNCTION public.client_health_compliance_part(percentage numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(percentage, 50);

COMMENT ON FUNCTION public.client_health_compliance_part(numeric) IS
    'The compliance part, 0 to 100: the mean percentage as it is, and 50 without any record';

CREATE FUNCTION public.client_health_actions_part(open_actions bigint, overdue_actions bigint, completed_actions bigint)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN open_actions > 0 THEN 100.0 * (open_actions - overdue_actions) / open_actions
    WHEN completed_actions > 0 THEN 100
    ELSE 50
END;

COMMENT ON FUNCTION public.client_health_actions_part(bigint, bigint, bigint) IS
    'The actions part, 0 to 100: the share of open actions that are not overdue; 100 if all are completed, 50 without any';

CREATE FUNCTION public.client_health_score(
    nps_part numeric, engagement_part numeric, compliance_part numeric, actions_part numeric
)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(0.25 * nps_part + 0.25 * engagement_part + 0.30 * compliance_part + 0.20 * actions_part, 2);

COMMENT ON FUNCTION public.client_health_score(numeric, numeric, numeric, numeric) IS
    'The health score, 0 to 100, of its four parts: NPS 25 %, engagement 25 %, compliance 30 %, actions 20 %; rounded to '
    'two decimals';

CREATE FUNCTION public.client_health_status(health_score numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN health_score >= 70 THEN 'healthy'
    WHEN health_score >= 50 THEN 'at-risk'
    WHEN health_score < 50 THEN 'critical'
END;

COMMENT ON FUNCTION public.client_health_status(numeric) IS
    'healthy from 70 on, at-risk from 50 on, critical below: of the score as it is shown';

-- An expected_count of 0 is the same as no requirement.
CREATE FUNCTION public.compliance_percentage(actual_count bigint, expected_count bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 100.0 * actual_count / nullif(expected_count, 0);

COMMENT ON FUNCTION public.compliance_percentage(bigint, bigint) IS
    'Events held, in per cent of the events owed, not rounded; NULL where nothing is owed';

CREATE FUNCTION public.compliance_status(percentage numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN percentage IS NULL THEN 'not-required'
    WHEN percentage < 50 THEN 'critical'
    WHEN percentage < 100 THEN 'at-risk'
    WHEN percentage = 100 THEN 'compliant'
    ELSE 'exceeded'
END;

COMMENT ON FUNCTION public.compliance_status(numeric) IS
    'critical below 50, at-risk below 100, compliant at exactly 100, exceeded above, not-required for NULL: of one event '
    'type''s percentage as of an overall score';

CREATE FUNCTION public.overall_compliance_score(compliant_event_types bigint, event_types bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(compliant_event_types::numeric / nullif(event_types, 0) * 100, 2);

COMMENT ON FUNCTION public.overall_compliance_score(bigint, bigint) IS
    'The percentage, to two decimals, of the event types owed that reach 100 %; NULL where none is owed';

-- migrate: rollback

-- Without CASCADE, here and in what follows: what somebody else built on a function is named in the error, not dropped
-- with it.
DROP FUNCTION IF EXISTS public.overall_compliance_score(bigint, bigint);
DROP FUNCTION IF EXISTS public.compliance_status(numeric);
DROP FUNCTION IF EXISTS public.compliance_percentage(bigint, bigint);
DROP FUNCTION IF EXISTS public.client_health_status(numeric);
DROP FUNCTION IF EXISTS public.client_health_score(numeric, numeric, numeric, numeric);
DROP FUNCTION IF EXISTS public.client_health_actions_part(bigint, bigint, bigint);
DROP FUNCTION IF EXISTS public.client_health_compliance_part(numeric);
DROP FUNCTION IF EXISTS public.client_health_engagement_part(bigint, bigint, integer);
DROP FUNCTION IF EXISTS public.client_health_nps_part(numeric);
DROP FUNCTION IF EXISTS public.action_is_completed(text);
DROP FUNCTION IF EXISTS public.action_is_open(text);
DROP FUNCTION IF EXISTS public.nps_score(bigint, bigint, bigint);
