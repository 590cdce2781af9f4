-- The last rehearsal, and its age by this database's clock.
SELECT r.*, extract(epoch FROM clock_timestamp() - r.ended_at)::float8 AS age FROM cutover.rehearsal r ORDER BY r.ended_at DESC LIMIT 1
