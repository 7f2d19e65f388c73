-- For the end of a refresh: names mean what they mean to us again, and a lock is worth a longer wait than all was before.
SELECT set_config('search_path', 'pg_catalog', true), set_config('lock_timeout', '3s', true)
