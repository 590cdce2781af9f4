-- The text of runbook $1 that is in force, and the release that put it there.
SELECT p.version_id, p.package, v.content_hash
FROM cutover.memory_procedure p JOIN cutover.memory_procedure_version v ON v.id = p.version_id
WHERE p.name = $1
