-- Memories whose delivery snapshot $1 did not see and snapshot $2 does, in ascending id order past $3; $4 at most.
SELECT DISTINCT l.memory_id FROM cutover.delivery_log l
WHERE l.xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND l.xid < pg_snapshot_xmax($2::text::pg_snapshot)
  AND NOT pg_visible_in_snapshot(l.xid, $1::text::pg_snapshot)
  AND pg_visible_in_snapshot(l.xid, $2::text::pg_snapshot)
  AND ($3::uuid IS NULL OR l.memory_id > $3)
ORDER BY l.memory_id LIMIT $4
