-- How long the question for a view's next change may take: the rest of the refresh waits for it.
SELECT set_config('statement_timeout', '4s', true)
