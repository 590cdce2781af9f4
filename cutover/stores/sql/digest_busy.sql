-- Sessions of others that are at work right now, and those of them that wait for a lock.
SELECT count(*) AS active, count(*) FILTER (WHERE s.wait_event_type = 'Lock') AS waiting
FROM pg_stat_activity s
WHERE s.datname = current_database() AND s.state = 'active' AND s.backend_type = 'client backend'
  AND s.pid <> pg_backend_pid() AND coalesce(s.application_name, '') NOT LIKE 'cutover%'
