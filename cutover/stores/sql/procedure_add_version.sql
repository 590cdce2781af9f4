-- The version of a text, which it gets now if it has none. name, hash, body, release. The caller holds the seed lock.
WITH added AS (
    INSERT INTO cutover.memory_procedure_version (name, number, content_hash, body, package)
    SELECT $1, coalesce((SELECT max(v.number) FROM cutover.memory_procedure_version v WHERE v.name = $1), 0) + 1, $2, $3, $4
    WHERE NOT EXISTS (SELECT FROM cutover.memory_procedure_version v WHERE v.name = $1 AND v.content_hash = $2)
    RETURNING id
)
SELECT id FROM added
UNION ALL
SELECT v.id FROM cutover.memory_procedure_version v WHERE v.name = $1 AND v.content_hash = $2
