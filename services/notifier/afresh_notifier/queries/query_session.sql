-- A connection that named queries run on: where we are gone, the server notices in the middle of a statement, on the
-- systems where it can.
SELECT
    CASE WHEN pg_catalog.version() ~ 'linux' THEN
        pg_catalog.set_config('client_connection_check_interval', '1s', false)
    END
