-- Findings that are open, in id order past $1: every class of each memory. $2: how many memories.
SELECT d.memory_id, d.class, d.state, d.looked_at, d.snapshot
FROM cutover.divergence d
WHERE d.closed_at IS NULL AND d.memory_id IN (
    SELECT DISTINCT x.memory_id FROM cutover.divergence x
    WHERE x.closed_at IS NULL AND ($1::uuid IS NULL OR x.memory_id > $1) ORDER BY x.memory_id LIMIT $2)
ORDER BY d.memory_id, d.class
