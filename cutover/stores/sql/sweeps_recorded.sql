-- The newest sweep of each kind that came to a result, whichever daemon made it: when it ended (Unix seconds, this
-- database's clock), how much of the rows it saw, and for digest sweeps how it did on the planted faults. The newest
-- digest sweep that had faults planted is the one they are told of, trusted or not; of the newest count sweep all that
-- it came to. A count sweep that saw no row came to no result. One index look-up for each kind.
SELECT k.kind, r.ended, r.coverage, c.canary, c.trusted, r.counted
FROM (VALUES ('count', 'sweep.count'), ('digest', 'sweep.digest'), ('recall', 'sweep.recall'), ('verify', 'verify'))
         AS k (kind, run)
LEFT JOIN LATERAL (
    SELECT CASE WHEN k.kind <> 'count' OR t.outcome ? 'causes' THEN extract(epoch FROM t.finished_at)::float8 END
               AS ended,
           coalesce((t.outcome ->> 'coverage')::float8, 0) AS coverage,
           CASE WHEN k.kind = 'count' THEN t.outcome END AS counted
    FROM cutover.task_run t
    WHERE t.kind = k.run AND t.state = 'finished' AND t.finished_at IS NOT NULL
      AND t.outcome ->> 'outcome' NOT IN ('failed', 'untrusted', 'not_applicable')
    ORDER BY t.started_at DESC LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT t.outcome -> 'canary' AS canary, (t.outcome ->> 'trusted')::boolean AS trusted
    FROM cutover.task_run t
    WHERE t.kind = k.run AND k.kind = 'digest' AND t.state = 'finished' AND t.outcome ? 'canary'
    ORDER BY t.started_at DESC LIMIT 1
) c ON true
ORDER BY k.kind
