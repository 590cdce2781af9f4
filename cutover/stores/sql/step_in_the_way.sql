-- Transactions of others that hold a lock on agent_memories or workspaces (with $1 readers count as well), or keep the
-- phase from changing; the oldest first. A prepared transaction has no session. What the role may not see of other roles' sessions stays unknown.
SELECT DISTINCT ON (t.began, t.who) t.who
FROM (
    SELECT coalesce(a.xact_start, p.prepared) AS began,
           CASE WHEN l.pid IS NULL THEN 'a prepared transaction (' || coalesce(p.gid, 'of another session') || ', role ' || coalesce(p.owner, 'unknown') || ')'
                ELSE coalesce(nullif(a.application_name, ''), 'unnamed') || '/' || coalesce(a.usename, 'unknown role')
                     || ' (pid ' || l.pid || ', ' || coalesce(a.state, a.backend_type, 'state unknown') || ')' END
           || coalesce(', transaction open for '
                       || round(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::numeric, 1) || ' s', '') AS who
    FROM pg_locks l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_prepared_xacts p ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction::text
    WHERE l.granted AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND ((l.locktype = 'relation' AND ($1 OR l.mode <> 'AccessShareLock')
            AND l.relation IN (to_regclass('public.agent_memories'), to_regclass('public.workspaces')))
           OR (l.locktype = 'advisory' AND l.objsubid = 1
               AND (l.classid::bigint << 32) | l.objid::bigint = cutover.phase_lock_key()))
      AND coalesce(a.application_name, '') !~ '^cutover(-|$)'
      AND l.pid IS DISTINCT FROM pg_backend_pid()
) t
ORDER BY t.began NULLS LAST, t.who
LIMIT 5
