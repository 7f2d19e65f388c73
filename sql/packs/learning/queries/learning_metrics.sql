-- $1 first day or NULL, $2 last day or NULL, $3 shop or NULL
SELECT date, shop_id, source_type, status, count, avg_confidence, first_item, last_item
FROM daily_learning_metrics
WHERE ($1::date IS NULL OR date >= $1) AND ($2::date IS NULL OR date <= $2)
  AND ($3::integer IS NULL OR shop_id = $3)
ORDER BY date DESC, shop_id, source_type, status
