-- Expected memories of a range by workspace.
SELECT c.workspace_id, count(*) AS rows,
       extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS seconds
FROM ({rows}) c
WHERE $1::bytea IS NOT NULL
GROUP BY c.workspace_id
