-- Of these memories, those that are marked, of which something was delivered that the snapshot did not see, or whose
-- difference somebody answers for. $1 memories, $2 snapshot
SELECT k.memory_id FROM cutover.mark AS k WHERE k.memory_id = ANY ($1::uuid[])
UNION
SELECT d.memory_id FROM cutover.delivery_log AS d
 WHERE d.memory_id = ANY ($1::uuid[]) AND d.xid >= pg_snapshot_xmin($2::text::pg_snapshot)
   AND NOT pg_visible_in_snapshot(d.xid, $2::text::pg_snapshot) AND d.xid < pg_snapshot_xmax(pg_current_snapshot())
UNION
SELECT v.memory_id FROM cutover.divergence AS v
 WHERE v.memory_id = ANY ($1::uuid[]) AND v.state = 'accepted' AND v.closed_at IS NULL
