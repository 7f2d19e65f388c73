-- What is known of jobs.
SELECT j.name, j.due, j.ran_at, j.seconds, j.failures, j.problem FROM afresh.jobs AS j
