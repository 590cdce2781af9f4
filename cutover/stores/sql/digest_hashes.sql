-- Canonical rows (rows) of some buckets of a range: id and keyed hash of each.
SELECT c.id, {digest} AS digest, extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
FROM ({rows}) c
WHERE get_byte(uuid_send(c.id), 0) * 16 + get_byte(uuid_send(c.id), 1) / 16 = ANY ({buckets}::integer[])
ORDER BY c.id
