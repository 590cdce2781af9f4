-- Every namespace that anything of ours may lie in, past $1, at most $2: the contract cannot list them.
SELECT x.namespace
FROM (
    SELECT 'workspace:' || w.id AS namespace FROM public.workspaces w
    UNION
    SELECT 'team:' || coalesce(w.parent_id, w.id) FROM public.workspaces w
    UNION
    SELECT 'org:' || w.id FROM public.workspaces w
    UNION
    SELECT n.name FROM cutover.namespace n
    UNION
    SELECT c.namespace FROM cutover.canary c
    UNION
    SELECT h.namespace FROM cutover.tombstone t CROSS JOIN LATERAL unnest(t.held_in) AS h(namespace)
) x
WHERE x.namespace > $1
ORDER BY x.namespace
LIMIT $2
