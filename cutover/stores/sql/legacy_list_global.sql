-- v1 list, scope GLOBAL: every GLOBAL row of the database, whoever asks (domain §2).
-- $1 reader (not looked at), $2 scope (always GLOBAL), $3 label or null, $4 text of the query, $5 limit
SELECT m.id, m.workspace_id, m.content, m.scope, m.namespace AS label, cutover.sane(m.created_at) AS created_at,
       cutover.sane(m.updated_at) AS updated_at
  FROM public.agent_memories AS m
 WHERE $1::uuid IS NOT NULL
   AND m.scope = $2::text
   AND ($3::text IS NULL OR m.namespace = $3)
   AND {matches}
 ORDER BY {order}
 LIMIT $5
