-- Watch the base tables, so that a change of one refreshes the overview
-- depends: shows_0007_functions

-- migrate: apply

SELECT afresh.watch('shows.sessions_htx', ARRAY['source_id']);
SELECT afresh.watch('shows.orders_htx', ARRAY['session_source_id']);
SELECT afresh.watch('shows.tickets_htx', ARRAY['session_source_id']);
SELECT afresh.watch('shows.orders_eventbrite', ARRAY['session_source_id']);
SELECT afresh.watch('shows.tickets_eventbrite', ARRAY['session_source_id']);
SELECT afresh.watch('shows.session_sources', ARRAY['stable_session_id']);
SELECT afresh.watch('shows.events', ARRAY['source_key']);
SELECT afresh.watch('shows.event_spots', ARRAY['event_id']);
SELECT afresh.watch('shows.event_applications', ARRAY['event_id']);

-- A row of these may concern sessions without number: no key would say which.
SELECT afresh.watch('shows.events_htx');
SELECT afresh.watch('shows.customers_htx');
SELECT afresh.watch('shows.venues');
SELECT afresh.watch('shows.profiles');

-- migrate: rollback

SELECT afresh.unwatch('shows.profiles');
SELECT afresh.unwatch('shows.venues');
SELECT afresh.unwatch('shows.customers_htx');
SELECT afresh.unwatch('shows.events_htx');
SELECT afresh.unwatch('shows.event_applications');
SELECT afresh.unwatch('shows.event_spots');
SELECT afresh.unwatch('shows.events');
SELECT afresh.unwatch('shows.session_sources');
SELECT afresh.unwatch('shows.tickets_eventbrite');
SELECT afresh.unwatch('shows.orders_eventbrite');
SELECT afresh.unwatch('shows.tickets_htx');
SELECT afresh.unwatch('shows.orders_htx');
SELECT afresh.unwatch('shows.sessions_htx');
