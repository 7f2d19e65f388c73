-- public_chat_funnel: for each house, how conversations become reservations
-- depends: public_chat_0012_cleanup

-- migrate: apply

-- Of the sessions that are still there: expired ones are deleted at night, and those converted more than ninety days ago
-- are counted in the archive. The view reads no clock.
CREATE VIEW public.public_chat_funnel_live AS
SELECT
    house.tenant_id,
    house.name AS tenant_name,
    house.is_active,
    units.public::integer AS public_units,
    units.bookable::integer AS bookable_units,
    units.embedded::integer AS units_with_embeddings,
    sessions.all::integer AS sessions,
    sessions.active::integer AS active_sessions,
    sessions.with_dates::integer AS sessions_with_dates,
    sessions.with_guests::integer AS sessions_with_guests,
    sessions.converted::integer AS converted_sessions,
    archived.all::integer AS archived_sessions,
    round(100.0 * sessions.converted / nullif(sessions.all, 0), 2)::numeric(5, 2) AS conversion_rate,
    sessions.last_activity_at
FROM public.tenant_registry AS house
CROSS JOIN LATERAL (
    SELECT
        count(*) AS public,
        count(*) FILTER (WHERE u.is_active AND u.is_bookable) AS bookable,
        count(u.embedding_fast) AS embedded
    FROM public.accommodation_units_public AS u
    WHERE u.tenant_id = house.tenant_id
) AS units
CROSS JOIN LATERAL (
    SELECT
        count(*) AS all,
        count(*) FILTER (WHERE s.status = 'active') AS active,
        count(*) FILTER (WHERE s.status = 'converted') AS converted,
        count(*) FILTER (WHERE s.travel_intent ? 'check_in') AS with_dates,
        count(*) FILTER (WHERE s.travel_intent ? 'guests') AS with_guests,
        max(s.last_activity_at) AS last_activity_at
    FROM public.prospective_sessions AS s
    WHERE s.tenant_id = house.tenant_id
) AS sessions
CROSS JOIN LATERAL (
    SELECT count(*) AS all FROM public.prospective_sessions_archive AS a WHERE a.tenant_id = house.tenant_id
) AS archived;

COMMENT ON VIEW public.public_chat_funnel_live IS 'What public_chat_funnel holds, computed now';

CREATE MATERIALIZED VIEW public.public_chat_funnel AS SELECT * FROM public.public_chat_funnel_live;

CREATE UNIQUE INDEX idx_public_chat_funnel_tenant ON public.public_chat_funnel (tenant_id);

COMMENT ON MATERIALIZED VIEW public.public_chat_funnel IS
    'For each house: units, sessions and how many of them became reservations';

-- Materialized views know no policies: the houses' figures are for the operator alone.
REVOKE ALL ON public.public_chat_funnel, public.public_chat_funnel_live FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.public_chat_funnel, public.public_chat_funnel_live TO service_role;

-- migrate: rollback

DROP MATERIALIZED VIEW public.public_chat_funnel;
DROP VIEW public.public_chat_funnel_live;
