-- $1 how many items at most
SELECT batch_process_learning($1::integer) AS processed
