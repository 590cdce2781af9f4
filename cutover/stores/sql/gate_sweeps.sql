-- What the newest count and recall sweeps came to, whichever daemon made them, with their ages in seconds by this
-- database's clock. A recall sweep has to have compared something: `newer_failed` tells of one since then that failed.
WITH counted AS (
    SELECT r.outcome, r.finished_at
    FROM cutover.task_run r
    WHERE r.kind = 'sweep.count' AND r.state IN ('finished', 'failed') AND r.finished_at IS NOT NULL
    ORDER BY r.started_at DESC LIMIT 1
), recalled AS (
    SELECT r.outcome, r.finished_at, r.started_at
    FROM cutover.task_run r
    WHERE r.kind = 'sweep.recall' AND r.state = 'finished' AND r.outcome ? 'overlap' AND r.outcome ? 'epoch'
    ORDER BY r.started_at DESC LIMIT 1
), failed AS (
    SELECT r.outcome ->> 'why' AS why
    FROM cutover.task_run r
    WHERE r.kind = 'sweep.recall' AND r.state = 'failed'
      AND r.started_at > coalesce((SELECT started_at FROM recalled), '-infinity')
    ORDER BY r.started_at DESC LIMIT 1
)
SELECT (SELECT outcome ->> 'unexplained' FROM counted)::bigint AS unexplained,
       (SELECT extract(epoch FROM clock_timestamp() - finished_at) FROM counted)::float8 AS count_age,
       (SELECT outcome FROM recalled) AS recall,
       (SELECT extract(epoch FROM clock_timestamp() - finished_at) FROM recalled)::float8 AS recall_age,
       (SELECT coalesce(why, 'it did not say why') FROM failed) AS newer_failed
