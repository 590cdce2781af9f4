-- By this snapshot a later look can tell what was delivered after it.
SELECT pg_current_snapshot()::text
