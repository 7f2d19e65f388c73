-- Who sees and writes what: row-level security for visitors, a house's staff, and servers
-- depends: public_chat_0005_prospective_sessions

-- migrate: apply

-- The tenant in the request's token, as PostgREST and Supabase hand it on; NULL, which equals no tenant, where there is
-- none, or no uuid, or no JSON at all: such a request sees nothing, and is no error. (An exception handler cannot run in
-- a parallel plan, hence PARALLEL UNSAFE.)
CREATE FUNCTION public.public_chat_tenant_id() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id')::uuid;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION public.public_chat_tenant_id() IS
    'The tenant of the request''s token (request.jwt.claims); NULL where it names none';

CREATE FUNCTION public.public_chat_cookie_id() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT nullif(current_setting('request.cookie_id', true), '') $$;

COMMENT ON FUNCTION public.public_chat_cookie_id() IS 'The visitor''s cookie (request.cookie_id); NULL where there is none';

-- A visitor may not read the registry; that a house takes part, its name and its date he may know.
CREATE FUNCTION public.public_chat_house(house uuid, OUT name text, OUT today date) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.name, (now() AT TIME ZONE t.timezone)::date
    FROM public.tenant_registry AS t
    WHERE t.tenant_id = house AND t.is_active
$$;

COMMENT ON FUNCTION public.public_chat_house(uuid) IS
    'The name of a house and the date there; no row where it takes no part in the public chat';

REVOKE ALL ON FUNCTION public.public_chat_house(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.public_chat_house(uuid) TO anon, authenticated, service_role;

-- Privileges are given, never assumed: where a database hands new tables to these roles by default, that is taken back
-- first (TRUNCATE, above all, asks no policy).
REVOKE ALL ON public.tenant_registry, public.accommodation_units, public.guest_reservations,
    public.accommodation_units_public, public.prospective_sessions FROM PUBLIC, anon, authenticated, service_role;

GRANT SELECT ON public.tenant_registry TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.accommodation_units, public.guest_reservations,
    public.accommodation_units_public, public.prospective_sessions TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.tenant_registry, public.accommodation_units, public.guest_reservations,
    public.accommodation_units_public, public.prospective_sessions TO service_role;

-- A visitor reads units without their bookkeeping, and of his session writes what he says: whose it is, its status, its
-- end and its reservation are not his to set.
GRANT SELECT ON public.accommodation_units_public TO anon;
GRANT SELECT ON public.prospective_sessions TO anon;
GRANT INSERT (tenant_id, cookie_id, conversation_history, travel_intent, utm_tracking) ON public.prospective_sessions TO anon;
GRANT UPDATE (conversation_history, travel_intent, utm_tracking) ON public.prospective_sessions TO anon;

ALTER TABLE public.tenant_registry ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.accommodation_units ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.guest_reservations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.accommodation_units_public ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.prospective_sessions ENABLE ROW LEVEL SECURITY;

-- The functions stand in subqueries, so that each is asked once a statement and not once a row.

CREATE POLICY prospective_sessions_visitor_read ON public.prospective_sessions
FOR SELECT TO anon USING (cookie_id = (SELECT public.public_chat_cookie_id()));

CREATE POLICY prospective_sessions_visitor_begin ON public.prospective_sessions
FOR INSERT TO anon WITH CHECK (
    cookie_id = (SELECT public.public_chat_cookie_id())
    AND status = 'active'
    AND EXISTS (SELECT FROM public.public_chat_house(tenant_id))
);

CREATE POLICY prospective_sessions_visitor_continue ON public.prospective_sessions
FOR UPDATE TO anon
USING (cookie_id = (SELECT public.public_chat_cookie_id()) AND status = 'active')
WITH CHECK (cookie_id = (SELECT public.public_chat_cookie_id()) AND status = 'active');

CREATE POLICY prospective_sessions_staff ON public.prospective_sessions
FOR ALL TO authenticated
USING (tenant_id = (SELECT public.public_chat_tenant_id()))
WITH CHECK (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY prospective_sessions_service ON public.prospective_sessions
FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY accommodation_units_public_visitor_read ON public.accommodation_units_public
FOR SELECT TO anon USING (is_active AND is_bookable);

CREATE POLICY accommodation_units_public_staff ON public.accommodation_units_public
FOR ALL TO authenticated
USING (tenant_id = (SELECT public.public_chat_tenant_id()))
WITH CHECK (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY accommodation_units_public_service ON public.accommodation_units_public
FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY tenant_registry_staff ON public.tenant_registry
FOR SELECT TO authenticated USING (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY tenant_registry_service ON public.tenant_registry
FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY accommodation_units_staff ON public.accommodation_units
FOR ALL TO authenticated
USING (tenant_id = (SELECT public.public_chat_tenant_id()))
WITH CHECK (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY accommodation_units_service ON public.accommodation_units
FOR ALL TO service_role USING (true) WITH CHECK (true);

CREATE POLICY guest_reservations_staff ON public.guest_reservations
FOR ALL TO authenticated
USING (tenant_id = (SELECT public.public_chat_tenant_id()))
WITH CHECK (tenant_id = (SELECT public.public_chat_tenant_id()));

CREATE POLICY guest_reservations_service ON public.guest_reservations
FOR ALL TO service_role USING (true) WITH CHECK (true);

-- migrate: rollback

DROP POLICY guest_reservations_service ON public.guest_reservations;
DROP POLICY guest_reservations_staff ON public.guest_reservations;
DROP POLICY accommodation_units_service ON public.accommodation_units;
DROP POLICY accommodation_units_staff ON public.accommodation_units;
DROP POLICY tenant_registry_service ON public.tenant_registry;
DROP POLICY tenant_registry_staff ON public.tenant_registry;
DROP POLICY accommodation_units_public_service ON public.accommodation_units_public;
DROP POLICY accommodation_units_public_staff ON public.accommodation_units_public;
DROP POLICY accommodation_units_public_visitor_read ON public.accommodation_units_public;
DROP POLICY prospective_sessions_service ON public.prospective_sessions;
DROP POLICY prospective_sessions_staff ON public.prospective_sessions;
DROP POLICY prospective_sessions_visitor_continue ON public.prospective_sessions;
DROP POLICY prospective_sessions_visitor_begin ON public.prospective_sessions;
DROP POLICY prospective_sessions_visitor_read ON public.prospective_sessions;
ALTER TABLE public.prospective_sessions DISABLE ROW LEVEL SECURITY;
ALTER TABLE public.accommodation_units_public DISABLE ROW LEVEL SECURITY;
ALTER TABLE public.guest_reservations DISABLE ROW LEVEL SECURITY;
ALTER TABLE public.accommodation_units DISABLE ROW LEVEL SECURITY;
ALTER TABLE public.tenant_registry DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.tenant_registry, public.accommodation_units, public.guest_reservations,
    public.accommodation_units_public, public.prospective_sessions FROM anon, authenticated, service_role;
DROP FUNCTION public.public_chat_house(uuid);
DROP FUNCTION public.public_chat_cookie_id();
DROP FUNCTION public.public_chat_tenant_id();
