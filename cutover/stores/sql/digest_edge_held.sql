-- How far $2 rows reach from id $1 on the plugin's side.
SELECT (array_agg(x.id ORDER BY x.id DESC))[1] AS edge, count(*) AS rows
FROM (SELECT h.id FROM memory_plugin.memory_records h WHERE h.id >= $1 ORDER BY h.id LIMIT $2) x
