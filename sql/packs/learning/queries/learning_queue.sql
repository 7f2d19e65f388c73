-- $1 status or NULL, $2 shop or NULL (0: of none in particular), $3 page from 1 on, $4 items a page
--
-- The items of one page are found first, by an index, and then read: an embedding is long, and all that is said of it
-- is whether it is there.
SELECT
    item.id,
    item.status,
    item.source_type,
    item.source_id,
    item.shop_id,
    item.proposed_content,
    item.category,
    item.confidence_score,
    item.embedding IS NOT NULL AS has_embedding,
    item.metadata,
    item.created_at,
    item.reviewed_at,
    item.reviewed_by,
    item.applied_at,
    item.updated_at,
    total.items AS total
FROM (
    SELECT count(*) AS items
    FROM learning_queue AS counted
    WHERE ($1::text IS NULL OR counted.status = $1)
      AND ($2::integer IS NULL OR counted.shop_id = $2 OR ($2 = 0 AND counted.shop_id IS NULL))
) AS total
CROSS JOIN LATERAL (
    SELECT paged.*
    FROM learning_queue AS paged
    WHERE ($1::text IS NULL OR paged.status = $1)
      AND ($2::integer IS NULL OR paged.shop_id = $2 OR ($2 = 0 AND paged.shop_id IS NULL))
    ORDER BY paged.created_at DESC, paged.id
    LIMIT least(greatest($4::integer, 1), 500)
    OFFSET (greatest($3::integer, 1) - 1)::bigint * least(greatest($4, 1), 500)
) AS item
ORDER BY item.created_at DESC, item.id
