-- Every text that a runbook had (all of them where $1 is null): by name, newest first.
SELECT v.id, v.name, v.number, v.content_hash, v.body, v.package, v.at, p.version_id = v.id AS in_force
FROM cutover.memory_procedure_version v JOIN cutover.memory_procedure p ON p.name = v.name
WHERE $1::text IS NULL OR v.name = $1
ORDER BY v.name, v.number DESC
