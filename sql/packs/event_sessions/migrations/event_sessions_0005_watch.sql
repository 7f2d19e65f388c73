-- Watch the base tables, so that a change of one refreshes the views
-- depends: event_sessions_0004_mv_sessions_next_60

-- migrate: apply

SELECT afresh.watch('public.events', ARRAY['id']);
SELECT afresh.watch('public.event_speakers', ARRAY['id']);
SELECT afresh.watch('public.event_attendees', ARRAY['event_id', 'contractor_id']);
SELECT afresh.watch('public.contractors', ARRAY['id']);

-- The agenda has a row-level trigger, by which it is told of since before there were watches. What it tells is in no
-- log: while nobody listens it is missed, which Afresh knows, and makes good by refreshing. But it says nothing of a
-- TRUNCATE, and is silent in a session that replicates (session_replication_role), and that nobody could make good. So the
-- agenda is watched as well. A change is then told twice, by its notification and in the log. Both are there with the
-- commit, and as a rule taken in one look and refreshed once; where they are not, the second refresh finds nothing new.
SELECT afresh.watch('public.event_agenda_items', ARRAY['event_id']);

CREATE TRIGGER trigger_event_agenda_items_refresh
AFTER INSERT OR UPDATE OR DELETE ON public.event_agenda_items
FOR EACH ROW
EXECUTE FUNCTION public.notify_event_refresh();

COMMENT ON TRIGGER trigger_event_agenda_items_refresh ON public.event_agenda_items IS
    'Tells Afresh, row by row, that an agenda has changed: the views over sessions are refreshed';

-- migrate: rollback

DROP TRIGGER IF EXISTS trigger_event_agenda_items_refresh ON public.event_agenda_items;
SELECT afresh.unwatch('public.event_agenda_items');
SELECT afresh.unwatch('public.contractors');
SELECT afresh.unwatch('public.event_attendees');
SELECT afresh.unwatch('public.event_speakers');
SELECT afresh.unwatch('public.events');
