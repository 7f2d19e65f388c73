-- How long a job's statement may take, and that its names mean what they mean to its writer.
SELECT
    pg_catalog.set_config('statement_timeout', $1::text, true),
    pg_catalog.set_config('search_path', 'public', true)
