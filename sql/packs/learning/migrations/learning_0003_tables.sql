-- The six tables of the learning pipeline, with their indexes
-- depends: learning_0002_prerequisites

-- migrate: apply

SELECT pg_catalog.set_config('search_path', concat_ws(
    ', ', nullif(current_setting('search_path'), ''), quote_ident(namespace.nspname)
), true)
FROM pg_catalog.pg_extension AS extension
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace
WHERE extension.extname = 'vector';

-- What people think of a response. shop_id, response_text and user_id may be left out: the shop is then the
-- conversation's.
CREATE TABLE public.conversation_feedback (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES public.conversations (id) ON DELETE CASCADE,
    feedback_type text NOT NULL CHECK (feedback_type IN ('thumbs_up', 'thumbs_down', 'rating', 'comment')),
    rating integer CHECK (rating BETWEEN 1 AND 5),
    reason text,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    shop_id integer CHECK (shop_id >= 0),
    response_text text,
    user_id uuid,
    CONSTRAINT conversation_feedback_rating_given CHECK (feedback_type <> 'rating' OR rating IS NOT NULL)
);

CREATE TABLE public.owner_corrections (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES public.conversations (id) ON DELETE CASCADE,
    original_response text NOT NULL,
    corrected_answer text NOT NULL CHECK (btrim(corrected_answer) <> ''),
    priority text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    correction_context text,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz,
    corrected_by uuid
);

-- One item for each source, so that nothing is learnt twice from one feedback or one correction; items written by hand
-- have no source_id, of which there may be any number.
CREATE TABLE public.learning_queue (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    status varchar NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'approved', 'rejected', 'applied', 'duplicate', 'failed')),
    source_type varchar NOT NULL
        CHECK (source_type IN ('feedback', 'correction', 'transcript', 'analytics', 'manual')),
    source_id uuid,
    shop_id integer CHECK (shop_id >= 0),
    proposed_content text NOT NULL CHECK (btrim(proposed_content) <> ''),
    category text,
    embedding vector(768),
    confidence_score integer NOT NULL DEFAULT 50 CHECK (confidence_score BETWEEN 0 AND 100),
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    reviewed_at timestamptz,
    applied_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    reviewed_by uuid,
    CONSTRAINT learning_queue_source_key UNIQUE (source_type, source_id)
);

CREATE TABLE public.response_analytics (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid NOT NULL REFERENCES public.conversations (id) ON DELETE CASCADE,
    response_text text NOT NULL,
    response_type text NOT NULL
        CHECK (response_type IN ('answer', 'recommendation', 'clarification', 'handoff', 'fallback')),
    user_engagement_score numeric(5, 2) CHECK (user_engagement_score BETWEEN 0 AND 100),
    led_to_conversion boolean NOT NULL DEFAULT false,
    response_time_ms integer CHECK (response_time_ms >= 0),
    ab_test_variant text,
    metrics jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metrics) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.voice_transcripts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid REFERENCES public.conversations (id) ON DELETE SET NULL,
    transcript text NOT NULL,
    processed_summary text,
    embedding vector(768),
    sentiment text NOT NULL DEFAULT 'neutral'
        CHECK (sentiment IN ('positive', 'neutral', 'negative', 'mixed')),
    entities jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(entities) IN ('object', 'array')),
    learning_insights jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(learning_insights) IN ('object', 'array')),
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- It outlives what it tells of, so it refers to nothing.
CREATE TABLE public.learning_audit_log (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    action text NOT NULL CHECK (action IN (
        'queued', 'updated', 'reopened', 'approved', 'rejected', 'applied', 'duplicate', 'failed', 'correction_applied'
    )),
    table_name text NOT NULL,
    record_id uuid NOT NULL,
    old_values jsonb,
    new_values jsonb,
    performed_by text NOT NULL DEFAULT session_user,
    performed_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.conversation_feedback IS
    'Reactions of users to the assistant''s responses; negative ones become items of the learning queue';
COMMENT ON COLUMN public.conversation_feedback.rating IS '1 (worst) to 5; 2 and less is negative';
COMMENT ON COLUMN public.conversation_feedback.shop_id IS 'NULL: the conversation''s';
COMMENT ON COLUMN public.conversation_feedback.response_text IS 'The response that is judged';
COMMENT ON COLUMN public.conversation_feedback.user_id IS 'Who judged it, if that is known';
COMMENT ON TABLE public.owner_corrections IS
    'Answers that a shop''s owner put right during a handoff; each becomes an item of the learning queue';
COMMENT ON COLUMN public.owner_corrections.priority IS
    'How much the owner insists: the item''s confidence is 95 (urgent), 90 (high), 75 (normal) or 60 (low)';
COMMENT ON COLUMN public.owner_corrections.applied_at IS 'When the correction became knowledge; NULL: not yet';
COMMENT ON TABLE public.learning_queue IS
    'What may become knowledge: pending until somebody approves or rejects it, then applied, duplicate or failed';
COMMENT ON COLUMN public.learning_queue.source_id IS 'The feedback or correction (or transcript, …) that it comes from';
COMMENT ON COLUMN public.learning_queue.shop_id IS 'For which shop it holds; NULL or 0: for every shop';
COMMENT ON COLUMN public.learning_queue.embedding IS
    'Of proposed_content; without it an approved item waits, since nothing could tell whether it is known already';
COMMENT ON COLUMN public.learning_queue.confidence_score IS '0 to 100';
COMMENT ON COLUMN public.learning_queue.metadata IS
    'What came of it as well: knowledge_id, duplicate_of with similarity, or error';
COMMENT ON TABLE public.response_analytics IS 'How each response of the assistant did';
COMMENT ON COLUMN public.response_analytics.user_engagement_score IS '0 to 100; NULL: not measured';
COMMENT ON TABLE public.voice_transcripts IS
    'What was said on the telephone, with its mood and what was recognised in it; it stays when its conversation goes';
COMMENT ON TABLE public.learning_audit_log IS
    'Who changed what in the learning queue and the corrections, and when';
COMMENT ON COLUMN public.learning_audit_log.performed_by IS
    'The reviewer''s id, batch_process_learning, the setting learning.performed_by, or the database''s role';

CREATE INDEX idx_feedback_conversation ON public.conversation_feedback (conversation_id, created_at DESC);
CREATE INDEX idx_feedback_type ON public.conversation_feedback (feedback_type, rating);
CREATE INDEX idx_feedback_created ON public.conversation_feedback (created_at DESC);

CREATE INDEX idx_corrections_conversation ON public.owner_corrections (conversation_id, created_at DESC);
CREATE INDEX idx_corrections_priority ON public.owner_corrections (priority, created_at DESC);
CREATE INDEX idx_corrections_created ON public.owner_corrections (created_at DESC);
CREATE INDEX idx_corrections_pending ON public.owner_corrections (created_at) WHERE applied_at IS NULL;

CREATE INDEX idx_learning_status ON public.learning_queue (status, created_at, id);
CREATE INDEX idx_learning_shop ON public.learning_queue (shop_id, status, created_at DESC);
CREATE INDEX idx_learning_created ON public.learning_queue (created_at DESC, id);
CREATE INDEX idx_learning_reviewer ON public.learning_queue (reviewed_by, reviewed_at DESC);
CREATE INDEX idx_learning_pending ON public.learning_queue (confidence_score DESC, created_at) WHERE status = 'pending';
CREATE INDEX idx_learning_embedding ON public.learning_queue USING hnsw (embedding vector_cosine_ops);

CREATE INDEX idx_analytics_conversation ON public.response_analytics (conversation_id);
CREATE INDEX idx_analytics_type ON public.response_analytics (response_type, created_at DESC);
CREATE INDEX idx_analytics_engagement ON public.response_analytics (user_engagement_score DESC);
CREATE INDEX idx_analytics_variant ON public.response_analytics (ab_test_variant, led_to_conversion);
CREATE INDEX idx_analytics_created ON public.response_analytics (created_at DESC);

CREATE INDEX idx_transcripts_conversation ON public.voice_transcripts (conversation_id);
CREATE INDEX idx_transcripts_sentiment ON public.voice_transcripts (sentiment, created_at DESC);
CREATE INDEX idx_transcripts_negative ON public.voice_transcripts (created_at DESC) WHERE sentiment = 'negative';
CREATE INDEX idx_transcripts_embedding ON public.voice_transcripts USING hnsw (embedding vector_cosine_ops);
CREATE INDEX idx_transcripts_entities ON public.voice_transcripts USING gin (entities);

CREATE INDEX idx_audit_record ON public.learning_audit_log (table_name, record_id, performed_at DESC);
CREATE INDEX idx_audit_performed ON public.learning_audit_log (performed_at DESC);

-- migrate: rollback

-- Better to fail and be tried again than to make everybody queue behind us.
SET LOCAL lock_timeout = '2s';

DROP TABLE IF EXISTS public.learning_audit_log;
DROP TABLE IF EXISTS public.voice_transcripts;
DROP TABLE IF EXISTS public.response_analytics;
DROP TABLE IF EXISTS public.learning_queue;
DROP TABLE IF EXISTS public.owner_corrections;
DROP TABLE IF EXISTS public.conversation_feedback;
