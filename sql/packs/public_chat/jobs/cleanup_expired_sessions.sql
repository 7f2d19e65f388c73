-- Deletes expired active sessions, archives those converted more than ninety days ago; what it did is a row of
-- prospective_sessions_cleanups. Also for psql and any other scheduler.
SELECT expired_deleted, converted_archived, milliseconds FROM public.cleanup_expired_sessions()
