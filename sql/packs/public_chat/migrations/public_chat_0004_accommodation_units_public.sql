-- accommodation_units_public: units as the public sees them, with two embeddings and their indexes
-- depends: public_chat_0003_language

-- migrate: apply

-- The extension may be in a schema of its own; until the end of this migration its types are found there too.
SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), quote_ident(n.nspname)), true)
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- The names in a list of features, whatever else somebody has put there.
CREATE FUNCTION public.accommodation_feature_names(amenities jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT string_agg(item.value #>> '{}', ', ' ORDER BY item.place)
    FROM jsonb_array_elements(
        CASE WHEN jsonb_typeof(amenities -> 'features') = 'array' THEN amenities -> 'features' ELSE '[]' END
    ) WITH ORDINALITY AS item (value, place)
    WHERE jsonb_typeof(item.value) = 'string'
$$;

COMMENT ON FUNCTION public.accommodation_feature_names(jsonb) IS 'The features named in a unit''s amenities, as one text';

CREATE FUNCTION public.accommodation_content(
    name text, unit_type text, short_description text, description text, highlights text[], amenities jsonb
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(
        E'\n',
        name || ' (' || replace(unit_type, '_', ' ') || ')',
        description,
        CASE WHEN strpos(description, rtrim(short_description, '…')) = 0 THEN short_description END,
        nullif(array_to_string(highlights, ', '), ''),
        public.accommodation_feature_names(amenities),
        CASE WHEN jsonb_typeof(amenities -> 'capacity') = 'number'
            THEN 'For up to ' || (amenities ->> 'capacity') || ' guests' END,
        CASE WHEN jsonb_typeof(amenities -> 'bedrooms') = 'number' THEN (amenities ->> 'bedrooms') || ' bedrooms' END
    )
$$;

COMMENT ON FUNCTION public.accommodation_content(text, text, text, text, text[], jsonb) IS
    'All that a unit says of itself, as the one text from which its embeddings are made';

CREATE TABLE public.accommodation_units_public (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES public.tenant_registry (tenant_id) ON DELETE CASCADE,
    source_unit_id uuid UNIQUE REFERENCES public.accommodation_units (id) ON DELETE SET NULL,
    name text NOT NULL CHECK (btrim(name) <> ''),
    unit_number text,
    unit_type text NOT NULL,
    description text NOT NULL CHECK (btrim(description) <> ''),
    short_description text NOT NULL CHECK (char_length(short_description) <= 150),
    highlights text[] NOT NULL DEFAULT '{}',
    amenities jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(amenities) = 'object'),
    pricing jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(pricing) = 'object'),
    photos jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(photos) = 'array'),
    virtual_tour_url text,
    content text GENERATED ALWAYS AS (
        public.accommodation_content(name, unit_type, short_description, description, highlights, amenities)
    ) STORED,
    features text[] GENERATED ALWAYS AS (
        public.public_chat_preferences(public.public_chat_plain(
            public.accommodation_content(name, unit_type, short_description, description, highlights, amenities)
        ))
    ) STORED,
    capacity integer GENERATED ALWAYS AS (public.public_chat_whole_number(amenities -> 'capacity', 1)) STORED,
    embedding_fast vector(1024),
    embedding_full vector(3072),
    is_active boolean NOT NULL DEFAULT true,
    is_bookable boolean NOT NULL DEFAULT true,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT accommodation_units_public_price_check CHECK (
        pricing -> 'base_price_night' IS NULL
        OR jsonb_typeof(pricing -> 'base_price_night') = 'null'
        OR jsonb_typeof(pricing -> 'base_price_night') = 'number' AND (pricing ->> 'base_price_night')::numeric >= 0
    )
);

COMMENT ON TABLE public.accommodation_units_public IS
    'Units as the public sees them: what a visitor is told, shown and quoted, and what the search looks through';
COMMENT ON COLUMN public.accommodation_units_public.source_unit_id IS
    'The unit in accommodation_units from which this was made; NULL: written by hand';
COMMENT ON COLUMN public.accommodation_units_public.short_description IS 'One line for a card, 150 characters at the most';
COMMENT ON COLUMN public.accommodation_units_public.highlights IS 'Key features, as badges';
COMMENT ON COLUMN public.accommodation_units_public.amenities IS
    '{"bedrooms", "bathrooms", "capacity", "beds", "size_m2", "floor", "view", "features": […]}';
COMMENT ON COLUMN public.accommodation_units_public.pricing IS
    '{"currency", "base_price_night", "seasonal": [{"name", "from", "to", "price_night"}]}; dates as 2026-07-01, both included';
COMMENT ON COLUMN public.accommodation_units_public.photos IS
    '[{"url", "alt", "order", "is_primary"}] in their order';
COMMENT ON COLUMN public.accommodation_units_public.content IS 'The text from which both embeddings are made';
COMMENT ON COLUMN public.accommodation_units_public.features IS
    'What the text offers, in the words of the vocabulary: sea_view, pool, …';
COMMENT ON COLUMN public.accommodation_units_public.capacity IS
    'For how many guests, as amenities say; NULL: not said, and taken to be enough';
COMMENT ON COLUMN public.accommodation_units_public.embedding_fast IS
    'The embedding of content, its first 1,024 dimensions: what the chat searches';
COMMENT ON COLUMN public.accommodation_units_public.embedding_full IS
    'The embedding of content, all 3,072 dimensions: kept for whoever needs to compare more finely';
COMMENT ON COLUMN public.accommodation_units_public.is_bookable IS 'False: shown to nobody in the chat, though still offered elsewhere';
COMMENT ON COLUMN public.accommodation_units_public.metadata IS
    'Whatever else; "source" says from which unit the data migration made it';

CREATE INDEX idx_accommodation_public_tenant ON public.accommodation_units_public (tenant_id) WHERE is_active;
-- With the tenant first: nobody asks for a type across houses, and a tenant's rows are found by it whether active or not.
CREATE INDEX idx_accommodation_public_type ON public.accommodation_units_public (tenant_id, unit_type);
CREATE INDEX idx_accommodation_public_embedding_fast_hnsw
    ON public.accommodation_units_public USING hnsw (embedding_fast vector_cosine_ops);

CREATE FUNCTION public.update_accommodation_units_public_updated_at() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION public.update_accommodation_units_public_updated_at() IS
    'Sets updated_at of a unit whenever it is updated';

CREATE TRIGGER trigger_accommodation_units_public_updated_at
BEFORE UPDATE ON public.accommodation_units_public
FOR EACH ROW EXECUTE FUNCTION public.update_accommodation_units_public_updated_at();

-- migrate: rollback

DROP TABLE public.accommodation_units_public;
DROP FUNCTION public.update_accommodation_units_public_updated_at();
DROP FUNCTION public.accommodation_content(text, text, text, text, text[], jsonb);
DROP FUNCTION public.accommodation_feature_names(jsonb);
