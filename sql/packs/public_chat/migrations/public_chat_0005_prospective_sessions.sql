-- prospective_sessions: the anonymous visitors' conversations, and their indexes
-- depends: public_chat_0004_accommodation_units_public

-- migrate: apply

CREATE TABLE public.prospective_sessions (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL REFERENCES public.tenant_registry (tenant_id) ON DELETE CASCADE,
    cookie_id text NOT NULL DEFAULT gen_random_uuid()::text CHECK (cookie_id ~ '^[A-Za-z0-9_-]{16,128}$'),
    conversation_history jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(conversation_history) = 'array'),
    travel_intent jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(travel_intent) = 'object'),
    utm_tracking jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(utm_tracking) = 'object'),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'converted')),
    converted_to_reservation_id uuid,
    conversion_date timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_activity_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '7 days',
    CONSTRAINT prospective_sessions_size_check CHECK (
        pg_column_size(conversation_history) <= 262144
        AND pg_column_size(travel_intent) <= 16384
        AND pg_column_size(utm_tracking) <= 16384
    ),
    CONSTRAINT prospective_sessions_conversion_check CHECK ((status = 'converted') = (conversion_date IS NOT NULL)),
    -- Both columns together, so that no session is linked to a reservation of another house.
    CONSTRAINT prospective_sessions_reservation_fkey FOREIGN KEY (tenant_id, converted_to_reservation_id)
        REFERENCES public.guest_reservations (tenant_id, id)
);

COMMENT ON TABLE public.prospective_sessions IS
    'Conversations of visitors who have not booked, known by a cookie and nothing else; seven days after the last message they are over';
COMMENT ON COLUMN public.prospective_sessions.cookie_id IS
    'The visitor''s secret: who has it reads and continues the conversation';
COMMENT ON COLUMN public.prospective_sessions.conversation_history IS
    'The last twenty messages, {"role", "content", "at"} each, the oldest first; the table itself drops older ones';
COMMENT ON COLUMN public.prospective_sessions.travel_intent IS
    '{"check_in", "check_out", "nights", "guests", "adults", "children", "preferences": […], "not_wanted": […], "language"}, as far as said';
COMMENT ON COLUMN public.prospective_sessions.utm_tracking IS 'Where the visitor came from: utm_source and its like';
COMMENT ON COLUMN public.prospective_sessions.expires_at IS
    'Seven days after the last message; from then on the conversation is told to nobody, and the next night it is deleted';

-- Unique, so that two first messages at the same time make one session.
CREATE UNIQUE INDEX idx_prospective_sessions_cookie ON public.prospective_sessions (cookie_id) WHERE status = 'active';
CREATE INDEX idx_prospective_sessions_tenant ON public.prospective_sessions (tenant_id, created_at DESC);
CREATE INDEX idx_prospective_sessions_expires ON public.prospective_sessions (expires_at) WHERE status = 'active';
CREATE INDEX idx_prospective_sessions_intent_gin ON public.prospective_sessions USING gin (travel_intent);
-- Converted sessions are looked up by their cookie and their reservation too; they are few.
CREATE INDEX idx_prospective_sessions_converted
    ON public.prospective_sessions (cookie_id, conversion_date DESC) WHERE status = 'converted';
CREATE INDEX idx_prospective_sessions_reservation
    ON public.prospective_sessions (tenant_id, converted_to_reservation_id)
    WHERE converted_to_reservation_id IS NOT NULL;

-- Who writes a conversation need not count its messages, nor keep its clock: that is why a visitor may write neither
-- expires_at nor last_activity_at. A session that is written to after its time begins anew, in its row: what was said
-- before is gone with it.
CREATE FUNCTION public.prospective_sessions_keep_recent() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    messages_kept constant integer := 20;
    surplus integer;
BEGIN
    IF jsonb_typeof(NEW.conversation_history) = 'array' THEN
        surplus := jsonb_array_length(NEW.conversation_history) - messages_kept;
        IF surplus > 0 THEN
            NEW.conversation_history := (
                SELECT jsonb_agg(message.value ORDER BY message.place)
                FROM jsonb_array_elements(NEW.conversation_history) WITH ORDINALITY AS message (value, place)
                WHERE message.place > surplus
            );
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.status = 'active'
        AND NEW.conversation_history IS DISTINCT FROM OLD.conversation_history
    THEN
        NEW.last_activity_at := now();
        NEW.expires_at := greatest(NEW.expires_at, now() + interval '7 days');
        IF OLD.expires_at <= now() THEN
            NEW.created_at := now();
        END IF;
    END IF;
    RETURN NEW;
END
$$;

COMMENT ON FUNCTION public.prospective_sessions_keep_recent() IS
    'Keeps the last twenty messages of a session, and moves its end to seven days after the newest';

CREATE TRIGGER trigger_prospective_sessions_keep_recent
BEFORE INSERT OR UPDATE ON public.prospective_sessions
FOR EACH ROW EXECUTE FUNCTION public.prospective_sessions_keep_recent();

-- migrate: rollback

DROP TABLE public.prospective_sessions;
DROP FUNCTION public.prospective_sessions_keep_recent();
