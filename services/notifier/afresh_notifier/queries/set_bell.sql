-- Let writers ring for so many seconds; none: silence.
SELECT setval(
    'afresh.bell',
    CASE WHEN $1::int > 0 THEN ceil(extract(EPOCH FROM clock_timestamp()))::bigint + $1::int ELSE 1 END
)
