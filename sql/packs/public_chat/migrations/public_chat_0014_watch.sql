-- Watch the tables, so that a change of one is told
-- depends: public_chat_0013_public_chat_funnel

-- migrate: apply

-- The cookie is no key: keys are told to subscribers, and who knows a cookie reads its conversation.
SELECT afresh.watch('public.tenant_registry', ARRAY['tenant_id']);
SELECT afresh.watch('public.accommodation_units_public', ARRAY['tenant_id']);
SELECT afresh.watch('public.prospective_sessions', ARRAY['tenant_id']);
SELECT afresh.watch('public.prospective_sessions_archive', ARRAY['tenant_id']);
SELECT afresh.watch('public.guest_reservations', ARRAY['tenant_id']);

-- One queue for both embeddings of a unit: they are made of one text.
SELECT afresh.watch_embedding('public.accommodation_units_public', 'content');

-- migrate: rollback

SELECT afresh.unwatch_embedding('public.accommodation_units_public', 'content');
SELECT afresh.unwatch('public.guest_reservations');
SELECT afresh.unwatch('public.prospective_sessions_archive');
SELECT afresh.unwatch('public.prospective_sessions');
SELECT afresh.unwatch('public.accommodation_units_public');
SELECT afresh.unwatch('public.tenant_registry');
