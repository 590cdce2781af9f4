-- Every row of the rehearsed legacy against what is expected, column by column; the first $1 that differ, and how many.
SELECT coalesce(a.id, e.id) AS id,
       CASE WHEN e.id IS NULL THEN 'should not be there' WHEN a.id IS NULL THEN 'is missing'
            ELSE concat_ws(', ', CASE WHEN a.workspace_id IS DISTINCT FROM e.workspace_id THEN 'workspace_id' END,
                CASE WHEN a.content IS DISTINCT FROM e.content THEN 'content' END,
                CASE WHEN a.scope::text IS DISTINCT FROM e.scope THEN 'scope' END,
                CASE WHEN a.namespace::text IS DISTINCT FROM e.label THEN 'namespace' END,
                CASE WHEN a.created_at IS DISTINCT FROM e.created_at THEN 'created_at' END,
                CASE WHEN a.updated_at IS DISTINCT FROM e.updated_at THEN 'updated_at' END,
                CASE WHEN {fingerprint} IS DISTINCT FROM e.embedding THEN 'embedding' END) END AS what,
       count(*) OVER () AS total
FROM cutover_rehearsal.agent_memories a FULL JOIN cutover_rehearsal.expected e ON e.id = a.id
WHERE a.id IS NULL OR e.id IS NULL
   OR (a.workspace_id, a.content, a.scope::text, a.namespace::text, a.created_at, a.updated_at, {fingerprint})
      IS DISTINCT FROM (e.workspace_id, e.content, e.scope, e.label, e.created_at, e.updated_at, e.embedding)
ORDER BY 1 LIMIT $1
