-- What the newest run of kind $1 came to, if it ended by itself at most $2 seconds ago.
SELECT r.outcome FROM cutover.task_run r
WHERE r.kind = $1 AND r.state = 'finished' AND r.finished_at > clock_timestamp() - make_interval(secs => $2)
ORDER BY r.started_at DESC LIMIT 1
