-- The houses (tenants) and their accommodation units, from which the public form is made
-- depends: public_chat_0001_prerequisites

-- migrate: apply

CREATE TABLE public.tenant_registry (
    tenant_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
    name text NOT NULL CHECK (btrim(name) <> ''),
    timezone text NOT NULL DEFAULT 'UTC' CHECK ((timestamptz '2000-01-01 00:00:00Z' AT TIME ZONE timezone) IS NOT NULL),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.tenant_registry IS 'The houses that share this database, one row for each tenant';
COMMENT ON COLUMN public.tenant_registry.timezone IS 'Where the house is (Europe/Madrid): says what "tomorrow" means to its visitors';
COMMENT ON COLUMN public.tenant_registry.is_active IS 'False: the public chat knows the house no more';

CREATE TABLE public.accommodation_units (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES public.tenant_registry (tenant_id) ON DELETE CASCADE,
    name text NOT NULL,
    unit_number text,
    unit_type text NOT NULL DEFAULT 'room',
    description text,
    capacity integer,
    bedrooms integer,
    bathrooms numeric(3, 1),
    beds jsonb,
    size_m2 numeric(7, 2),
    floor_number integer,
    view_type text,
    unique_features jsonb,
    amenities jsonb,
    photos jsonb,
    virtual_tour_url text,
    base_price_night numeric(12, 2),
    currency text NOT NULL DEFAULT 'USD',
    seasonal_rates jsonb,
    is_featured boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'maintenance', 'inactive')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id)
);

COMMENT ON TABLE public.accommodation_units IS
    'Units as the house keeps them for itself: the source of what is shown in public, as loosely filled in as such tables are';
COMMENT ON COLUMN public.accommodation_units.amenities IS
    'A list of names, or an object of names and whether (or which); both are understood';
COMMENT ON COLUMN public.accommodation_units.photos IS
    'A list of addresses, or of objects with url (or src), caption (or alt, title) and order; both are understood';
COMMENT ON COLUMN public.accommodation_units.seasonal_rates IS
    'A list of {"name", "from", "to", "price_night"}; dates as 2026-07-01, both included';

CREATE TABLE public.guest_reservations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES public.tenant_registry (tenant_id) ON DELETE CASCADE,
    accommodation_unit_id uuid,
    public_unit_id uuid,
    reservation_code text NOT NULL UNIQUE DEFAULT 'R-' || upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)),
    guest_name text,
    guest_email text CHECK (guest_email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    guest_phone text,
    check_in_date date NOT NULL,
    check_out_date date NOT NULL,
    adults integer NOT NULL DEFAULT 1 CHECK (adults BETWEEN 1 AND 50),
    children integer NOT NULL DEFAULT 0 CHECK (children BETWEEN 0 AND 50),
    total_price numeric(12, 2) CHECK (total_price >= 0),
    currency text,
    preferences jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(preferences) = 'array'),
    source text NOT NULL DEFAULT 'public_chat',
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'confirmed', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, id),
    CONSTRAINT guest_reservations_dates_check CHECK (check_out_date > check_in_date),
    -- Both columns together, so that no reservation names a unit of another house.
    CONSTRAINT guest_reservations_unit_fkey FOREIGN KEY (tenant_id, accommodation_unit_id)
        REFERENCES public.accommodation_units (tenant_id, id)
);

COMMENT ON TABLE public.guest_reservations IS 'Reservations; a chat that led to one is linked from prospective_sessions';
COMMENT ON COLUMN public.guest_reservations.guest_name IS
    'Whoever asked; a chat may be converted before the visitor has said, the staff then asks';
COMMENT ON COLUMN public.guest_reservations.public_unit_id IS
    'The unit as the visitor saw it; no foreign key, since the public form may be made anew at any time';
COMMENT ON COLUMN public.guest_reservations.status IS 'pending: asked for in the chat and to be confirmed by the staff';

CREATE INDEX idx_guest_reservations_unit ON public.guest_reservations (tenant_id, accommodation_unit_id);

-- migrate: rollback

DROP TABLE public.guest_reservations;
DROP TABLE public.accommodation_units;
DROP TABLE public.tenant_registry;
