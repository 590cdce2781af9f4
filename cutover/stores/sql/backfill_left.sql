-- Rows that the newest backfill run has still to take up: 0 when it came to its end, or an operator ended it. A failed
-- run, and one that its daemon left open, keep theirs.
SELECT greatest(0, c.total - c.scanned)
FROM (SELECT state, parameters ->> 'scope' AS scope FROM cutover.task_run
      WHERE kind = 'backfill' ORDER BY started_at DESC LIMIT 1) r
JOIN cutover.backfill_cursor c ON c.scope = r.scope AND NOT c.done
WHERE r.state IN ('running', 'failed')
