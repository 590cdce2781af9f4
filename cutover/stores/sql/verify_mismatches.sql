-- Mismatches of the last verification, past one ($1 id, $2 class), in order.
SELECT v.memory_id, v.class, v.workspace_id, v.namespace, v.expected_length, v.plugin_length
FROM cutover.verify_finding v
WHERE v.state = 'confirmed' AND ($1::uuid IS NULL OR (v.memory_id, v.class) > ($1, $2))
ORDER BY v.memory_id, v.class LIMIT $3
