-- The last one makes the server notice, on the systems where it can, that we are gone in the middle of a long refresh.
SELECT
    pg_catalog.set_config('statement_timeout', $1::text, true),
    pg_catalog.set_config('lock_timeout', $2::text, true),
    CASE WHEN pg_catalog.version() ~ 'linux' THEN
        pg_catalog.set_config('client_connection_check_interval', '1s', true)
    END
