-- For which of its times the job was run last, with its row locked; nothing, where somebody else has it in hand.
SELECT j.due FROM afresh.jobs AS j WHERE j.name = $1::text FOR UPDATE SKIP LOCKED
