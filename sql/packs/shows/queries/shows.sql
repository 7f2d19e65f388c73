-- $1 search, $2 city, $3 starts_from, $4 starts_before, $5 month, $6 week, $7 min_available_spots, $8 provider, each or NULL,
-- $9 eventbrite_only, $10 limit, $11 offset
SELECT
    stable_session_id,
    stable_event_id,
    session_id,
    event_id,
    provider,
    event_name,
    session_name,
    session_status,
    promoter_name,
    is_recurring,
    session_start,
    session_end,
    timezone,
    session_start_local,
    session_date,
    start_time,
    end_time,
    venue_id,
    venue_name,
    venue_address,
    venue_city,
    venue_state,
    venue_lat,
    venue_lng,
    event_url,
    banner_url,
    banner_metadata,
    available_spots,
    application_count,
    waitlist_count,
    lineup,
    currency,
    total_orders,
    total_tickets,
    total_gross,
    total_net,
    total_fees,
    total_tax
FROM shows.browse(
    $1::text, $2::text, $3::timestamp, $4::timestamp, $5::date, $6::date, $7::integer, $8::text, $9::text
)
ORDER BY session_start_local, stable_session_id
LIMIT $10::integer
OFFSET $11::integer
