-- What one transaction of ours may take. The last two end it soon where we are gone: between statements, and, on the
-- systems where the server can see it, in the middle of one.
SELECT
    pg_catalog.set_config('statement_timeout', $1::text, true),
    pg_catalog.set_config('lock_timeout', $2::text, true),
    pg_catalog.set_config('idle_in_transaction_session_timeout', '5s', true),
    CASE WHEN pg_catalog.version() ~ 'linux' THEN
        pg_catalog.set_config('client_connection_check_interval', '1s', true)
    END
