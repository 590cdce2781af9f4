-- Runs of a kind ($1, a pattern), newest first, from behind the run $2 on; $3: how many.
SELECT r.* FROM cutover.task_run r
WHERE r.kind LIKE $1
  AND ($2::uuid IS NULL
       OR (r.started_at, r.id) < (SELECT x.started_at, x.id FROM cutover.task_run x WHERE x.id = $2))
ORDER BY r.started_at DESC, r.id DESC
LIMIT $3
