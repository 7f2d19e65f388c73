-- One random change such as an evening of sales brings. What is inserted replaces the session's oldest order once it has
-- many, so that the tables stay about as large as they are, however long this runs.
DO $$
DECLARE
    chance double precision := random();
    number text := gen_random_uuid()::text;
    sold integer := 1 + floor(random() * 3)::integer;
    spot uuid;
    session text;
    event text;
BEGIN
    -- Source ids are hashes, so the first one from a random one on is a random one, found by the index.
    CASE
        WHEN chance < 0.45 THEN
            SELECT s.source_id, s.event_source_id INTO session, event
            FROM shows.sessions_htx AS s
            WHERE s.source_id >= (SELECT left(md5(random()::text), 24))
            ORDER BY s.source_id LIMIT 1;
            IF session IS NULL THEN
                SELECT s.source_id, s.event_source_id INTO session, event
                FROM shows.sessions_htx AS s ORDER BY s.source_id LIMIT 1;
            END IF;
            IF session IS NOT NULL THEN
                -- An order of a few tickets.
                DELETE FROM shows.tickets_htx AS t
                WHERE t.session_source_id = session AND t.order_source_id IN (
                    SELECT o.source_id FROM shows.orders_htx AS o
                    WHERE o.session_source_id = session ORDER BY o.ordered_at DESC, o.source_id OFFSET 9
                );
                DELETE FROM shows.orders_htx
                WHERE source_id IN (
                    SELECT o.source_id FROM shows.orders_htx AS o
                    WHERE o.session_source_id = session ORDER BY o.ordered_at DESC, o.source_id OFFSET 9
                );
                INSERT INTO shows.orders_htx (
                    source_id, session_source_id, event_source_id, status, first_name, last_name, ordered_at, payload
                )
                VALUES (
                    number, session, event, 'complete', 'Walk', 'In', now(),
                    jsonb_build_object(
                        'currency', 'AUD',
                        'totals', jsonb_build_object('total', 30 * sold, 'humanitixFee', 1.2 * sold, 'taxes', 2.73 * sold)
                    )
                );
                INSERT INTO shows.tickets_htx (
                    source_id, order_source_id, session_source_id, event_source_id, ticket_type, status, payload
                )
                SELECT number || '-' || k, number, session, event, 'General admission', 'complete', '{"price": 30}'
                FROM generate_series(1, sold) AS k;
            END IF;
        WHEN chance < 0.65 THEN
            -- The same at Eventbrite; its ids are numbers, so a random row is found by their uuid.
            SELECT o.session_source_id INTO session
            FROM shows.orders_eventbrite AS o WHERE o.id >= (SELECT gen_random_uuid()) ORDER BY o.id LIMIT 1;
            IF session IS NOT NULL THEN
                DELETE FROM shows.orders_eventbrite
                WHERE source_id IN (
                    SELECT o.source_id FROM shows.orders_eventbrite AS o
                    WHERE o.session_source_id = session ORDER BY o.ordered_at DESC, o.source_id OFFSET 9
                );
                INSERT INTO shows.orders_eventbrite (
                    source_id, session_source_id, status, first_name, last_name, ordered_at, payload
                )
                VALUES (
                    number, session, 'placed', 'Click', 'Through', now(),
                    jsonb_build_object('costs', jsonb_build_object(
                        'gross', jsonb_build_object('value', 3000 * sold, 'currency', 'AUD'),
                        'eventbrite_fee', jsonb_build_object('value', 150 * sold)
                    ))
                );
            END IF;
        WHEN chance < 0.75 THEN
            -- An order is cancelled, or is not after all.
            UPDATE shows.orders_htx
            SET status = CASE WHEN is_counted THEN 'cancelled' ELSE 'complete' END
            WHERE id = (
                SELECT o.id FROM shows.orders_htx AS o WHERE o.id >= (SELECT gen_random_uuid()) ORDER BY o.id LIMIT 1
            )
            RETURNING session_source_id INTO session;
        WHEN chance < 0.92 THEN
            -- A spot is given away, or becomes free again.
            SELECT s.id INTO spot FROM shows.event_spots AS s WHERE s.id >= (SELECT gen_random_uuid()) ORDER BY s.id LIMIT 1;
            UPDATE shows.event_spots
            SET status = CASE WHEN status = 'confirmed' THEN 'available' ELSE 'confirmed' END,
                performer_id = CASE WHEN status <> 'confirmed' THEN coalesce(
                    performer_id,
                    (SELECT p.id FROM shows.profiles AS p WHERE p.id >= (SELECT gen_random_uuid()) ORDER BY p.id LIMIT 1)
                ) END,
                updated_at = now()
            WHERE id = spot
            RETURNING id::text INTO session;
        ELSE
            -- An application is decided, or is open again.
            UPDATE shows.event_applications
            SET status = CASE WHEN status = 'pending' THEN 'accepted' ELSE 'pending' END, updated_at = now()
            WHERE id = (
                SELECT a.id FROM shows.event_applications AS a WHERE a.id >= (SELECT gen_random_uuid()) ORDER BY a.id LIMIT 1
            )
            RETURNING id::text INTO session;
    END CASE;

    IF session IS NULL THEN
        -- There was nothing of that kind: a venue is looked at, and its address written down again in another way.
        UPDATE shows.venues
        SET postcode = CASE WHEN postcode = '2000' THEN '2001' ELSE '2000' END, updated_at = now()
        WHERE id = (SELECT v.id FROM shows.venues AS v ORDER BY v.id LIMIT 1);
    END IF;
END
$$
