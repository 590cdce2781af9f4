-- The indexes of a table that no constraint makes, as statements. $1: the table.
SELECT pg_get_indexdef(i.indexrelid) AS definition
FROM pg_index i
WHERE i.indrelid = to_regclass($1)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))
ORDER BY i.indexrelid
