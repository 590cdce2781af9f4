-- Ids of one workspace's memories ($1) in legacy, and in the journal where it speaks for them.
SELECT a.id FROM public.agent_memories a WHERE a.workspace_id = $1
UNION
SELECT j.memory_id FROM cutover.journal j, cutover.phase_state s
WHERE j.workspace_id = $1 AND j.state IN ('intent', 'applied') AND j.op = 'upsert'
  AND (j.native OR s.phase IN ('A3', 'A4'))
UNION
SELECT k.memory_id FROM cutover.kv k WHERE k.workspace_id = $1
