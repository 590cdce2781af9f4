-- Tables of the plugin's names in `public`, left by older deployments: their rows are invisible to the plugin
-- (domain §3).
SELECT c.relname AS "table"
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname IN ('memory_namespaces', 'memory_records') AND c.relkind IN ('r', 'p')
ORDER BY 1;
