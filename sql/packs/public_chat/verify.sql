-- Is the pack public_chat in place and right? One row for each check.
--
-- Everything is compared by its definition with what the migrations made; the names of schemas are taken out before, so
-- that it does not matter what the session's search path is, and where the extension is. Whether public_chat_funnel equals
-- its live definition can be wrong for a moment while a change is being refreshed: look again after that.
WITH expected (part, kind, name, expected) AS (
    VALUES
        (1, 'extension', 'vector', 'installed'),
        (2, 'role', 'anon', 'cannot log in'),
        (2, 'role', 'authenticated', 'cannot log in'),
        (2, 'role', 'service_role', 'cannot log in'),
        (3, 'table', 'tenant_registry', 'row-level security on'),
        (3, 'table', 'accommodation_units', 'row-level security on'),
        (3, 'table', 'guest_reservations', 'row-level security on'),
        (3, 'table', 'prospective_sessions', 'row-level security on'),
        (3, 'table', 'accommodation_units_public', 'row-level security on'),
        (3, 'table', 'accommodation_unit_migrations', 'row-level security on'),
        (3, 'table', 'prospective_sessions_archive', 'row-level security on'),
        (3, 'table', 'prospective_sessions_cleanups', 'row-level security on'),
        (4, 'view', 'public_chat_funnel_live', 'populated'),
        (4, 'view', 'public_chat_funnel', 'populated'),
        (5, 'column', 'prospective_sessions.session_id', 'uuid not null default gen_random_uuid()'),
        (5, 'column', 'prospective_sessions.tenant_id', 'uuid not null'),
        (5, 'column', 'prospective_sessions.cookie_id', 'text not null default (gen_random_uuid())::text'),
        (5, 'column', 'prospective_sessions.conversation_history', 'jsonb not null default ''[]''::jsonb'),
        (5, 'column', 'prospective_sessions.travel_intent', 'jsonb not null default ''{}''::jsonb'),
        (5, 'column', 'prospective_sessions.utm_tracking', 'jsonb not null default ''{}''::jsonb'),
        (5, 'column', 'prospective_sessions.status', 'text not null default ''active''::text'),
        (5, 'column', 'prospective_sessions.converted_to_reservation_id', 'uuid'),
        (5, 'column', 'prospective_sessions.conversion_date', 'timestamp with time zone'),
        (5, 'column', 'prospective_sessions.created_at', 'timestamp with time zone not null default now()'),
        (5, 'column', 'prospective_sessions.last_activity_at', 'timestamp with time zone not null default now()'),
        (5, 'column', 'prospective_sessions.expires_at', 'timestamp with time zone not null default (now() + ''7 days''::interval)'),
        (5, 'column', 'accommodation_units_public.id', 'uuid not null default gen_random_uuid()'),
        (5, 'column', 'accommodation_units_public.tenant_id', 'uuid not null'),
        (5, 'column', 'accommodation_units_public.source_unit_id', 'uuid'),
        (5, 'column', 'accommodation_units_public.name', 'text not null'),
        (5, 'column', 'accommodation_units_public.unit_type', 'text not null'),
        (5, 'column', 'accommodation_units_public.description', 'text not null'),
        (5, 'column', 'accommodation_units_public.short_description', 'text not null'),
        (5, 'column', 'accommodation_units_public.highlights', 'text[] not null default ''{}''::text[]'),
        (5, 'column', 'accommodation_units_public.amenities', 'jsonb not null default ''{}''::jsonb'),
        (5, 'column', 'accommodation_units_public.pricing', 'jsonb not null default ''{}''::jsonb'),
        (5, 'column', 'accommodation_units_public.photos', 'jsonb not null default ''[]''::jsonb'),
        (5, 'column', 'accommodation_units_public.virtual_tour_url', 'text'),
        (5, 'column', 'accommodation_units_public.content', 'text generated as accommodation_content(name, unit_type, short_description, description, highlights, amenities)'),
        (5, 'column', 'accommodation_units_public.features', 'text[] generated as public_chat_preferences(public_chat_plain(accommodation_content(name, unit_type, short_description, description, highlights, amenities)))'),
        (5, 'column', 'accommodation_units_public.capacity', 'integer generated as public_chat_whole_number((amenities -> ''capacity''::text), 1)'),
        (5, 'column', 'accommodation_units_public.embedding_fast', 'vector(1024)'),
        (5, 'column', 'accommodation_units_public.embedding_full', 'vector(3072)'),
        (5, 'column', 'accommodation_units_public.is_active', 'boolean not null default true'),
        (5, 'column', 'accommodation_units_public.is_bookable', 'boolean not null default true'),
        (5, 'column', 'accommodation_units_public.metadata', 'jsonb not null default ''{}''::jsonb'),
        (5, 'column', 'accommodation_units_public.created_at', 'timestamp with time zone not null default now()'),
        (5, 'column', 'accommodation_units_public.updated_at', 'timestamp with time zone not null default now()'),
        (6, 'index', 'idx_prospective_sessions_cookie', 'unique, on prospective_sessions using btree (cookie_id) WHERE (status = ''active''::text)'),
        (6, 'index', 'idx_prospective_sessions_tenant', 'on prospective_sessions using btree (tenant_id, created_at DESC)'),
        (6, 'index', 'idx_prospective_sessions_expires', 'on prospective_sessions using btree (expires_at) WHERE (status = ''active''::text)'),
        (6, 'index', 'idx_prospective_sessions_intent_gin', 'on prospective_sessions using gin (travel_intent)'),
        (6, 'index', 'idx_accommodation_public_tenant', 'on accommodation_units_public using btree (tenant_id) WHERE is_active'),
        (6, 'index', 'idx_accommodation_public_type', 'on accommodation_units_public using btree (tenant_id, unit_type)'),
        (6, 'index', 'idx_accommodation_public_embedding_fast_hnsw', 'on accommodation_units_public using hnsw (embedding_fast vector_cosine_ops)'),
        (6, 'index', 'idx_prospective_sessions_converted', 'on prospective_sessions using btree (cookie_id, conversion_date DESC) WHERE (status = ''converted''::text)'),
        (6, 'index', 'idx_prospective_sessions_reservation', 'on prospective_sessions using btree (tenant_id, converted_to_reservation_id) WHERE (converted_to_reservation_id IS NOT NULL)'),
        (6, 'index', 'idx_prospective_sessions_archive_tenant', 'on prospective_sessions_archive using btree (tenant_id, conversion_date DESC)'),
        (6, 'index', 'idx_guest_reservations_unit', 'on guest_reservations using btree (tenant_id, accommodation_unit_id)'),
        (6, 'index', 'idx_public_chat_funnel_tenant', 'unique, on public_chat_funnel using btree (tenant_id)'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_cookie_id_check', 'CHECK ((cookie_id ~ ''^[A-Za-z0-9_-]{16,128}$''::text))'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_status_check', 'CHECK ((status = ANY (ARRAY[''active''::text, ''converted''::text])))'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_conversion_check', 'CHECK (((status = ''converted''::text) = (conversion_date IS NOT NULL)))'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_size_check', 'CHECK (((pg_column_size(conversation_history) <= 262144) AND (pg_column_size(travel_intent) <= 16384) AND (pg_column_size(utm_tracking) <= 16384)))'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_reservation_fkey', 'FOREIGN KEY (tenant_id, converted_to_reservation_id) REFERENCES guest_reservations(tenant_id, id)'),
        (7, 'constraint', 'prospective_sessions.prospective_sessions_tenant_id_fkey', 'FOREIGN KEY (tenant_id) REFERENCES tenant_registry(tenant_id) ON DELETE CASCADE'),
        (7, 'constraint', 'accommodation_units_public.accommodation_units_public_short_description_check', 'CHECK ((char_length(short_description) <= 150))'),
        (7, 'constraint', 'accommodation_units_public.accommodation_units_public_price_check', 'CHECK ((((pricing -> ''base_price_night''::text) IS NULL) OR (jsonb_typeof((pricing -> ''base_price_night''::text)) = ''null''::text) OR ((jsonb_typeof((pricing -> ''base_price_night''::text)) = ''number''::text) AND (((pricing ->> ''base_price_night''::text))::numeric >= (0)::numeric))))'),
        (7, 'constraint', 'accommodation_units_public.accommodation_units_public_tenant_id_fkey', 'FOREIGN KEY (tenant_id) REFERENCES tenant_registry(tenant_id) ON DELETE CASCADE'),
        (7, 'constraint', 'accommodation_units_public.accommodation_units_public_source_unit_id_fkey', 'FOREIGN KEY (source_unit_id) REFERENCES accommodation_units(id) ON DELETE SET NULL'),
        (7, 'constraint', 'accommodation_units_public.accommodation_units_public_source_unit_id_key', 'UNIQUE (source_unit_id)'),
        (7, 'constraint', 'guest_reservations.guest_reservations_dates_check', 'CHECK ((check_out_date > check_in_date))'),
        (7, 'constraint', 'guest_reservations.guest_reservations_unit_fkey', 'FOREIGN KEY (tenant_id, accommodation_unit_id) REFERENCES accommodation_units(tenant_id, id)'),
        (8, 'trigger', 'trigger_accommodation_units_public_updated_at', 'BEFORE UPDATE ON accommodation_units_public FOR EACH ROW EXECUTE FUNCTION update_accommodation_units_public_updated_at()'),
        (8, 'trigger', 'trigger_prospective_sessions_keep_recent', 'BEFORE INSERT OR UPDATE ON prospective_sessions FOR EACH ROW EXECUTE FUNCTION prospective_sessions_keep_recent()'),
        (9, 'function', 'accommodation_amenities(unit accommodation_units)', 'returns jsonb, sql, immutable, search path pinned'),
        (9, 'function', 'accommodation_content(name text, unit_type text, short_description text, description text, highlights text[], amenities jsonb)', 'returns text, sql, immutable, search path pinned'),
        (9, 'function', 'accommodation_feature_names(amenities jsonb)', 'returns text, sql, immutable, search path pinned'),
        (9, 'function', 'accommodation_highlights(unit accommodation_units)', 'returns text[], sql, immutable, search path pinned'),
        (9, 'function', 'accommodation_names(given jsonb, what text)', 'returns text[], plpgsql, immutable, search path pinned'),
        (9, 'function', 'accommodation_photos(photos jsonb, unit_name text)', 'returns jsonb, plpgsql, immutable, search path pinned'),
        (9, 'function', 'accommodation_price(pricing jsonb, check_in date, check_out date)', 'returns numeric, sql, immutable, search path pinned'),
        (9, 'function', 'accommodation_pricing(unit accommodation_units)', 'returns jsonb, plpgsql, immutable, search path pinned'),
        (9, 'function', 'accommodation_public_digest(unit accommodation_units_public)', 'returns text, sql, stable, search path pinned'),
        (9, 'function', 'accommodation_short_description(description text, longest integer)', 'returns text, sql, immutable, search path pinned'),
        (9, 'function', 'cleanup_expired_sessions(converted_after interval, OUT expired_deleted bigint, OUT converted_archived bigint, OUT milliseconds double precision)', 'returns record, plpgsql, volatile, search path pinned'),
        (9, 'function', 'convert_prospective_session(cookie_id text, guest_name text, guest_email text, guest_phone text, unit_id uuid, check_in date, check_out date, adults integer, children integer, OUT "sessionId" uuid, OUT "reservationId" uuid, OUT "reservationCode" text, OUT status text, OUT "checkIn" date, OUT "checkOut" date, OUT guests jsonb, OUT "unitName" text, OUT "totalPrice" numeric, OUT currency text)', 'returns record, plpgsql, volatile, security definer, search path pinned'),
        (9, 'function', 'extract_travel_dates(marked text, today date)', 'returns jsonb, plpgsql, immutable, search path pinned'),
        (9, 'function', 'extract_travel_guests(marked text)', 'returns jsonb, plpgsql, immutable, search path pinned'),
        (9, 'function', 'extract_travel_intent(message text, today date)', 'returns jsonb, sql, immutable, search path pinned'),
        (9, 'function', 'match_accommodations_public(query_embedding vector, p_tenant_id uuid, match_threshold double precision, match_count integer)', 'returns TABLE(id uuid, content text, similarity double precision, source_file text, pricing jsonb, photos jsonb, metadata jsonb), plpgsql, stable, security definer, search path pinned'),
        (9, 'function', 'merge_travel_intent(known jsonb, heard jsonb)', 'returns jsonb, plpgsql, immutable, search path pinned'),
        (9, 'function', 'merge_travel_wishes(before jsonb, added jsonb, withdrawn jsonb)', 'returns jsonb, sql, immutable, search path pinned'),
        (9, 'function', 'migrate_accommodation_units_public(house uuid, most integer, overwrite boolean)', 'returns TABLE(unit_id uuid, tenant_id uuid, name text, outcome text, error text), plpgsql, volatile, search path pinned'),
        (9, 'function', 'prospective_sessions_keep_recent()', 'returns trigger, plpgsql, volatile, search path pinned'),
        (9, 'function', 'public_chat(message text, cookie_id text, house uuid, utm jsonb, query_embedding vector, OUT "cookieId" text, OUT "sessionId" uuid, OUT created boolean, OUT "expiresAt" timestamp with time zone, OUT "travelIntent" jsonb, OUT "matchedBy" text, OUT units jsonb, OUT answer text, OUT messages jsonb)', 'returns record, plpgsql, volatile, search path pinned'),
        (9, 'function', 'public_chat_answer(intent jsonb, matched_by text, units jsonb)', 'returns text, sql, stable, search path pinned'),
        (9, 'function', 'public_chat_answered(answered jsonb)', 'returns void, plpgsql, volatile, search path pinned'),
        (9, 'function', 'public_chat_cookie_id()', 'returns text, sql, stable, search path pinned'),
        (9, 'function', 'public_chat_date(written text)', 'returns date, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_date(year integer, month integer, day integer)', 'returns date, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_house(house uuid, OUT name text, OUT today date)', 'returns SETOF record, sql, stable, security definer, search path pinned'),
        (9, 'function', 'public_chat_language(plain text)', 'returns text, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_mark_dates(plain text, today date)', 'returns text, plpgsql, immutable, search path pinned'),
        (9, 'function', 'public_chat_messages(house_name text, today date, intent jsonb, matched_by text, units jsonb, history jsonb)', 'returns jsonb, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_number(word text)', 'returns integer, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_plain(message text)', 'returns text, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_preferences(plain text, wanted boolean)', 'returns text[], sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_tenant_id()', 'returns uuid, plpgsql, stable, search path pinned'),
        (9, 'function', 'public_chat_units(house uuid, intent jsonb, query_embedding vector, OUT matched_by text, OUT units jsonb)', 'returns record, plpgsql, stable, search path pinned'),
        (9, 'function', 'public_chat_vocabulary()', 'returns TABLE(preference text, words text), sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_whole_number(given jsonb, least_allowed integer)', 'returns integer, sql, immutable, search path pinned'),
        (9, 'function', 'public_chat_wishes(wishes jsonb)', 'returns text[], sql, immutable, search path pinned'),
        (9, 'function', 'update_accommodation_units_public_updated_at()', 'returns trigger, plpgsql, volatile, search path pinned'),
        (10, 'arguments of function', 'match_accommodations_public', 'query_embedding vector, p_tenant_id uuid, match_threshold double precision DEFAULT 0.3, match_count integer DEFAULT 4'),
        (11, 'who may run', 'match_accommodations_public', 'anon, authenticated'),
        (11, 'who may run', 'public_chat_house', 'anon, authenticated'),
        (11, 'who may run', 'convert_prospective_session', 'anon, authenticated'),
        (11, 'who may run', 'cleanup_expired_sessions', 'neither'),
        (11, 'who may run', 'migrate_accommodation_units_public', 'neither'),
        (12, 'policy', 'accommodation_unit_migrations.accommodation_unit_migrations_service', 'select to service_role using true'),
        (12, 'policy', 'accommodation_unit_migrations.accommodation_unit_migrations_staff', 'select to authenticated using (EXISTS ( SELECT FROM accommodation_units u WHERE (u.id = accommodation_unit_migrations.source_unit_id)))'),
        (12, 'policy', 'accommodation_units.accommodation_units_service', 'all to service_role using true check true'),
        (12, 'policy', 'accommodation_units.accommodation_units_staff', 'all to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id)) check (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (12, 'policy', 'accommodation_units_public.accommodation_units_public_service', 'all to service_role using true check true'),
        (12, 'policy', 'accommodation_units_public.accommodation_units_public_staff', 'all to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id)) check (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (12, 'policy', 'accommodation_units_public.accommodation_units_public_visitor_read', 'select to anon using (is_active AND is_bookable)'),
        (12, 'policy', 'guest_reservations.guest_reservations_service', 'all to service_role using true check true'),
        (12, 'policy', 'guest_reservations.guest_reservations_staff', 'all to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id)) check (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (12, 'policy', 'prospective_sessions.prospective_sessions_service', 'all to service_role using true check true'),
        (12, 'policy', 'prospective_sessions.prospective_sessions_staff', 'all to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id)) check (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (12, 'policy', 'prospective_sessions.prospective_sessions_visitor_begin', 'insert to anon check ((cookie_id = ( SELECT public_chat_cookie_id() AS public_chat_cookie_id)) AND (status = ''active''::text) AND (EXISTS ( SELECT FROM public_chat_house(prospective_sessions.tenant_id) public_chat_house(name, today))))'),
        (12, 'policy', 'prospective_sessions.prospective_sessions_visitor_continue', 'update to anon using ((cookie_id = ( SELECT public_chat_cookie_id() AS public_chat_cookie_id)) AND (status = ''active''::text)) check ((cookie_id = ( SELECT public_chat_cookie_id() AS public_chat_cookie_id)) AND (status = ''active''::text))'),
        (12, 'policy', 'prospective_sessions.prospective_sessions_visitor_read', 'select to anon using (cookie_id = ( SELECT public_chat_cookie_id() AS public_chat_cookie_id))'),
        (12, 'policy', 'prospective_sessions_archive.prospective_sessions_archive_service', 'select to service_role using true'),
        (12, 'policy', 'prospective_sessions_archive.prospective_sessions_archive_staff', 'select to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (12, 'policy', 'prospective_sessions_cleanups.prospective_sessions_cleanups_service', 'select to service_role using true'),
        (12, 'policy', 'tenant_registry.tenant_registry_service', 'all to service_role using true check true'),
        (12, 'policy', 'tenant_registry.tenant_registry_staff', 'select to authenticated using (tenant_id = ( SELECT public_chat_tenant_id() AS public_chat_tenant_id))'),
        (13, 'privileges', 'anon on tenant_registry', 'none'),
        (13, 'privileges', 'authenticated on tenant_registry', 'select'),
        (13, 'privileges', 'anon on accommodation_units', 'none'),
        (13, 'privileges', 'authenticated on accommodation_units', 'delete, insert, select, update'),
        (13, 'privileges', 'anon on guest_reservations', 'none'),
        (13, 'privileges', 'authenticated on guest_reservations', 'delete, insert, select, update'),
        (13, 'privileges', 'anon on prospective_sessions', 'select, insert of conversation_history cookie_id tenant_id travel_intent utm_tracking, update of conversation_history travel_intent utm_tracking'),
        (13, 'privileges', 'authenticated on prospective_sessions', 'delete, insert, select, update'),
        (13, 'privileges', 'anon on accommodation_units_public', 'select'),
        (13, 'privileges', 'authenticated on accommodation_units_public', 'delete, insert, select, update'),
        (13, 'privileges', 'anon on accommodation_unit_migrations', 'none'),
        (13, 'privileges', 'authenticated on accommodation_unit_migrations', 'select'),
        (13, 'privileges', 'anon on prospective_sessions_archive', 'none'),
        (13, 'privileges', 'authenticated on prospective_sessions_archive', 'select'),
        (13, 'privileges', 'anon on prospective_sessions_cleanups', 'none'),
        (13, 'privileges', 'authenticated on prospective_sessions_cleanups', 'none'),
        (13, 'privileges', 'anon on public_chat_funnel', 'none'),
        (13, 'privileges', 'authenticated on public_chat_funnel', 'none'),
        (14, 'watch on', 'tenant_registry', 'DELETE, INSERT, TRUNCATE, UPDATE'),
        (14, 'watch on', 'accommodation_units_public', 'DELETE, INSERT, TRUNCATE, UPDATE'),
        (14, 'watch on', 'prospective_sessions', 'DELETE, INSERT, TRUNCATE, UPDATE'),
        (14, 'watch on', 'prospective_sessions_archive', 'DELETE, INSERT, TRUNCATE, UPDATE'),
        (14, 'watch on', 'guest_reservations', 'DELETE, INSERT, TRUNCATE, UPDATE'),
        (15, 'embeddings follow', 'accommodation_units_public', 'INSERT, UPDATE'),
        (16, 'count', 'named indexes of prospective_sessions', '4'),
        (16, 'count', 'named indexes of accommodation_units_public', '3'),
        (16, 'count', 'sessions with more than twenty messages', '0'),
        (16, 'count', 'sessions linked to another house''s reservation', '0'),
        (16, 'count', 'short descriptions of more than 150 characters', '0'),
        (16, 'count', 'rows of public_chat_funnel that differ from public_chat_funnel_live', '0')
),
present (kind, name, found) AS (
    SELECT 'extension', e.extname::text, 'installed' FROM pg_catalog.pg_extension AS e

    UNION ALL
    SELECT 'role', r.rolname::text, CASE WHEN r.rolcanlogin THEN 'can log in' ELSE 'cannot log in' END
    FROM pg_catalog.pg_roles AS r

    UNION ALL
    SELECT 'table', c.relname::text, 'row-level security ' || CASE WHEN c.relrowsecurity THEN 'on' ELSE 'off' END
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')

    UNION ALL
    SELECT 'view', c.relname::text, CASE WHEN c.relispopulated THEN 'populated' ELSE 'not populated' END
    FROM pg_catalog.pg_class AS c
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('v', 'm')

    UNION ALL
    SELECT
        'column', c.relname || '.' || a.attname,
        concat_ws(
            ' ',
            -- The extension's schema is not the pack's to say.
            regexp_replace(format_type(a.atttypid, a.atttypmod), '^[^(]*\.', ''),
            CASE WHEN a.attnotnull THEN 'not null' END,
            CASE WHEN a.attgenerated = 's' THEN 'generated as ' ELSE 'default ' END
                || replace(pg_get_expr(d.adbin, d.adrelid), 'public.', '')
        )
    FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE c.relnamespace = to_regnamespace('public') AND a.attnum > 0 AND NOT a.attisdropped

    UNION ALL
    SELECT
        'index', i.relname::text,
        CASE WHEN x.indisvalid THEN '' ELSE 'invalid, ' END || CASE WHEN x.indisunique THEN 'unique, ' ELSE '' END
            || 'on ' || c.relname || ' using '
            || regexp_replace(split_part(pg_get_indexdef(i.oid), ' USING ', 2), '[a-z_]+\.(?=vector_cosine_ops)', '')
    FROM pg_catalog.pg_index AS x
    JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
    JOIN pg_catalog.pg_class AS c ON c.oid = x.indrelid
    WHERE i.relnamespace = to_regnamespace('public')

    UNION ALL
    SELECT 'constraint', c.relname || '.' || k.conname, replace(pg_get_constraintdef(k.oid), 'public.', '')
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
    WHERE k.connamespace = to_regnamespace('public')

    UNION ALL
    SELECT
        'trigger', t.tgname::text,
        CASE WHEN t.tgenabled IN ('O', 'A') THEN '' ELSE 'disabled, ' END
            || replace(regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER \S+ ', ''), 'public.', '')
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.relnamespace = to_regnamespace('public')

    UNION ALL
    SELECT
        'function', f.proname || '(' || regexp_replace(
            replace(pg_get_function_identity_arguments(f.oid), 'public.', ''), '[a-z_]+\.(?=vector)', '', 'g'
        ) || ')',
        concat_ws(
            ', ',
            'returns ' || replace(pg_get_function_result(f.oid), 'public.', ''),
            l.lanname,
            CASE f.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
            CASE WHEN f.prosecdef THEN 'security definer' END,
            CASE WHEN EXISTS (SELECT FROM unnest(f.proconfig) AS s WHERE s LIKE 'search_path=pg_catalog,%pg_temp')
                THEN 'search path pinned' END
        )
    FROM pg_catalog.pg_proc AS f
    JOIN pg_catalog.pg_language AS l ON l.oid = f.prolang
    WHERE f.pronamespace = to_regnamespace('public')

    UNION ALL
    SELECT 'arguments of function', f.proname::text, regexp_replace(pg_get_function_arguments(f.oid), '[a-z_]+\.(?=vector)', '', 'g')
    FROM pg_catalog.pg_proc AS f
    WHERE f.pronamespace = to_regnamespace('public') AND f.proname = 'match_accommodations_public'

    UNION ALL
    -- Of PUBLIC and those who come from outside.
    SELECT
        'who may run', f.proname::text,
        coalesce((
            SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' ORDER BY r.rolname COLLATE "C")
            FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS a
            LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
            WHERE a.grantee = 0 OR r.rolname IN ('anon', 'authenticated')
        ), 'neither')
    FROM pg_catalog.pg_proc AS f
    WHERE f.pronamespace = to_regnamespace('public')

    UNION ALL
    SELECT
        'policy', c.relname || '.' || p.polname,
        concat_ws(
            ' ',
            CASE p.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END,
            CASE WHEN p.polpermissive THEN 'to' ELSE 'restricting' END,
            (SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' ORDER BY r.rolname COLLATE "C")
             FROM unnest(p.polroles) AS o (id) LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = o.id),
            'using ' || regexp_replace(replace(pg_get_expr(p.polqual, p.polrelid), 'public.', ''), '\s+', ' ', 'g'),
            'check ' || regexp_replace(replace(pg_get_expr(p.polwithcheck, p.polrelid), 'public.', ''), '\s+', ' ', 'g')
        )
    FROM pg_catalog.pg_policy AS p
    JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
    WHERE c.relnamespace = to_regnamespace('public')

    UNION ALL
    SELECT
        'privileges', r.rolname || ' on ' || c.relname,
        coalesce(
            nullif(concat_ws(
                ', ',
                (SELECT string_agg(lower(a.privilege_type), ', ' ORDER BY a.privilege_type)
                 FROM aclexplode(c.relacl) AS a WHERE a.grantee IN (r.oid, 0)),
                (SELECT string_agg(lower(g.privilege_type) || ' of ' || g.columns, ', ' ORDER BY g.privilege_type)
                 FROM (
                     SELECT e.privilege_type, string_agg(a.attname, ' ' ORDER BY a.attname COLLATE "C") AS columns
                     FROM pg_catalog.pg_attribute AS a
                     CROSS JOIN LATERAL aclexplode(a.attacl) AS e
                     WHERE a.attrelid = c.oid AND e.grantee IN (r.oid, 0)
                     GROUP BY e.privilege_type
                 ) AS g)
            ), ''),
            'none'
        )
    FROM pg_catalog.pg_class AS c
    CROSS JOIN pg_catalog.pg_roles AS r
    WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p', 'v', 'm') AND r.rolname IN ('anon', 'authenticated')

    UNION ALL
    SELECT 'watch on', c.relname::text, string_agg(DISTINCT event.name, ', ' ORDER BY event.name)
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN (VALUES (4, 'INSERT'), (8, 'DELETE'), (16, 'UPDATE'), (32, 'TRUNCATE')) AS event (bit, name)
        ON t.tgtype & event.bit <> 0
    WHERE t.tgfoid = to_regprocedure('public.notify_event_refresh()') AND c.relnamespace = to_regnamespace('public')
        AND t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0 AND t.tgenabled IN ('O', 'A')
    GROUP BY c.relname

    UNION ALL
    SELECT 'embeddings follow', c.relname::text, string_agg(DISTINCT event.name, ', ' ORDER BY event.name)
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
    JOIN (VALUES (4, 'INSERT'), (16, 'UPDATE')) AS event (bit, name) ON t.tgtype & event.bit <> 0
    WHERE t.tgfoid = to_regprocedure('afresh.queue_embedding()') AND c.relnamespace = to_regnamespace('public')
        AND encode(t.tgargs, 'escape') LIKE 'content\\000%' AND t.tgenabled IN ('O', 'A')
    GROUP BY c.relname

    UNION ALL
    SELECT 'count', 'named indexes of ' || o.table_name, count(i.oid)::text
    FROM (VALUES
        ('prospective_sessions', '^idx_prospective_sessions_(cookie|tenant|expires|intent_gin)$'),
        ('accommodation_units_public', '^idx_accommodation_public_(tenant|type|embedding_fast_hnsw)$')
    ) AS o (table_name, names)
    LEFT JOIN pg_catalog.pg_index AS x ON x.indrelid = to_regclass('public.' || o.table_name)
    LEFT JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid AND i.relname ~ o.names
    GROUP BY o.table_name

    UNION ALL
    -- What the rows are: asked for by ts_stat, a function of every PostgreSQL that takes a statement as text and hands back
    -- the words in its answer: so a table that is missing makes its own checks fail, and not this whole query.
    SELECT
        'count', q.name,
        CASE WHEN q.ready THEN (SELECT a.word FROM ts_stat('SELECT array_to_tsvector(ARRAY[count(*)::text]) FROM ' || q.rows) AS a) END
    FROM (VALUES
        (
            'sessions with more than twenty messages',
            (SELECT count(*) = 1 FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = to_regclass('public.prospective_sessions') AND a.attname = 'conversation_history'),
            'public.prospective_sessions WHERE jsonb_array_length(conversation_history) > 20'
        ),
        (
            'sessions linked to another house''s reservation',
            (SELECT count(*) = 4 FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = to_regclass('public.prospective_sessions')
                AND a.attname IN ('tenant_id', 'converted_to_reservation_id')
                OR a.attrelid = to_regclass('public.guest_reservations') AND a.attname IN ('tenant_id', 'id')),
            'public.prospective_sessions AS s JOIN public.guest_reservations AS r ON r.id = s.converted_to_reservation_id '
            'WHERE r.tenant_id <> s.tenant_id'
        ),
        (
            'short descriptions of more than 150 characters',
            (SELECT count(*) = 1 FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = to_regclass('public.accommodation_units_public') AND a.attname = 'short_description'),
            'public.accommodation_units_public WHERE char_length(short_description) > 150'
        ),
        (
            'rows of public_chat_funnel that differ from public_chat_funnel_live',
            (SELECT c.relispopulated FROM pg_catalog.pg_class AS c WHERE c.oid = to_regclass('public.public_chat_funnel'))
                AND to_regclass('public.public_chat_funnel_live') IS NOT NULL,
            '((TABLE public.public_chat_funnel EXCEPT ALL TABLE public.public_chat_funnel_live) UNION ALL '
            '(TABLE public.public_chat_funnel_live EXCEPT ALL TABLE public.public_chat_funnel)) AS different'
        )
    ) AS q (name, ready, rows)
)
SELECT
    e.kind || ' ' || e.name AS "check",
    e.expected,
    coalesce(p.found, 'missing') AS found,
    coalesce(p.found = e.expected, false) AS ok
FROM expected AS e
LEFT JOIN present AS p ON p.kind = e.kind AND p.name = e.name
ORDER BY e.part, e.name
