-- Writers past the daemon by operation, with those that are not folded yet, and those that the freeze refused.
SELECT b.writer AS name, b.operation, sum(b.writes)::bigint AS writes, min(b.first_seen) AS first_seen, max(b.last_seen) AS last_seen
FROM (
    SELECT k.writer, k.operation, k.writes, k.first_seen, k.last_seen FROM cutover.bypass_writer k
    UNION ALL
    SELECT f.writer, f.operation, 1, f.at, f.at FROM cutover.bypass_write f
    UNION ALL
    SELECT r.writer, 'REFUSED', r.attempts, r.first_seen, r.last_seen FROM cutover.freeze_refusal r
) b
GROUP BY b.writer, b.operation
ORDER BY max(b.last_seen) DESC, b.writer, b.operation
