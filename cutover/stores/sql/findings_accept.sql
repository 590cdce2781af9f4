-- Somebody ($9) answers for the findings that match, and says why ($10). Only what is certain can be accepted.
UPDATE cutover.divergence d
SET state = 'accepted', accepted_by = $9, accepted_at = now(), why = $10
FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
WHERE d.memory_id = f.memory_id AND d.class = f.class AND d.state = 'confirmed' AND d.closed_at IS NULL
RETURNING d.memory_id, d.class
