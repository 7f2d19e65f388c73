-- match_accommodations_public: the bookable units of one house that are nearest to an embedding
-- depends: public_chat_0006_policies

-- migrate: apply

SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- Two ways lead to the nearest units of one house among all houses' units. The index over all embeddings has to be walked
-- until match_count of them are this house's, about match_count * all / own; comparing every unit of the house takes
-- `own` comparisons, and always finds them all. So houses with own * own <= match_count * all are compared unit by unit,
-- whatever the statistics say of them, and the others by the index. Where the index gives fewer than match_count (it stops
-- after hnsw.max_scan_tuples, and before pgvector 0.8 after hnsw.ef_search), all units of the house are compared after all.
-- Units that the index has not (without an embedding, or with one of zeros) have no similarity, and are never in the answer.
--
-- SECURITY DEFINER, so that a visitor's search runs on the table and its indexes rather than through the policies; what it
-- gives out is what the policies let anybody see: active and bookable units of the house that is asked about.
CREATE FUNCTION public.match_accommodations_public(
    query_embedding vector(1024),
    p_tenant_id uuid,
    match_threshold double precision DEFAULT 0.3,
    match_count integer DEFAULT 4
)
RETURNS TABLE (
    id uuid,
    content text,
    similarity double precision,
    source_file text,
    pricing jsonb,
    photos jsonb,
    metadata jsonb
)
LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL SAFE ROWS 4
SET search_path = pg_catalog, pg_temp
SET enable_sort = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    most constant integer := 100;
    wanted integer := least(greatest(coalesce(match_count, 4), 0), most);
    all_units double precision;
    few integer;
    own_units integer;
    nearest uuid[];
BEGIN
    IF query_embedding IS NULL OR p_tenant_id IS NULL OR wanted = 0 THEN
        RETURN;
    END IF;

    SELECT greatest(c.reltuples, 0) INTO all_units
    FROM pg_catalog.pg_class AS c WHERE c.oid = 'public.accommodation_units_public'::regclass;
    few := ceil(sqrt(wanted * greatest(all_units, 1000)));
    SELECT count(*) INTO own_units FROM (
        SELECT FROM public.accommodation_units_public AS u WHERE u.tenant_id = p_tenant_id AND u.is_active LIMIT few + 1
    ) AS counted;

    IF own_units > few THEN
        SELECT array_agg(found.id) INTO nearest FROM (
            SELECT u.id
            FROM public.accommodation_units_public AS u
            WHERE u.tenant_id = p_tenant_id AND u.is_active AND u.is_bookable
            ORDER BY u.embedding_fast <=> query_embedding
            LIMIT wanted
        ) AS found;
    END IF;
    IF nearest IS NULL OR cardinality(nearest) < wanted THEN
        -- Plus nothing: an expression that the index cannot order by.
        SELECT array_agg(found.id) INTO nearest FROM (
            SELECT u.id
            FROM public.accommodation_units_public AS u
            WHERE u.tenant_id = p_tenant_id AND u.is_active AND u.is_bookable AND u.embedding_fast IS NOT NULL
            ORDER BY (u.embedding_fast <=> query_embedding) + 0
            LIMIT wanted
        ) AS found;
    END IF;

    RETURN QUERY
    SELECT
        u.id,
        u.content,
        1 - d.distance,
        coalesce('accommodation_units/' || u.source_unit_id::text, 'accommodation_units_public/' || u.id::text),
        u.pricing,
        u.photos,
        u.metadata || jsonb_build_object(
            'name', u.name, 'unit_number', u.unit_number, 'unit_type', u.unit_type,
            'short_description', u.short_description, 'highlights', to_jsonb(u.highlights), 'amenities', u.amenities,
            'features', to_jsonb(u.features), 'virtual_tour_url', u.virtual_tour_url
        )
    FROM public.accommodation_units_public AS u
    CROSS JOIN LATERAL (SELECT (u.embedding_fast <=> query_embedding) + 0 AS distance) AS d
    WHERE u.id = ANY (nearest)
        -- Written so that the distance from a vector of zeros, which is no number, is never near enough.
        AND d.distance < 1 - coalesce(match_threshold, 0.3)
    ORDER BY d.distance, u.id;
END
$$;

-- The function's search path has the extension's schema in it. Settings of the index that this version of pgvector knows
-- are the function's too: it goes on looking until enough of what it finds passes the conditions, in nearly the right
-- order, which the function puts right itself. (The cast loads the extension's library, without which its settings are
-- not known.)
DO $$
BEGIN
    PERFORM '[1]'::vector;
    EXECUTE format(
        'ALTER FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer) '
        'SET search_path = pg_catalog, %I, pg_temp',
        (SELECT n.nspname FROM pg_catalog.pg_extension AS e
         JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector')
    );
    ALTER FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer) SET hnsw.ef_search = 100;
    IF current_setting('hnsw.iterative_scan', true) IS NOT NULL THEN
        ALTER FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer)
            SET hnsw.iterative_scan = relaxed_order;
    END IF;
END
$$;

COMMENT ON FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer) IS
    'The active, bookable units of one tenant whose embedding is nearest to the one given, by cosine similarity above the threshold; 100 at the most';

REVOKE ALL ON FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer)
    TO anon, authenticated, service_role;

-- migrate: rollback

SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

DROP FUNCTION public.match_accommodations_public(vector, uuid, double precision, integer);
