-- One random change such as a working day brings. Most are updates; what is inserted replaces the client's oldest
-- record once he has many of them, so that the tables stay about as large as they are, however long this runs.
DO $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    chance double precision := random();
    who text;
    contact_changes boolean := false;
BEGIN
    -- Ids have few holes, so the first one from a random place on is a random one, found by the index.
    SELECT c.client_name INTO who
    FROM public.nps_clients AS c
    WHERE c.id >= (
        SELECT min(n.id) + floor(random() * (max(n.id) - min(n.id) + 1))::bigint FROM public.nps_clients AS n
    )
    ORDER BY c.id
    LIMIT 1;
    IF who IS NULL THEN
        RETURN;
    END IF;

    CASE
        WHEN chance < 0.15 THEN
            -- A new response.
            DELETE FROM public.nps_responses
            WHERE id IN (
                SELECT r.id FROM public.nps_responses AS r
                WHERE r.client_name = who ORDER BY r.response_date DESC, r.id DESC OFFSET 11
            );
            INSERT INTO public.nps_responses (client_name, score, response_date)
            VALUES (who, floor(11 * power(random(), 0.4))::smallint, today);
        WHEN chance < 0.35 THEN
            -- A meeting is held or agreed.
            DELETE FROM public.unified_meetings
            WHERE id IN (
                SELECT m.id FROM public.unified_meetings AS m
                WHERE m.client_name = who ORDER BY m.meeting_date DESC, m.id DESC OFFSET 19
            );
            INSERT INTO public.unified_meetings (client_name, title, meeting_date)
            VALUES (who, 'Project status', today + floor(random() * 15)::integer - 7);
        WHEN chance < 0.45 THEN
            -- A new action.
            DELETE FROM public.actions
            WHERE id IN (
                SELECT a.id FROM public.actions AS a
                WHERE a."Client" = who ORDER BY a.created_at DESC, a.id DESC OFFSET 14
            );
            INSERT INTO public.actions ("Client", "Description", "Owner", "Status", "Due_Date")
            VALUES (who, 'Call back', 'Client success', 'Not Started', today + floor(random() * 30)::integer);
        WHEN chance < 0.60 THEN
            -- An action moves on, or is opened again.
            UPDATE public.actions
            SET "Status" = CASE "Status"
                    WHEN 'Not Started' THEN 'In Progress' WHEN 'In Progress' THEN 'Completed' ELSE 'Not Started'
                END,
                updated_at = now()
            WHERE id = (SELECT a.id FROM public.actions AS a WHERE a."Client" = who ORDER BY random() LIMIT 1);
        WHEN chance < 0.75 THEN
            -- An event takes place, or turns out not to have.
            UPDATE public.segmentation_events
            SET completed = NOT completed, updated_at = now()
            WHERE id = (
                SELECT e.id FROM public.segmentation_events AS e
                WHERE e.client_name = who AND e.event_date <= today ORDER BY random() LIMIT 1
            );
        WHEN chance < 0.90 THEN
            -- Compliance with one event type is assessed anew.
            UPDATE public.segmentation_event_compliance AS record
            SET actual_count = assessed.actual_count,
                compliance_percentage = trunc(100.0 * assessed.actual_count / record.expected_count, 2),
                status = CASE
                    WHEN 2 * assessed.actual_count < record.expected_count THEN 'critical'
                    WHEN assessed.actual_count < record.expected_count THEN 'at-risk'
                    WHEN assessed.actual_count = record.expected_count THEN 'compliant'
                    ELSE 'exceeded'
                END,
                updated_at = now()
            FROM (
                SELECT
                    r.id,
                    CASE WHEN r.actual_count > r.expected_count THEN 0 ELSE r.actual_count + 1 END AS actual_count
                FROM public.segmentation_event_compliance AS r
                WHERE r.client_name = who AND r.expected_count > 0 ORDER BY random() LIMIT 1
            ) AS assessed
            WHERE record.id = assessed.id;
        WHEN chance < 0.98 THEN
            -- A response is corrected.
            UPDATE public.nps_responses
            SET score = score + CASE WHEN score = 10 OR score > 0 AND random() < 0.5 THEN -1 ELSE 1 END,
                updated_at = now()
            WHERE id = (SELECT r.id FROM public.nps_responses AS r WHERE r.client_name = who ORDER BY random() LIMIT 1);
        ELSE
            contact_changes := true;
    END CASE;

    IF contact_changes OR NOT FOUND THEN
        -- The client gets another contact; so does one who had no record that could have changed.
        UPDATE public.nps_clients
        SET cse = CASE WHEN cse = 'Noor Rahman' THEN 'Oscar Lindqvist' ELSE 'Noor Rahman' END, updated_at = now()
        WHERE client_name = who;
    END IF;
END
$$
