-- What is open, by class and state, with the first sight of the oldest.
SELECT d.class, d.state, count(*) AS rows, min(d.first_seen) AS first_seen
FROM cutover.divergence d
WHERE d.closed_at IS NULL
GROUP BY d.class, d.state
