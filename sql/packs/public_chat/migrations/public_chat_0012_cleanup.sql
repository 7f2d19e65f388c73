-- Conversations that are over are deleted; those that became reservations are reduced to figures after ninety days
-- depends: public_chat_0011_data_migration

-- migrate: apply

-- Without the conversation and without the cookie: what is kept counts, and says nothing of anybody.
CREATE TABLE public.prospective_sessions_archive (
    session_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES public.tenant_registry (tenant_id) ON DELETE CASCADE,
    reservation_id uuid,
    travel_intent jsonb NOT NULL,
    utm_tracking jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    conversion_date timestamptz NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.prospective_sessions_archive IS
    'Sessions that became reservations, ninety days and more after that: intent and origin, no conversation and no cookie';

CREATE INDEX idx_prospective_sessions_archive_tenant
    ON public.prospective_sessions_archive (tenant_id, conversion_date DESC);

CREATE TABLE public.prospective_sessions_cleanups (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    ran_at timestamptz NOT NULL DEFAULT now(),
    expired_deleted bigint NOT NULL,
    converted_archived bigint NOT NULL,
    milliseconds double precision NOT NULL
);

COMMENT ON TABLE public.prospective_sessions_cleanups IS 'What each clean-up did; those of the last year';

ALTER TABLE public.prospective_sessions_archive ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.prospective_sessions_cleanups ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.prospective_sessions_archive, public.prospective_sessions_cleanups
    FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.prospective_sessions_archive TO authenticated, service_role;
GRANT SELECT ON public.prospective_sessions_cleanups TO service_role;

CREATE POLICY prospective_sessions_archive_staff ON public.prospective_sessions_archive
FOR SELECT TO authenticated USING (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY prospective_sessions_archive_service ON public.prospective_sessions_archive
FOR SELECT TO service_role USING (true);

CREATE POLICY prospective_sessions_cleanups_service ON public.prospective_sessions_cleanups
FOR SELECT TO service_role USING (true);

-- converted_after NULL leaves converted sessions as they are.
CREATE FUNCTION public.cleanup_expired_sessions(
    converted_after interval DEFAULT '90 days',
    OUT expired_deleted bigint,
    OUT converted_archived bigint,
    OUT milliseconds double precision
) RETURNS record
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began constant timestamptz := clock_timestamp();
BEGIN
    IF converted_after < interval '0' THEN
        RAISE EXCEPTION 'sessions cannot be archived before they are converted'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Give an interval such as 90 days, or NULL for never.';
    END IF;
    DELETE FROM public.prospective_sessions AS s WHERE s.status = 'active' AND s.expires_at < now();
    GET DIAGNOSTICS expired_deleted = ROW_COUNT;

    WITH gone AS (
        DELETE FROM public.prospective_sessions AS s
        WHERE s.status = 'converted' AND s.conversion_date < now() - converted_after
        RETURNING s.*
    )
    INSERT INTO public.prospective_sessions_archive (
        session_id, tenant_id, reservation_id, travel_intent, utm_tracking, created_at, conversion_date
    )
    SELECT g.session_id, g.tenant_id, g.converted_to_reservation_id, g.travel_intent, g.utm_tracking, g.created_at, g.conversion_date
    FROM gone AS g;
    GET DIAGNOSTICS converted_archived = ROW_COUNT;

    milliseconds := extract(epoch FROM clock_timestamp() - began) * 1000;
    DELETE FROM public.prospective_sessions_cleanups AS c WHERE c.ran_at < now() - interval '1 year';
    INSERT INTO public.prospective_sessions_cleanups (expired_deleted, converted_archived, milliseconds)
    VALUES (expired_deleted, converted_archived, milliseconds);
    RAISE LOG 'public_chat: % expired sessions deleted, % converted ones archived', expired_deleted, converted_archived;
END
$$;

COMMENT ON FUNCTION public.cleanup_expired_sessions(interval) IS
    'Deletes active sessions whose time is over, archives those converted so long ago, and notes how many';

REVOKE ALL ON FUNCTION public.cleanup_expired_sessions(interval) FROM PUBLIC, anon, authenticated;

-- migrate: rollback

DROP FUNCTION public.cleanup_expired_sessions(interval);
DROP TABLE public.prospective_sessions_cleanups;
DROP TABLE public.prospective_sessions_archive;
