-- $1 session_id: a uuid, a stable id, or a provider's id
SELECT
    dollars.*,
    cents.humanitix_gross_cents,
    cents.humanitix_net_cents,
    cents.humanitix_fees_cents,
    cents.humanitix_tax_cents,
    cents.eventbrite_gross_cents,
    cents.eventbrite_net_cents,
    cents.eventbrite_fees_cents,
    cents.eventbrite_tax_cents,
    cents.total_gross_cents,
    cents.total_net_cents,
    cents.total_fees_cents,
    cents.total_tax_cents
FROM (SELECT shows.find_session($1::text) AS stable_session_id) AS named
CROSS JOIN LATERAL (
    SELECT * FROM shows.session_financials AS one WHERE one.stable_session_id = named.stable_session_id
) AS dollars
CROSS JOIN LATERAL (
    SELECT * FROM shows.session_financials_agg AS one WHERE one.stable_session_id = named.stable_session_id
) AS cents
