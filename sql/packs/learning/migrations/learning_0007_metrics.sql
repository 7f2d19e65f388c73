-- daily_learning_metrics and response_performance_metrics, with their indexes
-- depends: learning_0006_batch

-- migrate: apply

-- A day is a date in UTC, whatever the session's time zone, and an item belongs to the day on which it was made. The
-- shop 0 stands for items of no shop in particular, whose shop_id is NULL or 0: a NULL in the unique key would make
-- every refresh write those rows anew. Neither view reads the clock.
CREATE VIEW public.daily_learning_metrics_live AS
SELECT
    (item.created_at AT TIME ZONE 'UTC')::date AS date,
    coalesce(item.shop_id, 0) AS shop_id,
    item.source_type,
    item.status,
    count(*) AS count,
    round(avg(item.confidence_score), 2)::numeric(5, 2) AS avg_confidence,
    min(item.created_at) AS first_item,
    max(item.created_at) AS last_item
FROM public.learning_queue AS item
GROUP BY (item.created_at AT TIME ZONE 'UTC')::date, coalesce(item.shop_id, 0), item.source_type, item.status;

-- avg_engagement and avg_response_time are over the responses that have a figure, and NULL where none has;
-- conversion_rate is over all of them, in per cent.
CREATE VIEW public.response_performance_metrics_live AS
SELECT
    (response.created_at AT TIME ZONE 'UTC')::date AS date,
    response.response_type,
    count(*) AS total_responses,
    round(avg(response.user_engagement_score), 2)::numeric(5, 2) AS avg_engagement,
    round(100.0 * count(*) FILTER (WHERE response.led_to_conversion) / count(*), 2)::numeric(5, 2) AS conversion_rate,
    round(avg(response.response_time_ms), 2) AS avg_response_time
FROM public.response_analytics AS response
GROUP BY (response.created_at AT TIME ZONE 'UTC')::date, response.response_type;

CREATE MATERIALIZED VIEW public.daily_learning_metrics AS
SELECT * FROM public.daily_learning_metrics_live;

CREATE MATERIALIZED VIEW public.response_performance_metrics AS
SELECT * FROM public.response_performance_metrics_live;

COMMENT ON VIEW public.daily_learning_metrics_live IS
    'What daily_learning_metrics holds, computed at the moment of asking';
COMMENT ON VIEW public.response_performance_metrics_live IS
    'What response_performance_metrics holds, computed at the moment of asking';
COMMENT ON MATERIALIZED VIEW public.daily_learning_metrics IS
    'Items of the learning queue by the day they were made (UTC), shop, source and status';
COMMENT ON COLUMN public.daily_learning_metrics.shop_id IS '0: no shop in particular';
COMMENT ON MATERIALIZED VIEW public.response_performance_metrics IS
    'How the assistant''s responses did, by day (UTC) and type of response';
COMMENT ON COLUMN public.response_performance_metrics.conversion_rate IS 'In per cent of all responses';
COMMENT ON COLUMN public.response_performance_metrics.avg_response_time IS 'In milliseconds';

CREATE UNIQUE INDEX idx_daily_learning_metrics_key
ON public.daily_learning_metrics (date, shop_id, source_type, status);
CREATE INDEX idx_daily_learning_metrics_shop ON public.daily_learning_metrics (shop_id, date DESC);
CREATE INDEX idx_daily_learning_metrics_status ON public.daily_learning_metrics (status, date DESC);

CREATE UNIQUE INDEX idx_response_performance_metrics_key
ON public.response_performance_metrics (date, response_type);
CREATE INDEX idx_response_performance_metrics_type
ON public.response_performance_metrics (response_type, date DESC);

-- migrate: rollback

-- Without CASCADE: a view or function of somebody else's that reads the metrics is named in the error, not dropped
-- with them.
DROP MATERIALIZED VIEW IF EXISTS public.response_performance_metrics;
DROP MATERIALIZED VIEW IF EXISTS public.daily_learning_metrics;
DROP VIEW IF EXISTS public.response_performance_metrics_live;
DROP VIEW IF EXISTS public.daily_learning_metrics_live;
