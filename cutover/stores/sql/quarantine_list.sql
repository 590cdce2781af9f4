-- Quarantined memories by id, one page ($5: the last of the page before; $6: how many).
SELECT q.*, EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = q.memory_id) AS marked,
       count(*) OVER () AS matching
FROM cutover.quarantine q
WHERE ($1::uuid[] IS NULL OR q.memory_id = ANY ($1))
  AND ($2::text IS NULL OR q.reason = $2)
  AND ($3::boolean IS NULL OR (q.acknowledged_by IS NOT NULL) = $3)
  AND ($4::uuid IS NULL OR q.workspace_id = $4)
  AND ($5::uuid IS NULL OR q.memory_id > $5)
ORDER BY q.memory_id
LIMIT $6
