-- Quarantined memories that match and wait for no delivery ($5: how many).
SELECT q.memory_id, count(*) OVER () AS matching
FROM cutover.quarantine q
WHERE ($1::uuid[] IS NULL OR q.memory_id = ANY ($1))
  AND ($2::text IS NULL OR q.reason = $2)
  AND ($3::boolean IS NULL OR (q.acknowledged_by IS NOT NULL) = $3)
  AND ($4::uuid IS NULL OR q.workspace_id = $4)
  AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = q.memory_id)
ORDER BY q.memory_id
LIMIT $5
