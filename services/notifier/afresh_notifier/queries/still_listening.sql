SELECT pg_catalog.pg_backend_pid() = $1::int
    AND EXISTS (SELECT FROM pg_catalog.pg_listening_channels() AS channel WHERE channel = $2::text)
