-- Two looks agree: $1 ids, $2 classes.
UPDATE cutover.divergence d
SET state = 'confirmed', confirmed_at = now(), last_seen = now(), last_run = $3
FROM unnest($1::uuid[], $2::text[]) AS f (id, class)
WHERE d.memory_id = f.id AND d.class = f.class AND d.state = 'suspect' AND d.closed_at IS NULL
