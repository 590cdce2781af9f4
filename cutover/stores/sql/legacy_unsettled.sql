-- Of the memories asked for, those by which the stores may differ right now with nothing wrong.
-- The backfill reaches old rows only; a row that came after A1 was entered was captured by the trigger.
-- $1 memories, $2 seconds
WITH state AS (
    SELECT s.generation,
           (SELECT max(e.at) FROM cutover.phase_event AS e WHERE e.to_phase = 'A1' AND e.from_phase = 'A0') AS shadowed_at
      FROM cutover.phase_state AS s
)
SELECT asked.id
  FROM unnest($1::uuid[]) AS asked(id)
 CROSS JOIN state
  LEFT JOIN public.agent_memories AS m ON m.id = asked.id
 WHERE EXISTS (SELECT FROM cutover.mark AS k WHERE k.memory_id = asked.id)
    OR EXISTS (SELECT FROM cutover.quarantine AS q WHERE q.memory_id = asked.id)
    OR EXISTS (SELECT FROM cutover.tombstone AS t
                WHERE t.memory_id = asked.id AND t.deleted_at > now() - make_interval(secs => $2))
    OR m.updated_at > now() - make_interval(secs => $2)
    OR m.created_at > now() - make_interval(secs => $2)
    OR (m.id IS NOT NULL
        AND coalesce(m.created_at < state.shadowed_at, true)
        AND NOT EXISTS (
            SELECT FROM cutover.backfill_cursor AS b
             WHERE b.generation = state.generation
               AND (b.scope = 'tenant' OR b.scope = 'workspace:' || m.workspace_id)
               AND (b.done OR b.last_id >= m.id)))
