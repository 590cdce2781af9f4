-- What these memories say. $1 memories
SELECT m.id, m.content FROM public.agent_memories AS m WHERE m.id = ANY ($1::uuid[])
UNION ALL
SELECT n.memory_id, n.content FROM cutover.native AS n WHERE n.memory_id = ANY ($1::uuid[])
