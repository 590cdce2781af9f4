-- What the tenant's database knows of given ids ($1) apart from the rows themselves: a mark, a delivery that snapshot $2
-- did not see, a tombstone, the quarantine, a planted fault, and who wrote the memory last as far as the log goes back.
-- (A transaction from beyond this server's own present was logged on another server, before a dump and restore.)
SELECT t.id,
       EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = t.id) AS marked,
       EXISTS (SELECT FROM cutover.tombstone g WHERE g.memory_id = t.id) AS deleted,
       (SELECT q.reason FROM cutover.quarantine q WHERE q.memory_id = t.id AND q.reason <> 'id_taken') AS quarantined,
       EXISTS (SELECT FROM cutover.canary c WHERE c.memory_id = t.id) AS planted,
       EXISTS (SELECT FROM cutover.delivery_log l
               WHERE l.memory_id = t.id AND l.xid >= pg_snapshot_xmin($2::text::pg_snapshot)
                 AND NOT pg_visible_in_snapshot(l.xid, $2::text::pg_snapshot)
                 AND l.xid < pg_snapshot_xmax(pg_current_snapshot())) AS delivered,
       d.at AS delivered_at,
       CASE WHEN d.origin = 'backfill' THEN 'backfill' ELSE d.writer END AS writer
FROM unnest($1::uuid[]) AS t (id)
LEFT JOIN LATERAL (
    SELECT l.at, l.origin, l.writer FROM cutover.delivery_log l WHERE l.memory_id = t.id ORDER BY l.xid DESC LIMIT 1
) d ON true
