-- What the current role may not do to the plugin's tables, with the statement that mends it; `needed_to` read or write.
with lacking (rank, needed_to, words, remedy) as (
    select 1, 'read', 'use schema memory_plugin', format('grant usage on schema memory_plugin to %I', current_user)
    from pg_namespace n where n.nspname = 'memory_plugin' and not has_schema_privilege(n.oid, 'USAGE')
    union all
    select case when p = 'select' then 2 else 3 end, case when p = 'select' then 'read' else 'write' end,
           format('%s memory_plugin.%I', p, c.relname), format('grant %s on memory_plugin.%I to %I', p, c.relname, current_user)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace,
         unnest(array['select', 'insert', 'update', 'delete']) p
    where n.nspname = 'memory_plugin' and c.relname in ('memory_namespaces', 'memory_records')
      and not has_table_privilege(c.oid, p)
)
select needed_to, words, remedy from lacking order by rank, words
