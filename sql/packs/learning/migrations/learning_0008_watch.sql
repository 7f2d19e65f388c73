-- What the views and the endpoints read is watched
-- depends: learning_0007_metrics

-- migrate: apply

SELECT afresh.watch('public.learning_queue');
SELECT afresh.watch('public.response_analytics');
SELECT afresh.watch('public.knowledge_base');

-- migrate: rollback

SELECT afresh.unwatch('public.knowledge_base');
SELECT afresh.unwatch('public.response_analytics');
SELECT afresh.unwatch('public.learning_queue');
