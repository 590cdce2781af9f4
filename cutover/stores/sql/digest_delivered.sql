-- Memories delivered since the last sweep: by transactions from $1 on and below $2, in ascending id order past $3.
SELECT DISTINCT l.memory_id FROM cutover.delivery_log l
WHERE l.xid >= $1::text::xid8 AND l.xid < $2::text::xid8 AND ($3::uuid IS NULL OR l.memory_id > $3)
ORDER BY l.memory_id LIMIT $4
