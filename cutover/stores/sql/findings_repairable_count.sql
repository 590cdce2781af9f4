-- How many memories the findings that match are about, without the classes of $9 (see findings_repairable).
SELECT count(DISTINCT f.memory_id)
FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
WHERE NOT f.class = ANY ($9::text[])
  AND NOT EXISTS (SELECT FROM cutover.divergence x
                  WHERE x.memory_id = f.memory_id AND x.class = ANY ($9) AND x.closed_at IS NULL)
