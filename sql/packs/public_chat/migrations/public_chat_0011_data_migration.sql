-- The data migration: units as the house keeps them are put into their public form
-- depends: public_chat_0010_conversion

-- migrate: apply

-- Embeddings are not made here: a unit whose text is new or has changed gets both soon after, from the service, or by
-- `afresh embed`.

CREATE FUNCTION public.accommodation_short_description(description text, longest integer DEFAULT 150) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN char_length(flat.text) <= longest THEN flat.text
        -- The longest beginning that ends before a blank and leaves room for the dots; a word longer than all is cut.
        ELSE coalesce(
            regexp_replace(substring(left(flat.text, longest) FROM '^(.*\S)\s'), '[[:space:],;:.–-]+$', ''),
            left(flat.text, longest - 1)
        ) || '…'
    END
    FROM (SELECT btrim(regexp_replace(description, '\s+', ' ', 'g')) AS text) AS flat
$$;

COMMENT ON FUNCTION public.accommodation_short_description(text, integer) IS
    'A text in at most so many characters, cut after a word';

-- A list of names out of a list of texts, or of the keys of an object that are true, a number above 0 or a text. What is
-- neither list nor object is an error, and so is an item that is no text.
CREATE FUNCTION public.accommodation_names(given jsonb, what text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF given IS NULL OR jsonb_typeof(given) = 'null' THEN
        RETURN '{}';
    ELSIF jsonb_typeof(given) = 'object' THEN
        RETURN coalesce((
            SELECT array_agg(
                replace(entry.key, '_', ' ')
                || CASE WHEN jsonb_typeof(entry.value) = 'string' THEN ': ' || (entry.value #>> '{}') ELSE '' END
                ORDER BY entry.key COLLATE "C"
            )
            FROM jsonb_each(given) AS entry
            WHERE entry.value = 'true' OR jsonb_typeof(entry.value) = 'string'
                OR jsonb_typeof(entry.value) = 'number' AND entry.value > '0'
        ), '{}');
    ELSIF jsonb_typeof(given) <> 'array' THEN
        RAISE EXCEPTION '% is a %, and should be a list or an object', what, jsonb_typeof(given)
            USING ERRCODE = 'data_exception';
    ELSIF EXISTS (SELECT FROM jsonb_array_elements(given) AS item WHERE jsonb_typeof(item) <> 'string') THEN
        RAISE EXCEPTION '% has an item that is no text', what USING ERRCODE = 'data_exception';
    END IF;
    RETURN coalesce((
        SELECT array_agg(btrim(item.value) ORDER BY item.place)
        FROM jsonb_array_elements_text(given) WITH ORDINALITY AS item (value, place)
        WHERE btrim(item.value) <> ''
    ), '{}');
END
$$;

COMMENT ON FUNCTION public.accommodation_names(jsonb, text) IS
    'Names out of a list of texts or an object of names and whether; anything else is an error that says what it was';

-- Badges, six at the most: what the house calls unique, the view, then amenities that visitors ask for by name, then size.
CREATE FUNCTION public.accommodation_highlights(unit public.accommodation_units) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(badge.text ORDER BY badge.place), '{}')
    FROM (
        SELECT min(listed.text) AS text, min(listed.place) AS place
        FROM (
            SELECT feature.name AS text, feature.place
            FROM unnest(public.accommodation_names(unit.unique_features, 'unique_features'))
                WITH ORDINALITY AS feature (name, place)
            UNION ALL
            SELECT initcap(left(unit.view_type, 1)) || substr(unit.view_type, 2) || ' view', 1000
            WHERE btrim(unit.view_type) NOT IN ('', 'none') AND unit.view_type !~* '\mview'
            UNION ALL
            SELECT initcap(left(amenity.name, 1)) || substr(amenity.name, 2), 2000 + amenity.place
            FROM unnest(public.accommodation_names(unit.amenities, 'amenities')) WITH ORDINALITY AS amenity (name, place)
            WHERE public.public_chat_preferences(public.public_chat_plain(amenity.name))
                && ARRAY['pool', 'jacuzzi', 'balcony', 'terrace', 'kitchen', 'sea_view', 'mountain_view', 'garden', 'fireplace',
                         'spa', 'barbecue', 'beach', 'breakfast', 'pets']
            UNION ALL
            SELECT 'Sleeps ' || unit.capacity, 3000 WHERE unit.capacity >= 4
        ) AS listed
        GROUP BY lower(listed.text)
        ORDER BY place
        LIMIT 6
    ) AS badge
$$;

COMMENT ON FUNCTION public.accommodation_highlights(public.accommodation_units) IS 'Six badges at the most for a unit';

CREATE FUNCTION public.accommodation_amenities(unit public.accommodation_units) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'capacity', unit.capacity, 'bedrooms', unit.bedrooms, 'bathrooms', trim_scale(unit.bathrooms), 'beds', unit.beds,
        'size_m2', trim_scale(unit.size_m2), 'floor', unit.floor_number, 'view', nullif(btrim(unit.view_type), ''),
        'features', to_jsonb(public.accommodation_names(unit.amenities, 'amenities'))
    ))
$$;

COMMENT ON FUNCTION public.accommodation_amenities(public.accommodation_units) IS
    'A unit''s figures and features in the structure of its public form';

CREATE FUNCTION public.accommodation_photos(photos jsonb, unit_name text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF photos IS NULL OR jsonb_typeof(photos) = 'null' THEN
        RETURN '[]';
    ELSIF jsonb_typeof(photos) <> 'array' THEN
        RAISE EXCEPTION 'photos is a %, and should be a list', jsonb_typeof(photos) USING ERRCODE = 'data_exception';
    END IF;
    RETURN (
        SELECT coalesce(jsonb_agg(
            jsonb_build_object(
                'url', photo.url, 'alt', photo.alt, 'order', photo.place, 'is_primary', photo.place = 1
            ) ORDER BY photo.place
        ), '[]')
        FROM (
            SELECT
                shown.url,
                coalesce(shown.alt, unit_name) AS alt,
                row_number() OVER (ORDER BY shown.is_primary DESC, shown.rank NULLS LAST, shown.place) AS place
            FROM (
                SELECT
                    nullif(btrim(CASE jsonb_typeof(item.value)
                        WHEN 'string' THEN item.value #>> '{}'
                        WHEN 'object' THEN coalesce(item.value ->> 'url', item.value ->> 'src')
                    END), '') AS url,
                    nullif(btrim(coalesce(item.value ->> 'alt', item.value ->> 'caption', item.value ->> 'title')), '') AS alt,
                    coalesce(item.value -> 'is_primary' = 'true', false) AS is_primary,
                    CASE
                        WHEN jsonb_typeof(item.value -> 'order') = 'number' THEN (item.value ->> 'order')::numeric
                        WHEN jsonb_typeof(item.value -> 'position') = 'number' THEN (item.value ->> 'position')::numeric
                    END AS rank,
                    item.place
                FROM jsonb_array_elements(photos) WITH ORDINALITY AS item (value, place)
            ) AS shown
            WHERE shown.url IS NOT NULL
        ) AS photo
    );
END
$$;

COMMENT ON FUNCTION public.accommodation_photos(jsonb, text) IS
    'A gallery of {"url", "alt", "order", "is_primary"} out of addresses or objects in whatever form; pictures without an address are left out';

CREATE FUNCTION public.accommodation_pricing(unit public.accommodation_units) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF unit.seasonal_rates IS NOT NULL AND jsonb_typeof(unit.seasonal_rates) NOT IN ('array', 'null') THEN
        RAISE EXCEPTION 'seasonal_rates is a %, and should be a list', jsonb_typeof(unit.seasonal_rates)
            USING ERRCODE = 'data_exception';
    ELSIF EXISTS (
        SELECT
        FROM jsonb_array_elements(CASE WHEN jsonb_typeof(unit.seasonal_rates) = 'array' THEN unit.seasonal_rates ELSE '[]' END)
            AS season
        WHERE public.public_chat_date(season ->> 'from') IS NULL OR public.public_chat_date(season ->> 'to') IS NULL
            OR jsonb_typeof(season -> 'price_night') IS DISTINCT FROM 'number'
    ) THEN
        RAISE EXCEPTION 'a seasonal rate lacks a date (2026-07-01) in from or to, or a number in price_night'
            USING ERRCODE = 'data_exception';
    END IF;
    RETURN jsonb_build_object(
        'currency', unit.currency, 'base_price_night', trim_scale(unit.base_price_night),
        'seasonal', CASE WHEN jsonb_typeof(unit.seasonal_rates) = 'array' THEN unit.seasonal_rates ELSE '[]' END
    );
END
$$;

COMMENT ON FUNCTION public.accommodation_pricing(public.accommodation_units) IS
    'A unit''s prices in the structure of its public form';

-- What the migration did with each unit the last time, and why not. The digests tell whether the source has changed since,
-- and whether somebody has edited the public form by hand.
CREATE TABLE public.accommodation_unit_migrations (
    source_unit_id uuid PRIMARY KEY REFERENCES public.accommodation_units (id) ON DELETE CASCADE,
    outcome text NOT NULL CHECK (outcome IN ('added', 'updated', 'unchanged', 'kept', 'withdrawn', 'failed')),
    error text,
    source_digest text,
    public_digest text,
    migrated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.accommodation_unit_migrations IS
    'What the data migration did with each unit last, and the error where it failed';

ALTER TABLE public.accommodation_unit_migrations ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.accommodation_unit_migrations FROM PUBLIC, anon, authenticated, service_role;
GRANT SELECT ON public.accommodation_unit_migrations TO authenticated, service_role;

CREATE POLICY accommodation_unit_migrations_staff ON public.accommodation_unit_migrations
FOR SELECT TO authenticated USING (
    EXISTS (SELECT FROM public.accommodation_units AS u WHERE u.id = source_unit_id)
);

CREATE POLICY accommodation_unit_migrations_service ON public.accommodation_unit_migrations
FOR SELECT TO service_role USING (true);

CREATE FUNCTION public.accommodation_public_digest(unit public.accommodation_units_public) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT md5(jsonb_build_array(
        unit.name, unit.unit_number, unit.unit_type, unit.description, unit.short_description, to_jsonb(unit.highlights),
        unit.amenities, unit.pricing, unit.photos, unit.virtual_tour_url
    )::text)
$$;

COMMENT ON FUNCTION public.accommodation_public_digest(public.accommodation_units_public) IS
    'A digest of what the data migration writes of a unit';

-- Idempotent: a unit whose source has not changed is passed over, so it may be run at any time and as often as one
-- likes, and where it was stopped it goes on. Each unit by itself: what is wrong with one is reported in its row, and the
-- others go on. What the staff has changed in the public form is theirs: such a unit is 'kept', unless `overwrite` is
-- asked for. A price that only the public form has (prices are often entered there, by hand) stays. A unit that is not
-- active any more at its source is 'withdrawn' from the public; one that is active again comes back.
CREATE FUNCTION public.migrate_accommodation_units_public(
    house uuid DEFAULT NULL,
    most integer DEFAULT NULL,
    overwrite boolean DEFAULT false
)
RETURNS TABLE (unit_id uuid, tenant_id uuid, name text, outcome text, error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    unit public.accommodation_units;
    shown public.accommodation_units_public;
    was public.accommodation_unit_migrations;
    source_now text;
    plain_description text;
    new_pricing jsonb;
    done integer := 0;
    worked boolean;
BEGIN
    FOR unit IN
        SELECT u.*
        FROM public.accommodation_units AS u
        WHERE house IS NULL OR u.tenant_id = house
        ORDER BY u.created_at, u.id
    LOOP
        EXIT WHEN done >= most;
        SELECT m.* INTO was FROM public.accommodation_unit_migrations AS m WHERE m.source_unit_id = unit.id;
        SELECT p.* INTO shown FROM public.accommodation_units_public AS p WHERE p.source_unit_id = unit.id;
        source_now := md5((to_jsonb(unit) - ARRAY['created_at', 'updated_at'])::text);
        error := NULL;
        worked := true;
        BEGIN
            IF unit.status <> 'active' THEN
                IF shown.id IS NOT NULL AND shown.is_active THEN
                    UPDATE public.accommodation_units_public AS p SET is_active = false WHERE p.id = shown.id;
                    outcome := 'withdrawn';
                ELSE
                    worked := false;
                END IF;
            ELSIF shown.id IS NOT NULL AND was.source_digest = source_now AND NOT overwrite THEN
                outcome := 'unchanged';
                worked := false;
            ELSIF shown.id IS NOT NULL AND NOT overwrite
                AND was.public_digest IS DISTINCT FROM public.accommodation_public_digest(shown)
            THEN
                UPDATE public.accommodation_units_public AS p SET is_active = true
                WHERE p.id = shown.id AND was.outcome = 'withdrawn' AND NOT p.is_active;
                outcome := 'kept';
            ELSE
                plain_description := btrim(regexp_replace(
                    regexp_replace(unit.description, '<[^<>]*>', ' ', 'g'), '\s+', ' ', 'g'
                ));
                IF btrim(unit.name) = '' THEN
                    RAISE EXCEPTION 'it has no name' USING ERRCODE = 'data_exception';
                ELSIF coalesce(plain_description, '') = '' THEN
                    RAISE EXCEPTION 'it has no description' USING ERRCODE = 'data_exception';
                ELSIF unit.capacity <= 0 OR unit.bedrooms < 0 OR unit.bathrooms < 0 OR unit.base_price_night < 0 THEN
                    RAISE EXCEPTION 'a capacity, a number of rooms or a price is negative or nought'
                        USING ERRCODE = 'data_exception';
                END IF;
                new_pricing := public.accommodation_pricing(unit);
                IF unit.base_price_night IS NULL AND jsonb_typeof(shown.pricing -> 'base_price_night') = 'number' THEN
                    new_pricing := shown.pricing;
                END IF;
                outcome := CASE WHEN shown.id IS NULL THEN 'added' ELSE 'updated' END;
                INSERT INTO public.accommodation_units_public AS p (
                    tenant_id, source_unit_id, name, unit_number, unit_type, description, short_description, highlights,
                    amenities, pricing, photos, virtual_tour_url, metadata, created_at
                )
                VALUES (
                    unit.tenant_id, unit.id, btrim(unit.name), unit.unit_number, unit.unit_type, plain_description,
                    public.accommodation_short_description(plain_description), public.accommodation_highlights(unit),
                    public.accommodation_amenities(unit), new_pricing,
                    public.accommodation_photos(unit.photos, btrim(unit.name)), nullif(btrim(unit.virtual_tour_url), ''),
                    jsonb_build_object('source', jsonb_build_object(
                        'table', 'accommodation_units', 'unit_id', unit.id, 'unit_number', unit.unit_number
                    ), 'is_featured', unit.is_featured),
                    unit.created_at
                )
                ON CONFLICT (source_unit_id) DO UPDATE SET
                    tenant_id = excluded.tenant_id, name = excluded.name, unit_number = excluded.unit_number,
                    unit_type = excluded.unit_type, description = excluded.description,
                    short_description = excluded.short_description, highlights = excluded.highlights,
                    amenities = excluded.amenities, pricing = excluded.pricing, photos = excluded.photos,
                    virtual_tour_url = excluded.virtual_tour_url, metadata = p.metadata || excluded.metadata,
                    is_active = p.is_active OR was.outcome = 'withdrawn'
                RETURNING p.* INTO shown;
            END IF;
        -- Whatever is wrong with this unit's data; not a deadlock, a cancelled statement or a full disk.
        EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
            outcome := 'failed';
            error := SQLERRM;
            RAISE WARNING 'unit % (%) was left out: %', unit.id, unit.name, SQLERRM;
        END;
        IF worked THEN
            INSERT INTO public.accommodation_unit_migrations AS m (source_unit_id, outcome, error, source_digest, public_digest)
            VALUES (
                unit.id, outcome, error,
                CASE WHEN outcome <> 'failed' THEN source_now END,
                CASE WHEN outcome IN ('added', 'updated') THEN public.accommodation_public_digest(shown) END
            )
            ON CONFLICT (source_unit_id) DO UPDATE SET
                outcome = excluded.outcome,
                error = excluded.error,
                -- A withdrawn unit is looked at afresh when it is active again.
                source_digest = CASE WHEN excluded.outcome = 'withdrawn' THEN NULL ELSE excluded.source_digest END,
                public_digest = coalesce(excluded.public_digest, m.public_digest),
                migrated_at = now();
            done := done + 1;
        END IF;
        IF worked OR outcome = 'unchanged' AND unit.status = 'active' THEN
            unit_id := shown.id;
            tenant_id := unit.tenant_id;
            name := unit.name;
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

COMMENT ON FUNCTION public.migrate_accommodation_units_public(uuid, integer, boolean) IS
    'Puts the active units of accommodation_units into their public form, all or one house''s, so many at the most; a row says what became of each: added, updated, unchanged, kept, withdrawn or failed';

REVOKE ALL ON FUNCTION public.migrate_accommodation_units_public(uuid, integer, boolean) FROM PUBLIC, anon, authenticated;

-- migrate: rollback

DROP FUNCTION public.migrate_accommodation_units_public(uuid, integer, boolean);
DROP FUNCTION public.accommodation_public_digest(public.accommodation_units_public);
DROP TABLE public.accommodation_unit_migrations;
DROP FUNCTION public.accommodation_pricing(public.accommodation_units);
DROP FUNCTION public.accommodation_photos(jsonb, text);
DROP FUNCTION public.accommodation_amenities(public.accommodation_units);
DROP FUNCTION public.accommodation_highlights(public.accommodation_units);
DROP FUNCTION public.accommodation_names(jsonb, text);
DROP FUNCTION public.accommodation_short_description(text, integer);
