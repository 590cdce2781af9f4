-- Of these memories, those without a creation time that a client could hold: "newest first" says nothing of their place.
-- $1 memories
SELECT m.id FROM public.agent_memories AS m
 WHERE m.id = ANY ($1::uuid[])
   AND (m.created_at IS NULL OR m.created_at < '0001-01-02 00:00:00+00' OR m.created_at >= '9999-12-31 00:00:00+00')
