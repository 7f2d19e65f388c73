-- Ends what a preparation has begun: asyncpg sends no Sync after it, so that the server holds its locks until the next
-- statement.
SELECT
