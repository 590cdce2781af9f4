-- The columns of the built-in plugin's two tables: what tells a schema that is known from one that is not.
-- `keyed`: the column alone is the primary key. `generated`: PostgreSQL computes it. `fillable`: an INSERT may leave
-- it out.
SELECT c.relname AS "table",
       a.attname AS "column",
       format_type(a.atttypid, NULL) AS type,
       a.atttypmod AS modifier,
       a.attgenerated <> '' AS generated,
       NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS fillable,
       EXISTS (
           SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indkey::text = a.attnum::text
       ) AS keyed
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = 'memory_plugin'
  AND c.relname IN ('memory_namespaces', 'memory_records')
  AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum;
