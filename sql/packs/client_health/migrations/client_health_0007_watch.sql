-- Watch the base tables, so that a change of one refreshes the summaries
-- depends: client_health_0006_event_compliance_summary

-- migrate: apply

SELECT afresh.watch('public.nps_clients', ARRAY['client_name']);
SELECT afresh.watch('public.nps_responses', ARRAY['client_name']);
SELECT afresh.watch('public.unified_meetings', ARRAY['client_name']);
SELECT afresh.watch('public.actions', ARRAY['Client']);
SELECT afresh.watch('public.segmentation_events', ARRAY['client_name']);
SELECT afresh.watch('public.segmentation_event_compliance', ARRAY['client_name']);

-- A row of these concerns every client of a tier: no key would say whom.
SELECT afresh.watch('public.segmentation_tiers');
SELECT afresh.watch('public.segmentation_event_types');
SELECT afresh.watch('public.tier_event_requirements');

-- migrate: rollback

SELECT afresh.unwatch('public.tier_event_requirements');
SELECT afresh.unwatch('public.segmentation_event_types');
SELECT afresh.unwatch('public.segmentation_tiers');
SELECT afresh.unwatch('public.segmentation_event_compliance');
SELECT afresh.unwatch('public.segmentation_events');
SELECT afresh.unwatch('public.actions');
SELECT afresh.unwatch('public.unified_meetings');
SELECT afresh.unwatch('public.nps_responses');
SELECT afresh.unwatch('public.nps_clients');
