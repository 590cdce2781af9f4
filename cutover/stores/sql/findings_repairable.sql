-- Findings that match and that a delivery sets right ($9: classes it does not), by memory: the first $10, with where the
-- plugin may hold the memory.
SELECT f.memory_id, f.namespace
FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
WHERE NOT f.class = ANY ($9::text[])
  AND NOT EXISTS (SELECT FROM cutover.divergence x
                  WHERE x.memory_id = f.memory_id AND x.class = ANY ($9) AND x.closed_at IS NULL)
ORDER BY f.memory_id, f.class
LIMIT $10
