-- When the unexplained drift that the last count sweep saw was first seen: the end of the first sweep that saw any,
-- since the last one that saw none. Null where the last one saw none, or there is none.
SELECT min(r.finished_at)
FROM cutover.task_run r
WHERE r.kind = 'sweep.count' AND r.state = 'finished' AND (r.outcome ->> 'unexplained')::bigint <> 0
  AND r.finished_at > coalesce(
      (SELECT max(c.finished_at) FROM cutover.task_run c
       WHERE c.kind = 'sweep.count' AND c.state = 'finished' AND (c.outcome ->> 'unexplained')::bigint = 0),
      '-infinity')
