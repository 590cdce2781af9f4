-- What the daemon's role lacks, from A0 to A4, each as the statement that gives it. Reads catalogues only.
-- Capture and freeze switch triggers on (ALTER TABLE), and A4 renames the table: both take its owner, or a member of
-- that role. Schema cutover may have been made by somebody else. The rename takes CREATE on the table's schema, rehearsals and restores on trial CREATE on the database.
-- $1: whether the plugin's tables are to be used, $2: whether K/V rows are copied.
WITH owned AS (
    SELECT c.relname, c.relowner, r.rolsuper
    FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner
    WHERE c.oid IN (
        to_regclass('public.agent_memories'),
        to_regclass('public.workspaces'),
        CASE WHEN $2::boolean THEN to_regclass('public.workspace_memory') END
    )
),

lacking AS (
    SELECT 1 AS place, format('grant create on database %I to %I', current_database(), current_user) AS remedy
    WHERE NOT has_database_privilege(current_database(), 'CREATE')
    UNION ALL
    SELECT 2, format('grant create on schema public to %I', current_user)
    WHERE NOT has_schema_privilege('public', 'CREATE')
    UNION ALL
    SELECT DISTINCT 3, format('grant %I to %I', pg_get_userbyid(owned.relowner), current_user)
    FROM owned
    WHERE NOT pg_has_role(current_user, owned.relowner, 'USAGE') AND NOT owned.rolsuper
    UNION ALL
    -- A member of a superuser may become one: the table changes hands instead, and a superuser may go on with it.
    SELECT 3, format('alter table public.%I owner to %I', owned.relname, current_user)
    FROM owned
    WHERE NOT pg_has_role(current_user, owned.relowner, 'USAGE') AND owned.rolsuper
    UNION ALL
    SELECT 4, format('grant %s on public.%s to %I', t.privilege, t.name, current_user)
    FROM (
        VALUES
        ('workspace_auth_tokens', 'select'),
        ('activity_logs', 'select'),
        ('activity_logs', 'insert'),
        ('workspace_memory', 'select')
    ) AS t (name, privilege)
    WHERE to_regclass('public.' || t.name) IS NOT NULL
      AND NOT has_table_privilege(to_regclass('public.' || t.name), t.privilege)
    UNION ALL
    SELECT 5, format('grant usage on schema memory_plugin to %I', current_user)
    FROM pg_namespace AS n
    WHERE $1::boolean AND n.nspname = 'memory_plugin' AND NOT has_schema_privilege(n.oid, 'USAGE')
    UNION ALL
    SELECT 6, format('grant select, insert, update, delete on memory_plugin.%I to %I', c.relname, current_user)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE $1::boolean AND n.nspname = 'memory_plugin' AND c.relname IN ('memory_records', 'memory_namespaces')
      AND NOT (
          has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
          AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
      )
    UNION ALL
    SELECT 7, format('grant usage on schema cutover to %I', current_user)
    FROM pg_namespace AS n
    WHERE n.nspname = 'cutover' AND NOT has_schema_privilege(n.oid, 'USAGE')
    UNION ALL
    SELECT DISTINCT 8, format('grant select, insert, update, delete on all tables in schema cutover to %I', current_user)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    -- What is append-only is so for its owner, too (migration 010): of him nothing is asked.
    WHERE n.nspname = 'cutover' AND c.relkind IN ('r', 'p', 'v') AND NOT pg_has_role(current_user, c.relowner, 'USAGE')
      AND NOT (
          has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
          AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')
      )
    UNION ALL
    SELECT DISTINCT 9, format('grant usage on all sequences in schema cutover to %I', current_user)
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'cutover' AND CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') ELSE false END
    UNION ALL
    SELECT DISTINCT 10, format('grant execute on all functions in schema cutover to %I', current_user)
    FROM pg_proc AS p
    JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = 'cutover' AND p.prokind = 'f' AND NOT has_function_privilege(p.oid, 'EXECUTE')
)

SELECT remedy FROM lacking ORDER BY place, remedy;
