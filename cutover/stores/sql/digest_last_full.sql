-- The last full digest sweep that compared something (in A0 none does, and such an outcome has no epoch).
SELECT r.outcome, r.finished_at, extract(epoch FROM clock_timestamp() - r.finished_at)::float8 AS age
FROM cutover.task_run r
WHERE r.kind = 'sweep.digest' AND r.state = 'finished' AND (r.outcome ->> 'full')::boolean AND r.outcome ? 'epoch'
ORDER BY r.started_at DESC LIMIT 1
