-- How long each statement of this transaction may take, and wait for a lock.
SELECT set_config('statement_timeout', $1::text, true), set_config('lock_timeout', $2::text, true)
