-- v1 list, scope LOCAL or none: rows of one workspace (domain §2).
-- $1 workspace, $2 scope or null, $3 label or null, $4 text of the query, $5 limit
-- The names in braces are fragments of stores/legacy.py: how the text is searched.
SELECT m.id, m.workspace_id, m.content, m.scope, m.namespace AS label, cutover.sane(m.created_at) AS created_at,
       cutover.sane(m.updated_at) AS updated_at
  FROM public.agent_memories AS m
 WHERE m.workspace_id = $1
   AND ($2::text IS NULL OR m.scope = $2)
   AND ($3::text IS NULL OR m.namespace = $3)
   AND {matches}
 ORDER BY {order}
 LIMIT $5
