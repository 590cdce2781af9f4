-- What happened to the runbooks (to one, where $1 is given), newest first.
SELECT e.name, e.what, v.number, b.number AS previous, e.package, e.at
FROM cutover.memory_procedure_event e
JOIN cutover.memory_procedure_version v ON v.id = e.version_id
LEFT JOIN cutover.memory_procedure_version b ON b.id = e.previous_id
WHERE $1::text IS NULL OR e.name = $1
ORDER BY e.seq DESC
