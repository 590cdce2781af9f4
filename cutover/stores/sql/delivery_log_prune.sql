-- Forget $3 deliveries at most that were swept (seen whole by snapshot $1) and are older than $2 days.
DELETE FROM cutover.delivery_log l
WHERE l.ctid IN (
    SELECT x.ctid FROM cutover.delivery_log x
    WHERE x.xid < pg_snapshot_xmin($1::text::pg_snapshot) AND x.at < now() - make_interval(days => $2)
    ORDER BY x.xid LIMIT $3)
