-- Somebody ($2) answers for one quarantined memory as it is, and says why ($3). Not while a newer state of it waits for
-- delivery: that may free it, or fail for another reason.
UPDATE cutover.quarantine q
SET acknowledged_by = $2, acknowledged_at = now(), why = $3
WHERE q.memory_id = $1 AND q.acknowledged_by IS NULL
  AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = $1)
RETURNING q.memory_id
