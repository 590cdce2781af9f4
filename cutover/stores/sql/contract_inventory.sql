-- Expected rows (rows) of a range by namespace: how many, and the first $4 of them in the order of a keyed hash of the id,
-- which is a draw at random that the same key repeats.
SELECT x.namespace, x.of_all, array_agg(x.id) AS ids, max(x.seconds) AS seconds
FROM (
    SELECT c.namespace, c.id, count(*) OVER (PARTITION BY c.namespace) AS of_all,
           row_number() OVER (PARTITION BY c.namespace ORDER BY sha256($1::bytea || uuid_send(c.id))) AS place,
           extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
    FROM ({rows}) c
    WHERE c.namespace IS NOT NULL
) x
WHERE x.place <= $4
GROUP BY x.namespace, x.of_all
