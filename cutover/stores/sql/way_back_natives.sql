-- The first $1 memories that v1 has no form for, by the journal's newest word on them, and how many there are in all.
WITH newest AS (
    SELECT DISTINCT ON (j.memory_id) j.memory_id, j.op, j.kind, j.namespace
    FROM cutover.journal j WHERE j.state IN ('intent', 'applied') AND j.native
    ORDER BY j.memory_id, j.seq DESC
)
SELECT n.memory_id, n.kind, n.namespace, count(*) OVER () AS total
FROM newest n WHERE n.op = 'upsert' AND NOT EXISTS (SELECT FROM public.agent_memories a WHERE a.id = n.memory_id)
ORDER BY n.namespace, n.memory_id LIMIT $1
