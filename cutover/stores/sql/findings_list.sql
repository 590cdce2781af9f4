-- Findings by memory and class, one page ($9, $10: the last of the page before; $11: how many).
SELECT f.*, cutover.finding_group(f.class, f.namespace_kind, f.writer, f.onset_hour) AS group_id
FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
WHERE $9::uuid IS NULL OR (f.memory_id, f.class) > ($9, $10::text)
ORDER BY f.memory_id, f.class
LIMIT $11
