-- Texts whose embeddings are to follow them
-- depends: learning_0008_watch

-- migrate: apply

SELECT afresh.watch_embedding('public.knowledge_base', 'content');
SELECT afresh.watch_embedding('public.learning_queue', 'proposed_content');
SELECT afresh.watch_embedding('public.voice_transcripts', 'transcript');

-- migrate: rollback

SELECT afresh.unwatch_embedding('public.voice_transcripts', 'transcript');
SELECT afresh.unwatch_embedding('public.learning_queue', 'proposed_content');
SELECT afresh.unwatch_embedding('public.knowledge_base', 'content');
