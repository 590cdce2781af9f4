-- v1 list, scope TEAM: TEAM rows of the workspaces, other than removed ones, that are the reader's parent or share it;
-- for a root, itself and its children (domain §2).
-- $1 reader, $2 scope (always TEAM), $3 label or null, $4 text of the query, $5 limit
SELECT m.id, m.workspace_id, m.content, m.scope, m.namespace AS label, cutover.sane(m.created_at) AS created_at,
       cutover.sane(m.updated_at) AS updated_at
  FROM public.workspaces AS reader
  JOIN public.workspaces AS w
    ON w.id = coalesce(reader.parent_id, reader.id) OR w.parent_id = coalesce(reader.parent_id, reader.id)
  JOIN public.agent_memories AS m ON m.workspace_id = w.id
 WHERE reader.id = $1
   AND w.status::text <> 'removed'
   AND m.scope = $2::text
   AND ($3::text IS NULL OR m.namespace = $3)
   AND {matches}
 ORDER BY {order}
 LIMIT $5
