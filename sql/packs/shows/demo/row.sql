-- The row of the overview that the demo shows before and after, without its wide columns.
SELECT
    stable_session_id,
    event_name,
    session_name,
    session_start_local,
    venue_name,
    venue_city,
    total_orders,
    total_tickets,
    total_gross,
    total_net,
    total_fees,
    total_tax,
    available_spots
FROM shows.event_sessions_overview_mv
WHERE stable_session_id = $1::text
