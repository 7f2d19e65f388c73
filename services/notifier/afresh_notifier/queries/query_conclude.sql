-- A row $1 as it goes to the client: with the answer $4 in the column $3, and without $2, which was for the model.
SELECT (
    ($1::jsonb OPERATOR(pg_catalog.-) $2::text)
    OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object($3::text, $4::text)
)::text
