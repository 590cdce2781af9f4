-- The last full digest sweep that compared something (in A0 none does, and such an outcome has no epoch), and what has
-- come since that takes its word away: a sweep of any kind that missed its planted faults, a full one that failed.
WITH last AS (
    SELECT r.outcome, r.started_at, r.finished_at
    FROM cutover.task_run r
    WHERE r.kind = 'sweep.digest' AND r.state = 'finished' AND (r.outcome ->> 'full')::boolean AND r.outcome ? 'epoch'
    ORDER BY r.started_at DESC LIMIT 1
)
SELECT l.outcome, l.finished_at, extract(epoch FROM clock_timestamp() - l.finished_at)::float8 AS age,
       (SELECT CASE WHEN b.outcome ->> 'outcome' = 'untrusted' THEN 'a digest sweep since then missed planted faults'
                    ELSE 'a full digest sweep since then failed: ' || coalesce(b.outcome ->> 'why', 'it did not say why') END
        FROM cutover.task_run b
        WHERE b.kind = 'sweep.digest' AND b.started_at > l.started_at
          AND (b.outcome ->> 'outcome' = 'untrusted'
               OR b.state = 'failed' AND (b.outcome ->> 'full')::boolean)
        ORDER BY b.started_at DESC LIMIT 1) AS newer_bad
FROM last l
