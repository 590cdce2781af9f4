-- Found in order. A suspicion that came to nothing leaves no trace; a confirmed finding is closed, by itself or by the
-- repair that somebody asked for; $3 says by what else, where it was something else.
WITH f AS (
    SELECT * FROM unnest($1::uuid[], $2::text[]) AS f (id, class)
), nothing AS (
    DELETE FROM cutover.divergence d USING f
    WHERE d.memory_id = f.id AND d.class = f.class AND d.closed_at IS NULL AND d.state = 'suspect'
      AND d.confirmed_at IS NULL AND d.repair_at IS NULL AND $3::text IS NULL
)
UPDATE cutover.divergence d
SET state = CASE WHEN d.state = 'accepted' THEN 'accepted' ELSE 'repaired' END, closed_at = now(),
    closed_by = coalesce($3::text, CASE WHEN d.repair_at IS NOT NULL THEN 'repair' ELSE 'itself' END)
FROM f
WHERE d.memory_id = f.id AND d.class = f.class AND d.closed_at IS NULL
  AND (d.state <> 'suspect' OR d.confirmed_at IS NOT NULL OR d.repair_at IS NOT NULL OR $3::text IS NOT NULL)
