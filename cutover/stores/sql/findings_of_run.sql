-- What one sweep found: by class and by the state it has now, and how much of it was new then.
SELECT d.class, CASE WHEN d.closed_at IS NULL THEN d.state ELSE 'closed' END AS state,
       count(*) AS rows, count(*) FILTER (WHERE d.first_run = $1) AS new
FROM cutover.divergence d
WHERE d.first_run = $1 OR d.last_run = $1
GROUP BY 1, 2
ORDER BY 1, 2
