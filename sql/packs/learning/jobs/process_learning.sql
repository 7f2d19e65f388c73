-- What was approved becomes knowledge.
SELECT batch_process_learning(1000)
