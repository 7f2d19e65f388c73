-- $1 search, $2 city, $3 starts_from, $4 starts_before, $5 month, $6 week, $7 min_available_spots, $8 provider, each or NULL,
-- $9 eventbrite_only
-- Dollars of different currencies are not added up: sessions that have sold nothing, and have no currency, are a row too.
SELECT
    currency,
    count(*) AS sessions,
    count(*) FILTER (WHERE is_eventbrite_only) AS eventbrite_only_sessions,
    sum(available_spots) AS available_spots,
    sum(total_orders) AS total_orders,
    sum(total_tickets) AS total_tickets,
    sum(total_gross) AS total_gross,
    sum(total_net) AS total_net,
    sum(total_fees) AS total_fees,
    sum(total_tax) AS total_tax
FROM shows.browse(
    $1::text, $2::text, $3::timestamp, $4::timestamp, $5::date, $6::date, $7::integer, $8::text, $9::text
)
GROUP BY currency
ORDER BY currency
