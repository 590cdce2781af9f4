-- Memory rows of one workspace for session-search, newest first.
-- $1 workspace, $2 ILIKE pattern or null, $3 limit
SELECT m.id, m.workspace_id, m.content, m.scope, m.namespace AS label, cutover.sane(m.created_at) AS created_at,
       cutover.sane(m.updated_at) AS updated_at
  FROM public.agent_memories AS m
 WHERE m.workspace_id = $1
   AND ($2::text IS NULL OR m.content ILIKE $2 OR m.scope ILIKE $2 OR m.namespace ILIKE $2)
 ORDER BY m.created_at DESC NULLS LAST, m.id
 LIMIT $3
