-- What `cutover doctor` wants to know about a tenant's database, in one look. Reads catalogues only: no rows of the
-- tenant, no lock anybody waits for; and no name is resolved, which would fail where the role may not use a schema.
with relation as (
    select n.nspname || '.' || c.relname as name, c.oid
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'cutover', 'memory_plugin') and c.relkind in ('r', 'p', 'v')
)
select
    current_setting('server_version_num')::int as version_num,
    current_setting('server_version') as version,
    pg_is_in_recovery() as in_recovery,
    extract(epoch from clock_timestamp())::float8 as clock,
    (select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector')
        as pgvector_schema,
    (select e.extversion from pg_extension e where e.extname = 'vector') as pgvector_version,
    exists (select from pg_available_extensions a where a.name = 'vector') as pgvector_available,
    exists (select from relation r where r.name = 'public.agent_memories') as has_agent_memories,
    exists (select from relation r where r.name = 'public.workspaces') as has_workspaces,
    exists (select from relation r where r.name = 'public.workspace_auth_tokens') as has_tokens,
    exists (select from relation r where r.name = 'cutover.phase_state') as has_cutover,
    (select count(*) from relation r where r.name in ('memory_plugin.memory_records', 'memory_plugin.memory_namespaces'))
        = 2 as has_plugin_tables,
    array(select split_part(r.name, '_', 2) from relation r
          where r.name in ('public.memory_records', 'public.memory_namespaces') order by r.name) as stray_tables,
    pg_has_role(current_user, 'pg_read_all_stats', 'MEMBER') as may_see_sessions,
    quote_ident(current_user) as role,
    case when pg_has_role(current_user, 'pg_read_all_settings', 'MEMBER') then current_setting('data_directory') end
        as data_directory,
    coalesce(inet_server_addr() <<= '127.0.0.0/8' or inet_server_addr() = '::1', true) as reached_locally
