-- "Newest first" stays true (domain §4.8): the next $2 rows after id $1 get the time that they carry. Only times of our
-- own making are believed: this form, beside the other four columns of v1. One row: the last id looked at (NULL at the
-- end), and how many were mended. Ordered locking: two of these at once cannot deadlock.
WITH looked AS (
    SELECT r.id, r.created_at, r.propagation -> 'cutover' AS ours
    FROM memory_plugin.memory_records r
    WHERE $1::uuid IS NULL OR r.id > $1
    ORDER BY r.id LIMIT $2
), carried AS (
    SELECT l.id, l.created_at,
           CASE WHEN l.ours ?& ARRAY ['workspace_id', 'scope', 'namespace', 'created_at', 'updated_at']
                 AND l.ours ->> 'created_at'
                     ~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z$'
                THEN (l.ours ->> 'created_at')::timestamptz END AS time
    FROM looked l
), wrong AS (
    SELECT r.id, c.time FROM carried c JOIN memory_plugin.memory_records r ON r.id = c.id
    WHERE c.time IS NOT NULL AND r.created_at IS DISTINCT FROM c.time
    ORDER BY r.id FOR NO KEY UPDATE OF r
), mended AS (
    UPDATE memory_plugin.memory_records r SET created_at = w.time FROM wrong w WHERE r.id = w.id RETURNING 1
)
SELECT (SELECT l.id FROM looked l ORDER BY l.id DESC LIMIT 1) AS last_id, (SELECT count(*) FROM mended)::integer AS mended;
