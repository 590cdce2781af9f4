-- Of these memories, those that are marked, or of which something was delivered from the horizon on.
-- $1 memories, $2 horizon
SELECT k.memory_id FROM cutover.mark AS k WHERE k.memory_id = ANY ($1::uuid[])
UNION
SELECT d.memory_id FROM cutover.delivery_log AS d
 WHERE d.xid >= $2::text::xid8 AND d.memory_id = ANY ($1::uuid[])
