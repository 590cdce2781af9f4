-- How far $2 rows reach from id $1 on the expected side: the last id of them, and how many there were.
-- Journal words are counted besides (each memory may have several): a chunk may turn out smaller, never larger.
SELECT (array_agg(x.id ORDER BY x.id DESC))[1] AS edge, count(*) AS rows
FROM (
    SELECT y.id FROM (
        (SELECT a.id FROM public.agent_memories a WHERE a.id >= $1 ORDER BY a.id LIMIT $2)
        UNION ALL
        (SELECT k.memory_id FROM cutover.kv k WHERE k.memory_id >= $1 ORDER BY k.memory_id LIMIT $2)
        UNION ALL
        (SELECT j.memory_id FROM cutover.journal j WHERE j.memory_id >= $1 ORDER BY j.memory_id LIMIT $2)
    ) y ORDER BY y.id LIMIT $2
) x
