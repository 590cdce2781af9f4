-- Marked memories of a range: about these nothing is promised, so the plugin's side leaves them out as well.
SELECT m.memory_id FROM cutover.mark m WHERE m.memory_id BETWEEN $1 AND $2
