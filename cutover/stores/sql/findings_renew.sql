-- Seen, but something was delivered in between: the suspicion starts anew with this look.
UPDATE cutover.divergence d
SET looked_at = $3, snapshot = $4, last_seen = now(), last_run = $5
FROM unnest($1::uuid[], $2::text[]) AS f (id, class)
WHERE d.memory_id = f.id AND d.class = f.class AND d.state = 'suspect' AND d.closed_at IS NULL
