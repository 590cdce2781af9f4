-- Rows of the plugin by the kind that the namespace's prefix stands for. $1: namespaces to leave out.
SELECT CASE WHEN prefix IN ('workspace', 'team', 'org') THEN prefix ELSE 'custom' END AS kind,
       sum(rows)::bigint AS rows
FROM (
    SELECT split_part(namespace, ':', 1) AS prefix, count(*) AS rows
    FROM memory_plugin.memory_records
    WHERE namespace <> ALL ($1::text[])
    GROUP BY 1
) AS by_prefix
GROUP BY 1;
