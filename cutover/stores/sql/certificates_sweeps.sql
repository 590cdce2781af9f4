-- What the last sweep of each kind came to: only the facts that a certificate is bound to. A recall sweep's overlap is
-- another number every time; the gate's own check says how low it may be.
SELECT 'count' AS kind, r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'unexplained', r.outcome -> 'unexplained') AS found
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.count' AND state = 'finished' ORDER BY started_at DESC LIMIT 1) r
UNION ALL
SELECT 'digest', r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'trusted', r.outcome -> 'trusted',
                                          'coverage', r.outcome -> 'coverage')
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.digest' AND state = 'finished' AND (outcome ->> 'full')::boolean AND outcome ? 'epoch'
      ORDER BY started_at DESC LIMIT 1) r
UNION ALL
SELECT 'recall', r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'visibility', r.outcome -> 'visibility')
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.recall' AND state = 'finished' AND outcome ->> 'outcome' <> 'not_applicable'
      ORDER BY started_at DESC LIMIT 1) r
