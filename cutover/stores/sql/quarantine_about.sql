-- What else is known of a quarantined memory: its mark, who holds it, how long its content is (never what it says).
SELECT (SELECT to_jsonb(m) - 'memory_id' - 'lease_owner' FROM cutover.mark m WHERE m.memory_id = $1) AS mark,
       CASE WHEN a.id IS NOT NULL THEN 'legacy' WHEN n.memory_id IS NOT NULL THEN 'native'
            WHEN k.memory_id IS NOT NULL THEN 'kv'
            WHEN EXISTS (SELECT FROM cutover.journal j WHERE j.memory_id = $1) THEN 'journal' END AS held_by,
       coalesce(a.scope, 'none') AS scope,
       length(coalesce(a.content, n.content)) AS content_length,
       w.id IS NOT NULL AS workspace_known
FROM (SELECT) AS one
LEFT JOIN public.agent_memories a ON a.id = $1
LEFT JOIN cutover.native n ON n.memory_id = $1
LEFT JOIN cutover.kv k ON k.memory_id = $1
LEFT JOIN public.workspaces w ON w.id = coalesce(a.workspace_id, k.workspace_id)
