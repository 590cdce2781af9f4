-- Canonical rows (see the two sides) of a range, as one digest per bucket: count and the xor of 64 bits of each row's
-- keyed hash. Ids are unique and part of what is hashed, so no two rows cancel each other out; without the salt nobody
-- can choose rows that do. Every field before the content is of fixed length or carries its length, so no two different
-- rows give the same bytes. The bucket is the first 12 bits of the id. `seconds`: how long the server took.
SELECT d.bucket, d.rows, d.digest, extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
FROM (
    SELECT h.bucket, count(*) AS rows, bit_xor(hashtextextended(encode(h.digest, 'hex'), 0)) AS digest
    FROM (
        SELECT get_byte(uuid_send(c.id), 0) * 16 + get_byte(uuid_send(c.id), 1) / 16 AS bucket, {digest} AS digest
        FROM ({rows}) c
        OFFSET 0
    ) h
    GROUP BY h.bucket
) d
