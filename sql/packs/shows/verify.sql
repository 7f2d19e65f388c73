-- Is the pack shows in place and right? One row for each check.
--
-- What can be missing is asked for by ts_stat, a function of every PostgreSQL that takes a statement as text and hands back the
-- words in its answer: so a view or a function that is not there, or has other columns, makes its own checks fail, and not this
-- whole query. Whether the materialized overview equals the live one can be wrong for a moment while a change is being
-- refreshed: look again after that.
WITH relations (relation, kind, columns) AS (
    VALUES
        ('customers_htx', 'table',
            'id uuid (not null), source_id text (not null), first_name text, last_name text, email text, mobile '
            || 'text, payload jsonb (not null), ingested_at timestamp with time zone (not null)'),
        ('event_applications', 'table',
            'id uuid (not null), event_id uuid (not null), profile_id uuid, status text (not null), applied_at '
            || 'timestamp with time zone (not null), updated_at timestamp with time zone (not null)'),
        ('event_spots', 'table',
            'id uuid (not null), event_id uuid (not null), spot_name text, position integer (not null), '
            || 'duration_minutes integer, performer_id uuid, status text (not null), created_at timestamp with time '
            || 'zone (not null), updated_at timestamp with time zone (not null)'),
        ('events', 'table',
            'id uuid (not null), name text, source text, source_session_id text, source_key text (generated), '
            || 'event_date date, start_time time without time zone, end_time time without time zone, timezone text, '
            || 'time_zone text (generated), session_start_local timestamp without time zone (generated), '
            || 'session_end_local timestamp without time zone (generated), session_start timestamp with time zone '
            || '(generated), session_end timestamp with time zone (generated), venue_id uuid, promoter_id uuid, '
            || 'status text, event_url text, banner_url text, banner_metadata jsonb, spots integer, is_recurring '
            || 'boolean (not null), recurrence_pattern text, series_id uuid, created_at timestamp with time zone '
            || '(not null), updated_at timestamp with time zone (not null)'),
        ('events_htx', 'table',
            'id uuid (not null), source_id text (not null), name text, organiser_name text, status text, timezone '
            || 'text, url text, banner_url text, payload jsonb (not null), currency text (generated), ingested_at '
            || 'timestamp with time zone (not null)'),
        ('orders_eventbrite', 'table',
            'id uuid (not null), source_id text (not null), session_source_id text, status text, first_name text, '
            || 'last_name text, ordered_at timestamp with time zone, payload jsonb (not null), is_counted boolean '
            || '(generated), currency text (generated), gross_cents bigint (generated), fees_cents bigint '
            || '(generated), tax_cents bigint (generated), has_discounts boolean (generated), has_problem boolean '
            || '(generated), ingested_at timestamp with time zone (not null)'),
        ('orders_htx', 'table',
            'id uuid (not null), source_id text (not null), session_source_id text, event_source_id text, '
            || 'customer_source_id text, status text, first_name text, last_name text, ordered_at timestamp with '
            || 'time zone, payload jsonb (not null), is_counted boolean (generated), currency text (generated), '
            || 'gross_cents bigint (generated), fees_cents bigint (generated), tax_cents bigint (generated), '
            || 'has_discounts boolean (generated), has_problem boolean (generated), ingested_at timestamp with time '
            || 'zone (not null)'),
        ('profiles', 'table',
            'id uuid (not null), name text (not null), stage_name text, avatar_url text, bio text, instagram '
            || 'text, created_at timestamp with time zone (not null), updated_at timestamp with time zone (not null)'),
        ('session_sources', 'table',
            'canonical_source text (not null), canonical_session_source_id text (not null), source text (not '
            || 'null), source_session_id text (not null), stable_session_id text (generated), source_key text '
            || '(generated), is_canonical boolean (generated), source_event_id text, event_name text, session_name '
            || 'text, session_start timestamp with time zone, session_end timestamp with time zone, timezone text, '
            || 'time_zone text (generated), session_start_local timestamp without time zone (generated), '
            || 'session_end_local timestamp without time zone (generated), venue_id uuid, event_url text, banner_url '
            || 'text, updated_at timestamp with time zone (not null)'),
        ('sessions_htx', 'table',
            'id uuid (not null), source_id text (not null), stable_session_id text (generated), event_source_id '
            || 'text (not null), name text, status text, start_date timestamp with time zone (not null), end_date '
            || 'timestamp with time zone, timezone text, time_zone text (generated), session_start_local timestamp '
            || 'without time zone (generated), session_end_local timestamp without time zone (generated), venue_id '
            || 'uuid, payload jsonb (not null), ingested_at timestamp with time zone (not null)'),
        ('tickets_eventbrite', 'table',
            'id uuid (not null), source_id text (not null), order_source_id text, session_source_id text, '
            || 'ticket_type text, status text, is_cancelled boolean (not null), is_refunded boolean (not null), '
            || 'payload jsonb (not null), is_counted boolean (generated), has_discounts boolean (generated), '
            || 'ingested_at timestamp with time zone (not null)'),
        ('tickets_htx', 'table',
            'id uuid (not null), source_id text (not null), order_source_id text, session_source_id text, '
            || 'event_source_id text, ticket_type text, status text, first_name text, last_name text, payload jsonb '
            || '(not null), is_counted boolean (generated), price_cents bigint (generated), has_discounts boolean '
            || '(generated), ingested_at timestamp with time zone (not null)'),
        ('venues', 'table',
            'id uuid (not null), name text (not null), address text, city text, state text, country text, '
            || 'postcode text, lat double precision, lng double precision, created_at timestamp with time zone (not '
            || 'null), updated_at timestamp with time zone (not null)'),
        ('canonical_sessions', 'view',
            'stable_session_id text, canonical_source text, canonical_session_source_id text, session_id uuid, '
            || 'event_source text, event_source_id text, event_name text, session_name text, status text, '
            || 'session_start timestamp with time zone, session_end timestamp with time zone, time_zone text, '
            || 'session_start_local timestamp without time zone, session_end_local timestamp without time zone, '
            || 'venue_id uuid, event_url text, banner_url text, humanitix_session_ids text[], eventbrite_session_ids '
            || 'text[], source_keys text[]'),
        ('event_sessions_overview_mv_live', 'view',
            'stable_session_id text, stable_event_id text, session_id uuid, event_id uuid, crm_event_id uuid, '
            || 'canonical_source text, canonical_session_source_id text, provider text, is_eventbrite_only boolean, '
            || 'event_name text, session_name text, session_status text, promoter_id uuid, promoter_name text, '
            || 'is_recurring boolean, recurrence jsonb, session_start timestamp with time zone, session_end '
            || 'timestamp with time zone, timezone text, session_start_local timestamp without time zone, '
            || 'session_end_local timestamp without time zone, session_date date, start_time time without time zone, '
            || 'end_time time without time zone, venue_id uuid, venue_name text, venue_address text, venue_city '
            || 'text, venue_state text, venue_lat double precision, venue_lng double precision, event_url text, '
            || 'banner_url text, banner_metadata jsonb, currency text, humanitix_orders bigint, humanitix_tickets '
            || 'bigint, humanitix_gross numeric, humanitix_net numeric, humanitix_fees numeric, humanitix_tax '
            || 'numeric, eventbrite_orders bigint, eventbrite_tickets bigint, eventbrite_gross numeric, '
            || 'eventbrite_net numeric, eventbrite_fees numeric, eventbrite_tax numeric, total_orders bigint, '
            || 'total_tickets bigint, total_gross numeric, total_net numeric, total_fees numeric, total_tax numeric, '
            || 'other_currency_orders bigint, unreadable_orders bigint, discounts jsonb, sample_customers jsonb, '
            || 'application_count bigint, pending_application_count bigint, accepted_application_count bigint, '
            || 'spot_count bigint, confirmed_spot_count bigint, waitlist_count bigint, available_spots bigint, '
            || 'lineup jsonb, waitlist jsonb'),
        ('event_sessions_overview_v', 'view',
            'stable_session_id text, stable_event_id text, session_id uuid, event_id uuid, crm_event_id uuid, '
            || 'canonical_source text, canonical_session_source_id text, provider text, is_eventbrite_only boolean, '
            || 'event_name text, session_name text, session_status text, promoter_id uuid, promoter_name text, '
            || 'is_recurring boolean, recurrence jsonb, session_start timestamp with time zone, session_end '
            || 'timestamp with time zone, timezone text, session_start_local timestamp without time zone, '
            || 'session_end_local timestamp without time zone, session_date date, start_time time without time zone, '
            || 'end_time time without time zone, venue_id uuid, venue_name text, venue_address text, venue_city '
            || 'text, venue_state text, venue_lat double precision, venue_lng double precision, event_url text, '
            || 'banner_url text, banner_metadata jsonb, currency text, humanitix_orders bigint, humanitix_tickets '
            || 'bigint, humanitix_gross numeric, humanitix_net numeric, humanitix_fees numeric, humanitix_tax '
            || 'numeric, eventbrite_orders bigint, eventbrite_tickets bigint, eventbrite_gross numeric, '
            || 'eventbrite_net numeric, eventbrite_fees numeric, eventbrite_tax numeric, total_orders bigint, '
            || 'total_tickets bigint, total_gross numeric, total_net numeric, total_fees numeric, total_tax numeric, '
            || 'other_currency_orders bigint, unreadable_orders bigint, discounts jsonb, sample_customers jsonb, '
            || 'application_count bigint, pending_application_count bigint, accepted_application_count bigint, '
            || 'spot_count bigint, confirmed_spot_count bigint, waitlist_count bigint, available_spots bigint, '
            || 'lineup jsonb, waitlist jsonb, refreshed_at timestamp with time zone'),
        ('events_htx_view', 'view',
            'event_id uuid, source_id text, name text, organiser_name text, status text, time_zone text, currency '
            || 'text, url text, banner_url text, banner_metadata jsonb, recurrence jsonb, venue_name text, '
            || 'venue_address text, venue_city text, venue_state text, venue_lat double precision, venue_lng double '
            || 'precision'),
        ('orders_htx_view', 'view',
            'order_id uuid, source_id text, session_source_id text, event_source_id text, customer_source_id '
            || 'text, first_name text, last_name text, status text, is_counted boolean, ordered_at timestamp with '
            || 'time zone, currency text, gross_cents bigint, fees_cents bigint, tax_cents bigint, net_cents bigint, '
            || 'has_discounts boolean, has_problem boolean, payload jsonb'),
        ('session_financials', 'view',
            'stable_session_id text, canonical_source text, canonical_session_source_id text, session_id uuid, '
            || 'session_start_local timestamp without time zone, currency text, humanitix_orders bigint, '
            || 'humanitix_tickets bigint, humanitix_gross numeric, humanitix_net numeric, humanitix_fees numeric, '
            || 'humanitix_tax numeric, eventbrite_orders bigint, eventbrite_tickets bigint, eventbrite_gross '
            || 'numeric, eventbrite_net numeric, eventbrite_fees numeric, eventbrite_tax numeric, total_orders '
            || 'bigint, total_tickets bigint, total_gross numeric, total_net numeric, total_fees numeric, total_tax '
            || 'numeric, other_currency_orders bigint, unreadable_orders bigint'),
        ('session_financials_agg', 'view',
            'stable_session_id text, canonical_source text, canonical_session_source_id text, session_id uuid, '
            || 'session_start_local timestamp without time zone, currency text, humanitix_orders bigint, '
            || 'humanitix_tickets bigint, humanitix_gross_cents bigint, humanitix_net_cents bigint, '
            || 'humanitix_fees_cents bigint, humanitix_tax_cents bigint, eventbrite_orders bigint, '
            || 'eventbrite_tickets bigint, eventbrite_gross_cents bigint, eventbrite_net_cents bigint, '
            || 'eventbrite_fees_cents bigint, eventbrite_tax_cents bigint, total_orders bigint, total_tickets '
            || 'bigint, total_gross_cents bigint, total_net_cents bigint, total_fees_cents bigint, total_tax_cents '
            || 'bigint, other_currency_orders bigint, unreadable_orders bigint'),
        ('session_totals', 'view',
            'stable_session_id text, canonical_source text, canonical_session_source_id text, session_id uuid, '
            || 'event_source text, event_source_id text, event_name text, session_name text, status text, '
            || 'session_start timestamp with time zone, session_end timestamp with time zone, time_zone text, '
            || 'session_start_local timestamp without time zone, session_end_local timestamp without time zone, '
            || 'venue_id uuid, event_url text, banner_url text, humanitix_session_ids text[], eventbrite_session_ids '
            || 'text[], source_keys text[], currency text, humanitix_orders bigint, humanitix_tickets bigint, '
            || 'humanitix_gross_cents bigint, humanitix_net_cents bigint, humanitix_fees_cents bigint, '
            || 'humanitix_tax_cents bigint, eventbrite_orders bigint, eventbrite_tickets bigint, '
            || 'eventbrite_gross_cents bigint, eventbrite_net_cents bigint, eventbrite_fees_cents bigint, '
            || 'eventbrite_tax_cents bigint, other_currency_orders bigint, unreadable_orders bigint'),
        ('tickets_htx_view', 'view',
            'ticket_id uuid, source_id text, order_source_id text, session_source_id text, event_source_id text, '
            || 'ticket_type text, status text, is_counted boolean, price_cents bigint, has_discounts boolean, '
            || 'payload jsonb'),
        ('event_sessions_overview_mv', 'materialized view',
            'stable_session_id text, stable_event_id text, session_id uuid, event_id uuid, crm_event_id uuid, '
            || 'canonical_source text, canonical_session_source_id text, provider text, is_eventbrite_only boolean, '
            || 'event_name text, session_name text, session_status text, promoter_id uuid, promoter_name text, '
            || 'is_recurring boolean, recurrence jsonb, session_start timestamp with time zone, session_end '
            || 'timestamp with time zone, timezone text, session_start_local timestamp without time zone, '
            || 'session_end_local timestamp without time zone, session_date date, start_time time without time zone, '
            || 'end_time time without time zone, venue_id uuid, venue_name text, venue_address text, venue_city '
            || 'text, venue_state text, venue_lat double precision, venue_lng double precision, event_url text, '
            || 'banner_url text, banner_metadata jsonb, currency text, humanitix_orders bigint, humanitix_tickets '
            || 'bigint, humanitix_gross numeric, humanitix_net numeric, humanitix_fees numeric, humanitix_tax '
            || 'numeric, eventbrite_orders bigint, eventbrite_tickets bigint, eventbrite_gross numeric, '
            || 'eventbrite_net numeric, eventbrite_fees numeric, eventbrite_tax numeric, total_orders bigint, '
            || 'total_tickets bigint, total_gross numeric, total_net numeric, total_fees numeric, total_tax numeric, '
            || 'other_currency_orders bigint, unreadable_orders bigint, discounts jsonb, sample_customers jsonb, '
            || 'application_count bigint, pending_application_count bigint, accepted_application_count bigint, '
            || 'spot_count bigint, confirmed_spot_count bigint, waitlist_count bigint, available_spots bigint, '
            || 'lineup jsonb, waitlist jsonb'),
        ('refresh_status', 'materialized view',
            'view_name text, refreshed_at timestamp with time zone, sessions bigint')
),
indexes (index_name, definition) AS (
    VALUES
        ('idx_event_applications_event_status', 'on event_applications (event_id, status)'),
        ('idx_event_applications_profile', 'on event_applications (profile_id)'),
        (
            'idx_event_sessions_overview_available_spots',
            'on event_sessions_overview_mv (available_spots, session_start_local)'
        ),
        (
            'idx_event_sessions_overview_city',
            'on event_sessions_overview_mv (lower(venue_city), session_start_local, stable_session_id)'
        ),
        ('idx_event_sessions_overview_date', 'on event_sessions_overview_mv (session_date)'),
        ('idx_event_sessions_overview_event', 'on event_sessions_overview_mv (event_id)'),
        (
            'idx_event_sessions_overview_event_name',
            'on event_sessions_overview_mv USING gin (to_tsvector(''simple''::regconfig, event_name))'
        ),
        ('idx_event_sessions_overview_session', 'on event_sessions_overview_mv (session_id)'),
        ('idx_event_sessions_overview_stable_session', 'unique, on event_sessions_overview_mv (stable_session_id)'),
        (
            'idx_event_sessions_overview_start_local',
            'on event_sessions_overview_mv (session_start_local, stable_session_id)'
        ),
        ('idx_event_spots_event_status', 'on event_spots (event_id, status)'),
        ('idx_event_spots_performer', 'on event_spots (performer_id)'),
        ('idx_events_htx_name', 'on events_htx (name)'),
        ('idx_events_promoter', 'on events (promoter_id)'),
        ('idx_events_source_key', 'on events (source_key)'),
        ('idx_events_venue', 'on events (venue_id)'),
        ('idx_orders_eventbrite_session', 'on orders_eventbrite (session_source_id, ordered_at DESC)'),
        ('idx_orders_htx_session', 'on orders_htx (session_source_id, ordered_at DESC)'),
        ('idx_refresh_status_view_name', 'unique, on refresh_status (view_name)'),
        (
            'idx_session_sources_canonical_start',
            'on session_sources (canonical_session_source_id, session_start_local)'
        ),
        ('idx_session_sources_stable', 'on session_sources (stable_session_id)'),
        ('idx_session_sources_start_local', 'on session_sources (session_start_local)'),
        ('idx_sessions_htx_event', 'on sessions_htx (event_source_id)'),
        ('idx_sessions_htx_start_local', 'on sessions_htx (session_start_local)'),
        ('idx_tickets_eventbrite_session', 'on tickets_eventbrite (session_source_id)'),
        ('idx_tickets_htx_session', 'on tickets_htx (session_source_id)'),
        ('idx_venues_city', 'on venues (city)')
),
constraints (table_name, constraint_name, definition) AS (
    VALUES
        ('customers_htx', 'customers_htx_pkey', 'PRIMARY KEY (id)'),
        ('customers_htx', 'customers_htx_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('customers_htx', 'customers_htx_source_id_key', 'UNIQUE (source_id)'),
        (
            'event_applications', 'event_applications_event_id_fkey',
            'FOREIGN KEY (event_id) REFERENCES shows.events(id) ON DELETE CASCADE'
        ),
        ('event_applications', 'event_applications_pkey', 'PRIMARY KEY (id)'),
        (
            'event_applications', 'event_applications_profile_id_fkey',
            'FOREIGN KEY (profile_id) REFERENCES shows.profiles(id) ON DELETE SET NULL'
        ),
        (
            'event_applications', 'event_applications_status_check',
            'CHECK ((status = ANY (ARRAY[''pending''::text, ''accepted''::text, ''declined''::text, '
            || '''withdrawn''::text])))'
        ),
        ('event_spots', 'event_spots_duration_minutes_check', 'CHECK ((duration_minutes >= 0))'),
        (
            'event_spots', 'event_spots_event_id_fkey',
            'FOREIGN KEY (event_id) REFERENCES shows.events(id) ON DELETE CASCADE'
        ),
        (
            'event_spots', 'event_spots_performer_id_fkey',
            'FOREIGN KEY (performer_id) REFERENCES shows.profiles(id) ON DELETE SET NULL'
        ),
        ('event_spots', 'event_spots_pkey', 'PRIMARY KEY (id)'),
        (
            'event_spots', 'event_spots_status_check',
            'CHECK ((status = ANY (ARRAY[''available''::text, ''offered''::text, ''confirmed''::text, ''waitlist''::text, '
            || '''cancelled''::text])))'
        ),
        ('events', 'events_event_date_check', 'CHECK (isfinite(event_date))'),
        ('events', 'events_pkey', 'PRIMARY KEY (id)'),
        (
            'events', 'events_promoter_id_fkey',
            'FOREIGN KEY (promoter_id) REFERENCES shows.profiles(id) ON DELETE SET NULL'
        ),
        ('events', 'events_source_check', 'CHECK ((source ~ ''^[a-z][a-z0-9_]*$''::text))'),
        ('events', 'events_source_is_whole', 'CHECK (((source IS NULL) = (source_session_id IS NULL)))'),
        ('events', 'events_source_session_id_check', 'CHECK ((source_session_id <> ''''::text))'),
        ('events', 'events_spots_check', 'CHECK ((spots >= 0))'),
        ('events', 'events_venue_id_fkey', 'FOREIGN KEY (venue_id) REFERENCES shows.venues(id) ON DELETE SET NULL'),
        ('events_htx', 'events_htx_pkey', 'PRIMARY KEY (id)'),
        ('events_htx', 'events_htx_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('events_htx', 'events_htx_source_id_key', 'UNIQUE (source_id)'),
        ('orders_eventbrite', 'orders_eventbrite_pkey', 'PRIMARY KEY (id)'),
        ('orders_eventbrite', 'orders_eventbrite_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('orders_eventbrite', 'orders_eventbrite_source_id_key', 'UNIQUE (source_id)'),
        ('orders_htx', 'orders_htx_pkey', 'PRIMARY KEY (id)'),
        ('orders_htx', 'orders_htx_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('orders_htx', 'orders_htx_source_id_key', 'UNIQUE (source_id)'),
        ('profiles', 'profiles_pkey', 'PRIMARY KEY (id)'),
        (
            'session_sources', 'session_sources_canonical_session_source_id_check',
            'CHECK ((canonical_session_source_id <> ''''::text))'
        ),
        (
            'session_sources', 'session_sources_canonical_source_check',
            'CHECK ((canonical_source ~ ''^[a-z][a-z0-9_]*$''::text))'
        ),
        ('session_sources', 'session_sources_pkey', 'PRIMARY KEY (source, source_session_id)'),
        ('session_sources', 'session_sources_session_end_check', 'CHECK (isfinite(session_end))'),
        ('session_sources', 'session_sources_session_start_check', 'CHECK (isfinite(session_start))'),
        ('session_sources', 'session_sources_source_check', 'CHECK ((source ~ ''^[a-z][a-z0-9_]*$''::text))'),
        ('session_sources', 'session_sources_source_key_key', 'UNIQUE (source_key)'),
        ('session_sources', 'session_sources_source_session_id_check', 'CHECK ((source_session_id <> ''''::text))'),
        ('sessions_htx', 'sessions_htx_end_date_check', 'CHECK (isfinite(end_date))'),
        ('sessions_htx', 'sessions_htx_pkey', 'PRIMARY KEY (id)'),
        ('sessions_htx', 'sessions_htx_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('sessions_htx', 'sessions_htx_source_id_key', 'UNIQUE (source_id)'),
        ('sessions_htx', 'sessions_htx_stable_session_id_key', 'UNIQUE (stable_session_id)'),
        ('sessions_htx', 'sessions_htx_start_date_check', 'CHECK (isfinite(start_date))'),
        ('tickets_eventbrite', 'tickets_eventbrite_pkey', 'PRIMARY KEY (id)'),
        ('tickets_eventbrite', 'tickets_eventbrite_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('tickets_eventbrite', 'tickets_eventbrite_source_id_key', 'UNIQUE (source_id)'),
        ('tickets_htx', 'tickets_htx_pkey', 'PRIMARY KEY (id)'),
        ('tickets_htx', 'tickets_htx_source_id_check', 'CHECK ((source_id <> ''''::text))'),
        ('tickets_htx', 'tickets_htx_source_id_key', 'UNIQUE (source_id)'),
        (
            'venues', 'venues_lat_check',
            'CHECK (((lat >= (''-90''::integer)::double precision) AND (lat <= (90)::double precision)))'
        ),
        (
            'venues', 'venues_lng_check',
            'CHECK (((lng >= (''-180''::integer)::double precision) AND (lng <= (180)::double precision)))'
        ),
        ('venues', 'venues_pkey', 'PRIMARY KEY (id)'),
        ('venues', 'venues_position_is_whole', 'CHECK (((lat IS NULL) = (lng IS NULL)))')
),
-- Each function with what it answers to a question.
functions (signature, result, volatility, question, answer) AS (
    VALUES
        (
            'shows.cents(jsonb)', 'bigint', 'immutable',
            $$concat_ws(' ', shows.cents('12.345'), shows.cents('"7.50"'), shows.cents('{"value": 9}'),
                shows.cents('{"major_value": "1.5"}'), shows.cents('-1') IS NULL, shows.cents('"free"') IS NULL,
                shows.cents('[1]') IS NULL, shows.cents('1e300') IS NULL, shows.cents(NULL) IS NULL)$$,
            '1235 750 9 150 t t t t t'
        ),
        (
            'shows.unreadable(jsonb)', 'boolean', 'immutable',
            $$concat_ws(' ', shows.unreadable('"free"'), shows.unreadable('-1'), shows.unreadable('1'),
                shows.unreadable('null'), shows.unreadable(NULL))$$,
            't t f f f'
        ),
        (
            'shows.currency(jsonb)', 'text', 'immutable',
            $$concat_ws(' ', shows.currency('" aud"'), shows.currency('5') IS NULL, shows.currency('null') IS NULL,
                shows.currency('"dollars"') IS NULL)$$,
            'AUD t t t'
        ),
        ('shows.dollars(bigint)', 'numeric', 'immutable', $$shows.dollars(-1234)::text$$, '-12.34'),
        (
            'shows.is_counted(text)', 'boolean', 'immutable',
            $$concat_ws(' ', shows.is_counted('complete'), shows.is_counted(NULL), shows.is_counted(' Refunded '),
                shows.is_counted('Not Attending'))$$,
            't t f f'
        ),
        (
            'shows.known_time_zone(text)', 'text', 'immutable',
            $$concat_ws(' ', shows.known_time_zone('Australia/Sydney'), shows.known_time_zone('Mars/Base'),
                shows.known_time_zone(NULL))$$,
            'Australia/Sydney UTC UTC'
        ),
        (
            'shows.discount_lines(jsonb)', 'SETOF record', 'immutable',
            $$(SELECT string_agg(code || ' ' || amount_cents, ', ' ORDER BY code) FROM shows.discount_lines(
                '{"discounts": [{"code": "vip", "amount": 5}, {"code": " "}, "x"], "promotional_code": {"code": "a"}}'))$$,
            'A 0, VIP 500'
        ),
        (
            'shows.broken_discounts(jsonb)', 'boolean', 'immutable',
            $$concat_ws(' ', shows.broken_discounts('{"discounts": "none"}'), shows.broken_discounts('{"discounts": []}'),
                shows.broken_discounts('{}'), shows.broken_discounts('[]'))$$,
            't f f f'
        ),
        (
            'shows.words(text)', 'tsquery', 'immutable',
            $$concat_ws(' ', shows.words('Open Mi')::text, shows.words(' & ! ') IS NULL)$$,
            '''open'' & ''mi'':* t'
        ),
        (
            'shows.moment_of_refresh()', 'timestamp with time zone', 'stable',
            $$(shows.moment_of_refresh() = now())::text$$, 'true'
        ),
        (
            'shows.find_session(text)', 'text', 'stable', $$shows.find_session('nobody:knows')$$, 'nobody:knows'
        ),
        (
            'shows.get_event_sessions(uuid)', 'SETOF shows.event_sessions_overview_v', 'stable',
            $$(SELECT count(*)::text FROM shows.get_event_sessions('00000000-0000-0000-0000-000000000000'))$$, '0'
        ),
        (
            'shows.get_event_financials(uuid)', 'SETOF shows.session_financials', 'stable',
            $$(SELECT count(*)::text FROM shows.get_event_financials('00000000-0000-0000-0000-000000000000'))$$, '0'
        ),
        (
            'shows.browse(text,text,timestamp,timestamp,date,date,integer,text,text)',
            'SETOF shows.event_sessions_overview_mv', 'stable',
            $$(SELECT count(*)::text
                FROM shows.browse('no such event', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL))$$,
            '0'
        )
),
watched (table_name) AS (
    SELECT relation FROM relations WHERE kind = 'table'
),
-- What is there, as it should be.
present AS MATERIALIZED (
    SELECT
        relations.relation,
        relations.kind,
        relations.columns AS wanted,
        found.kind AS found_kind,
        found.columns AS found_columns,
        coalesce(found.kind = relations.kind AND found.columns = relations.columns, false) AS is_right
    FROM relations
    LEFT JOIN LATERAL (
        SELECT
            CASE class.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' END AS kind,
            string_agg(
                attribute.attname || ' ' || format_type(attribute.atttypid, attribute.atttypmod)
                || CASE
                    WHEN attribute.attgenerated = 's' THEN ' (generated)'
                    WHEN attribute.attnotnull AND class.relkind = 'r' THEN ' (not null)'
                    ELSE ''
                END,
                ', ' ORDER BY attribute.attnum
            ) AS columns
        FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_attribute AS attribute
            ON attribute.attrelid = class.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
        WHERE class.oid = to_regclass(format('shows.%I', relations.relation))
        GROUP BY class.relkind
    ) AS found ON true
),
-- The data's own checks: a statement that counts what is wrong, and the relations that it reads.
rules (place, rule, relations_read, statement) AS (
    VALUES
        (
            1, 'one row of event_sessions_overview_mv for each canonical session',
            '{event_sessions_overview_mv, canonical_sessions}'::text [],
            'SELECT abs((SELECT count(*) FROM shows.event_sessions_overview_mv)
                - (SELECT count(*) FROM shows.canonical_sessions))'
        ),
        (
            2, 'event_sessions_overview_mv equals event_sessions_overview_mv_live',
            '{event_sessions_overview_mv, event_sessions_overview_mv_live}',
            'SELECT count(*)
            FROM ((TABLE shows.event_sessions_overview_mv EXCEPT ALL TABLE shows.event_sessions_overview_mv_live)
                UNION ALL
                (TABLE shows.event_sessions_overview_mv_live EXCEPT ALL TABLE shows.event_sessions_overview_mv)
            ) AS different'
        ),
        (
            3, 'session_financials and session_financials_agg agree to the cent',
            '{session_financials, session_financials_agg}',
            'SELECT count(*)
            FROM shows.session_financials AS dollars
            FULL JOIN shows.session_financials_agg AS cents USING (stable_session_id)
            WHERE (100 * humanitix_gross, 100 * humanitix_net, 100 * humanitix_fees, 100 * humanitix_tax,
                    100 * eventbrite_gross, 100 * eventbrite_net, 100 * eventbrite_fees, 100 * eventbrite_tax,
                    100 * total_gross, 100 * total_net, 100 * total_fees, 100 * total_tax,
                    dollars.total_orders, dollars.total_tickets)
                IS DISTINCT FROM
                (humanitix_gross_cents, humanitix_net_cents, humanitix_fees_cents, humanitix_tax_cents,
                    eventbrite_gross_cents, eventbrite_net_cents, eventbrite_fees_cents, eventbrite_tax_cents,
                    total_gross_cents, total_net_cents, total_fees_cents, total_tax_cents,
                    cents.total_orders, cents.total_tickets)'
        ),
        (
            4, 'net is gross less fees and tax, and a total the sum of both providers', '{event_sessions_overview_mv}',
            'SELECT count(*)
            FROM shows.event_sessions_overview_mv
            WHERE total_net <> total_gross - total_fees - total_tax
                OR (total_orders, total_tickets, total_gross, total_net, total_fees, total_tax)
                <> (humanitix_orders + eventbrite_orders, humanitix_tickets + eventbrite_tickets,
                    humanitix_gross + eventbrite_gross, humanitix_net + eventbrite_net,
                    humanitix_fees + eventbrite_fees, humanitix_tax + eventbrite_tax)'
        ),
        (
            5, 'each order and ticket of a known session is counted once',
            '{session_financials_agg, sessions_htx, session_sources, orders_htx, tickets_htx, orders_eventbrite,
                tickets_eventbrite}',
            'SELECT abs(totals.orders - known.orders) + abs(totals.tickets - known.tickets)
            FROM (
                SELECT coalesce(sum(total_orders), 0) AS orders, coalesce(sum(total_tickets), 0) AS tickets
                FROM shows.session_financials_agg
            ) AS totals,
            (
                WITH known AS (
                    SELECT stable_session_id AS key FROM shows.sessions_htx
                    UNION SELECT source_key FROM shows.session_sources
                    UNION SELECT stable_session_id FROM shows.session_sources AS bridge
                )
                SELECT
                    (SELECT count(*) FROM shows.orders_htx JOIN known ON key = ''humanitix:'' || session_source_id
                        WHERE is_counted)
                    + (SELECT count(*) FROM shows.orders_eventbrite
                        JOIN known ON key = ''eventbrite:'' || session_source_id WHERE is_counted) AS orders,
                    (SELECT count(*) FROM shows.tickets_htx JOIN known ON key = ''humanitix:'' || session_source_id
                        WHERE is_counted)
                    + (SELECT count(*) FROM shows.tickets_eventbrite
                        JOIN known ON key = ''eventbrite:'' || session_source_id WHERE is_counted) AS tickets
            ) AS known'
        ),
        (
            6, 'map pins are where the venue is', '{event_sessions_overview_mv, venues}',
            'SELECT count(*)
            FROM shows.event_sessions_overview_mv AS overview
            JOIN shows.venues AS venue ON venue.id = overview.venue_id
            WHERE (venue.lat, venue.lng) IS DISTINCT FROM (overview.venue_lat, overview.venue_lng)'
        ),
        (
            7, 'refresh_status knows how many sessions there are', '{refresh_status, event_sessions_overview_mv}',
            'SELECT abs((SELECT sum(sessions) FROM shows.refresh_status)
                - (SELECT count(*) FROM shows.event_sessions_overview_mv))'
        )
),
figures AS MATERIALIZED (
    SELECT
        rules.place,
        rules.rule,
        CASE WHEN able.to_ask THEN (
            SELECT answer.word::numeric
            FROM ts_stat(format('SELECT array_to_tsvector(ARRAY[(%s)::text])', rules.statement)) AS answer
        ) END AS wrong
    FROM rules
    CROSS JOIN LATERAL (
        SELECT
            (SELECT bool_and(is_right) FROM present WHERE relation = ANY (rules.relations_read))
            AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_matviews AS matview
                WHERE matview.schemaname = 'shows' AND matview.matviewname = ANY (rules.relations_read)
                  AND NOT matview.ispopulated
            ) AS to_ask
    ) AS able
),
answers AS MATERIALIZED (
    SELECT
        functions.signature,
        functions.result || ', ' || functions.volatility || ', answers ' || functions.answer AS wanted,
        CASE WHEN kept.to_ask THEN
            kept.description || ', answers '
            || (
                SELECT answer.word
                FROM ts_stat(
                    format('SELECT array_to_tsvector(ARRAY[coalesce((%s)::text, ''nothing'')])', functions.question)
                ) AS answer
            )
        ELSE kept.description END AS found
    FROM functions
    LEFT JOIN LATERAL (
        SELECT
            replace(pg_get_function_result(proc.oid), 'TABLE(code text, amount_cents bigint)', 'SETOF record') || ', '
            || CASE proc.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS description,
            -- What browses needs something to browse.
            functions.signature NOT LIKE 'shows.browse%' OR coalesce(
                (
                    SELECT matview.ispopulated FROM pg_catalog.pg_matviews AS matview
                    WHERE matview.schemaname = 'shows' AND matview.matviewname = 'event_sessions_overview_mv'
                ),
                false
            ) AS to_ask
        FROM pg_catalog.pg_proc AS proc
        WHERE proc.oid = to_regprocedure(functions.signature)
    ) AS kept ON true
),
checks (part, place, "check", expected, found, ok) AS (
    SELECT
        CASE kind WHEN 'table' THEN 1 WHEN 'view' THEN 2 ELSE 3 END, relation, kind || ' ' || relation,
        cardinality(lists.wanted) || ' columns of their types',
        CASE
            WHEN found_kind IS NULL THEN 'missing'
            WHEN found_kind <> kind THEN found_kind
            WHEN is_right THEN cardinality(lists.wanted) || ' columns of their types'
            ELSE concat_ws(
                '; ',
                'without ' || (SELECT string_agg(w, ', ') FROM unnest(lists.wanted) AS w WHERE w <> ALL (lists.found)),
                'with ' || (SELECT string_agg(f, ', ') FROM unnest(lists.found) AS f WHERE f <> ALL (lists.wanted)),
                'in this order: ' || found_columns
            )
        END,
        is_right
    FROM present
    CROSS JOIN LATERAL (
        SELECT string_to_array(wanted, ', ') AS wanted, string_to_array(found_columns, ', ') AS found
    ) AS lists

    UNION ALL
    SELECT
        4, relation, relation || ' is populated', 'populated',
        CASE WHEN matview.ispopulated THEN 'populated' WHEN NOT matview.ispopulated THEN 'not populated' ELSE 'missing' END,
        coalesce(matview.ispopulated, false)
    FROM present
    LEFT JOIN pg_catalog.pg_matviews AS matview
        ON matview.schemaname = 'shows' AND matview.matviewname = present.relation
    WHERE kind = 'materialized view'

    UNION ALL
    SELECT
        5, indexes.index_name, 'index ' || indexes.index_name, indexes.definition,
        coalesce(found.definition, 'missing'), coalesce(found.definition = indexes.definition, false)
    FROM indexes
    LEFT JOIN LATERAL (
        SELECT
            CASE WHEN index.indisvalid THEN '' ELSE 'invalid, ' END
            || CASE WHEN index.indisunique THEN 'unique, ' ELSE '' END
            || 'on ' || relation.relname || ' '
            || regexp_replace(substring(pg_get_indexdef(index.indexrelid) FROM 'USING .*$'), '^USING btree ', '')
            AS definition
        FROM pg_catalog.pg_index AS index
        JOIN pg_catalog.pg_class AS relation ON relation.oid = index.indrelid
        WHERE index.indexrelid = to_regclass(format('shows.%I', indexes.index_name))
    ) AS found ON true

    UNION ALL
    SELECT
        6, constraints.table_name || ' ' || constraints.constraint_name,
        'constraint ' || constraints.constraint_name, constraints.table_name || ': ' || constraints.definition,
        coalesce(found.definition, 'missing'),
        coalesce(found.definition = constraints.table_name || ': ' || constraints.definition, false)
    FROM constraints
    LEFT JOIN LATERAL (
        SELECT relation.relname || ': ' || pg_get_constraintdef(constraint_.oid) AS definition
        FROM pg_catalog.pg_constraint AS constraint_
        JOIN pg_catalog.pg_class AS relation ON relation.oid = constraint_.conrelid
        WHERE constraint_.conname = constraints.constraint_name
          AND constraint_.conrelid = to_regclass(format('shows.%I', constraints.table_name))
    ) AS found ON true

    UNION ALL
    SELECT 7, signature, 'function ' || signature, wanted, coalesce(found, 'missing'), coalesce(found = wanted, false)
    FROM answers

    UNION ALL
    -- A change of any of these tables is what refreshes the overview.
    SELECT
        8, watched.table_name, 'watch on ' || watched.table_name, 'DELETE, INSERT, TRUNCATE, UPDATE',
        coalesce(found.events, 'nothing'), coalesce(found.events, '') = 'DELETE, INSERT, TRUNCATE, UPDATE'
    FROM watched
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT event.name, ', ' ORDER BY event.name) AS events
        FROM pg_catalog.pg_trigger AS trigger
        JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS event (bit, name)
            ON trigger.tgtype & event.bit <> 0
        WHERE trigger.tgrelid = to_regclass(format('shows.%I', watched.table_name))
          AND trigger.tgfoid = to_regprocedure('public.notify_event_refresh()')
          AND trigger.tgqual IS NULL AND cardinality(trigger.tgattr::int2[]) = 0
          AND trigger.tgenabled IN ('O', 'A')
    ) AS found ON true

    UNION ALL
    SELECT
        9, place::text, rule, '0 are wrong', coalesce(wrong || ' are wrong', 'cannot be read'), coalesce(wrong = 0, false)
    FROM figures
)
SELECT "check", expected, found, ok
FROM checks
ORDER BY part, place
