-- What the tenant's database knows of these memories: owner and scope of a v1 row, or the namespace of a native or
-- of a K/V row.
-- $1 memories
SELECT m.id, m.workspace_id, m.scope, NULL::text AS namespace
  FROM public.agent_memories AS m WHERE m.id = ANY ($1::uuid[])
UNION ALL
SELECT n.memory_id, NULL, NULL, n.namespace
  FROM cutover.native AS n WHERE n.memory_id = ANY ($1::uuid[])
UNION ALL
SELECT k.memory_id, NULL, NULL, 'workspace:' || k.workspace_id
  FROM cutover.kv AS k WHERE k.memory_id = ANY ($1::uuid[])
   AND NOT EXISTS (SELECT FROM public.agent_memories AS m WHERE m.id = k.memory_id)
