-- Marked memories of a range: about these nothing is promised, so the plugin's side leaves them out as well.
SELECT m.memory_id FROM cutover.mark m WHERE m.memory_id BETWEEN $1 AND $2
UNION
-- K/V was switched off: what is still mapped is to be forgotten.
SELECT k.memory_id FROM cutover.kv k, cutover.kv_capture c WHERE k.memory_id BETWEEN $1 AND $2 AND NOT c.captured
