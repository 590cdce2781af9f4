-- Marks older than $2 seconds, of one workspace's memories ($1) or of all (null): what ought to have been delivered long ago.
SELECT count(*) FROM cutover.mark m
WHERE m.marked_at < now() - make_interval(secs => $2)
  AND ($1::uuid IS NULL
       OR EXISTS (SELECT FROM public.agent_memories a WHERE a.id = m.memory_id AND a.workspace_id = $1)
       OR EXISTS (SELECT FROM cutover.journal j WHERE j.memory_id = m.memory_id AND j.workspace_id = $1))
