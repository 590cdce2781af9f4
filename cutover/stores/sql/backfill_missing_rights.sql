-- The first of the plugin's tables that the current role may not write; no row when it may write both.
SELECT t.name
FROM unnest(ARRAY ['memory_plugin.memory_namespaces', 'memory_plugin.memory_records']) AS t (name),
     unnest(ARRAY ['select', 'insert', 'update', 'delete']) AS p (privilege)
WHERE NOT has_table_privilege(t.name, p.privilege)
LIMIT 1;
