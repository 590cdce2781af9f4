-- The memories of the findings that match and that a delivery sets right ($9: classes it does not), and where the
-- plugin may hold each. $10: how many.
SELECT f.memory_id, array_agg(DISTINCT f.namespace) AS namespaces, count(*) OVER () AS memories
FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
WHERE NOT f.class = ANY ($9::text[])
  AND NOT EXISTS (SELECT FROM cutover.divergence x
                  WHERE x.memory_id = f.memory_id AND x.class = ANY ($9) AND x.closed_at IS NULL)
GROUP BY f.memory_id
ORDER BY f.memory_id
LIMIT $10
