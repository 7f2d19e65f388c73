-- The summaries for who has logged in: a materialized view knows no policies, so he reads a view that asks who he is
-- depends: client_health_0008_row_security

-- migrate: apply

-- The views read the summaries with their owner's rights, which who asks has not got. Whose client a row is about is
-- asked of nps_clients and not of the summary: a client who was given to somebody else is out of sight at once, and not
-- only after the next refresh. As security barriers they let no function of who asks see a row that is not for him.
CREATE VIEW public.my_client_health WITH (security_barrier = true) AS
SELECT summary.*
FROM public.client_health_summary AS summary
WHERE (SELECT public.client_health_sees_all())
    OR summary.client_name IN (
        SELECT client.client_name
        FROM public.nps_clients AS client
        WHERE client.cse = (SELECT public.client_health_own_cse())
    );

COMMENT ON VIEW public.my_client_health IS
    'client_health_summary, of the clients whom who asks may see: all for a manager, his own for a CSE';

CREATE VIEW public.my_event_compliance WITH (security_barrier = true) AS
SELECT summary.*
FROM public.event_compliance_summary AS summary
WHERE (SELECT public.client_health_sees_all())
    OR summary.client_name IN (
        SELECT client.client_name
        FROM public.nps_clients AS client
        WHERE client.cse = (SELECT public.client_health_own_cse())
    );

COMMENT ON VIEW public.my_event_compliance IS
    'event_compliance_summary, of the clients whom who asks may see: all for a manager, his own for a CSE';

REVOKE ALL ON public.my_client_health, public.my_event_compliance FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.my_client_health, public.my_event_compliance TO authenticated;

-- Some hosts give whatever is made in public to everybody.
REVOKE ALL ON
    public.client_health_summary, public.client_health_summary_live,
    public.event_compliance_summary, public.event_compliance_summary_live
FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON
    public.client_health_summary, public.client_health_summary_live,
    public.event_compliance_summary, public.event_compliance_summary_live
TO service_role;

-- The figures in the live views are read with the caller's rights, since functions are. From PostgreSQL 15 on the views
-- can do the same with the list of clients; before, who is granted a live view sees every client there, with the
-- figures of those records alone that he may read.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW public.client_health_summary_live SET (security_invoker = true);
        ALTER VIEW public.event_compliance_summary_live SET (security_invoker = true);
    END IF;
END
$$;

-- migrate: rollback

DROP VIEW IF EXISTS public.my_event_compliance;
DROP VIEW IF EXISTS public.my_client_health;

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        ALTER VIEW IF EXISTS public.client_health_summary_live RESET (security_invoker);
        ALTER VIEW IF EXISTS public.event_compliance_summary_live RESET (security_invoker);
    END IF;
END
$$;
