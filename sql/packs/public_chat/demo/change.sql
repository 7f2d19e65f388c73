-- A visitor begins a conversation with the house.
INSERT INTO public.prospective_sessions (tenant_id, conversation_history, travel_intent)
VALUES (
    $1,
    jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'A room with a sea view for four, please', 'at', now())),
    public.extract_travel_intent('A room with a sea view for four, please', current_date)
)
