-- One random change such as a day at an event brings. Who leaves an event comes to another, and what is long over is put on
-- the agenda again, so that the tables stay as large as they are and the views hold rows, however long this runs.
DO $$
DECLARE
    chance double precision := random();
    someone integer;
    somewhere integer;
    item record;
BEGIN
    -- Ids have few holes, so the first one from a random place on is a random one, found by the index.
    SELECT c.id INTO someone
    FROM public.contractors AS c
    WHERE c.id >= (SELECT min(n.id) + floor(random() * (max(n.id) - min(n.id) + 1))::integer FROM public.contractors AS n)
    ORDER BY c.id
    LIMIT 1;
    SELECT e.id INTO somewhere
    FROM public.events AS e
    WHERE e.id >= (SELECT min(n.id) + floor(random() * (max(n.id) - min(n.id) + 1))::integer FROM public.events AS n)
    ORDER BY e.id
    LIMIT 1;
    IF someone IS NULL OR somewhere IS NULL THEN
        RETURN;
    END IF;

    -- First of all, nobody shall wait in an empty house: a session that was over long ago begins again, forty hours
    -- after it did.
    SELECT session.session_id INTO item
    FROM public.event_sessions AS session
    WHERE session.event_id = somewhere AND session.session_ends_at < now() - interval '4 hours'
    ORDER BY session.session_ends_at
    LIMIT 1;
    IF FOUND THEN
        UPDATE public.event_agenda_items
        SET start_time = start_time + interval '40 hours', end_time = end_time + interval '40 hours', updated_at = now()
        WHERE id = item.session_id;
        RETURN;
    END IF;

    SELECT session.session_id, session.event_id INTO item
    FROM public.event_sessions AS session
    WHERE session.event_id = somewhere AND session.session_ends_at >= now()
    ORDER BY session.session_ends_at, random()
    LIMIT 1 OFFSET floor(random() * 3)::integer;

    CASE
        WHEN chance < 0.25 THEN
            -- A session is moved to another room.
            UPDATE public.event_agenda_items
            SET location = CASE location WHEN 'Hall A' THEN 'Hall B' WHEN 'Hall B' THEN 'Hall C' ELSE 'Hall A' END,
                updated_at = now()
            WHERE id = item.session_id;
        WHEN chance < 0.40 THEN
            -- A speaker drops out, or somebody steps in.
            UPDATE public.event_agenda_items AS a
            SET speaker_id = CASE WHEN a.speaker_id IS NULL THEN (
                    SELECT s.id FROM public.event_speakers AS s WHERE s.event_id = item.event_id ORDER BY random() LIMIT 1
                ) END,
                updated_at = now()
            WHERE a.id = item.session_id;
        WHEN chance < 0.50 THEN
            -- What was tentative is confirmed.
            UPDATE public.event_agenda_items
            SET status = CASE status WHEN 'tentative' THEN 'confirmed' WHEN 'confirmed' THEN 'scheduled' ELSE 'tentative' END,
                updated_at = now()
            WHERE id = item.session_id;
        WHEN chance < 0.80 THEN
            -- Somebody is interested in something else.
            UPDATE public.contractors
            SET focus_areas = (
                    SELECT jsonb_agg(area.name)::text
                    FROM (
                        SELECT name
                        FROM unnest(ARRAY['Estimating', 'Hiring', 'Leadership', 'Marketing', 'Pricing', 'Safety', 'Sales'])
                            AS name
                        ORDER BY random()
                        LIMIT 1 + floor(random() * 3)::integer
                    ) AS area
                ),
                updated_at = now()
            WHERE id = someone;
        ELSE
            -- Somebody goes over to another event, if he is not there already.
            UPDATE public.event_attendees AS a
            SET event_id = somewhere, registered_at = now()
            WHERE a.id = (SELECT o.id FROM public.event_attendees AS o WHERE o.contractor_id = someone ORDER BY random() LIMIT 1)
              AND NOT EXISTS (
                  SELECT FROM public.event_attendees AS o WHERE o.event_id = somewhere AND o.contractor_id = someone
              );
    END CASE;

    IF NOT FOUND THEN
        -- There was nothing of that kind to change: somebody signs in again.
        UPDATE public.contractors SET updated_at = clock_timestamp() WHERE id = someone;
    END IF;
END
$$
