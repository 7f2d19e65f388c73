-- What the metrics say of the item's day, shop and source.
SELECT
    metrics.date,
    metrics.shop_id,
    metrics.source_type,
    coalesce(sum(metrics.count) FILTER (WHERE metrics.status = 'pending'), 0)::bigint AS pending,
    coalesce(sum(metrics.count) FILTER (WHERE metrics.status = 'rejected'), 0)::bigint AS rejected,
    coalesce(sum(metrics.count) FILTER (WHERE metrics.status NOT IN ('pending', 'rejected')), 0)::bigint AS other
FROM public.learning_queue AS item
JOIN public.daily_learning_metrics AS metrics
    ON metrics.date = (item.created_at AT TIME ZONE 'UTC')::date
        AND metrics.shop_id = coalesce(item.shop_id, 0)
        AND metrics.source_type = item.source_type
WHERE item.id = $1
GROUP BY metrics.date, metrics.shop_id, metrics.source_type
