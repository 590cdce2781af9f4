-- The constraints of a table, keys first. $1: the table.
SELECT k.conname::text AS name, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
WHERE k.conrelid = to_regclass($1) AND k.contype IN ('p', 'u', 'c', 'f')
ORDER BY array_position(ARRAY['p', 'u', 'c', 'f'], k.contype::text), k.conname
