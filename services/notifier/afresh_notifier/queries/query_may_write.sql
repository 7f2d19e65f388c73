-- The first statement of a transaction that may write, in a session whose transactions only read.
SET TRANSACTION READ WRITE
