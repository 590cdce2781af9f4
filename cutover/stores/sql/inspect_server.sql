-- What `cutover doctor` wants to know about a tenant's database, in one look. Reads catalogues only: no rows of the
-- tenant, no lock anybody waits for.
select
    current_setting('server_version_num')::int as version_num,
    current_setting('server_version') as version,
    pg_is_in_recovery() as in_recovery,
    extract(epoch from clock_timestamp())::float8 as clock,
    (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector')
        as pgvector_schema,
    (select e.extversion from pg_extension e where e.extname = 'vector') as pgvector_version,
    exists (select from pg_available_extensions a where a.name = 'vector') as pgvector_available,
    to_regclass('public.agent_memories') is not null as has_agent_memories,
    to_regclass('public.workspaces') is not null as has_workspaces,
    to_regclass('public.workspace_auth_tokens') is not null as has_tokens,
    to_regclass('cutover.phase_state') is not null as has_cutover,
    (select count(*) = 2 from pg_class c join pg_namespace n on n.oid = c.relnamespace  -- to_regclass asks for USAGE
        where n.nspname = 'memory_plugin' and c.relname in ('memory_records', 'memory_namespaces'))
        as has_plugin_tables,
    to_regclass('public.memory_records') is not null as has_stray_records,
    to_regclass('public.memory_namespaces') is not null as has_stray_namespaces,
    pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER') as may_see_sessions
