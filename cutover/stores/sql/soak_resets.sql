-- The last $1 resets, newest first.
SELECT e.at, e.epoch, e.green_seconds, e.why, e.run_id FROM cutover.soak_event e
WHERE e.event = 'reset' ORDER BY e.seq DESC LIMIT $1
