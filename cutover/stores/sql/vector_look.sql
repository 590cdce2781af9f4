-- pgvector as this connection meets it, and the schemas that it looks in, in order. `schema` is null where the
-- extension is not installed; `resolves`: the bare name `vector` is a type here, as it must be for the plugin's SQL.
SELECT (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector')
           AS schema,
       EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = 'vector') AS available,
       to_regtype('vector') IS NOT NULL AS resolves,
       current_schemas(false)::text[] AS search_path;
