-- The expected side of the drift ledger, in one snapshot. One row: counts, and the ids that carry a mark.
-- In A3 and A4 expected is frozen legacy with the journal laid over it; before, it is agent_memories itself.
WITH state AS (
    SELECT s.phase, s.generation, s.phase IN ('A3', 'A4') AS from_journal FROM cutover.phase_state s
), newest AS (
    SELECT DISTINCT ON (j.memory_id) j.memory_id, j.op, j.native, j.scope
    FROM cutover.journal j, state
    WHERE state.from_journal AND j.state IN ('intent', 'applied')
    ORDER BY j.memory_id, j.seq DESC
), expected AS (
    SELECT a.id, a.scope FROM public.agent_memories a
    WHERE NOT EXISTS (SELECT FROM newest n WHERE n.memory_id = a.id)
    UNION ALL
    SELECT n.memory_id, n.scope FROM newest n WHERE n.op = 'upsert' AND NOT n.native
), reached AS (
    -- How far the backfill has come in this generation: everything when done, nothing without a cursor.
    SELECT coalesce(c.done, false) OR state.from_journal AS everything, c.last_id
    FROM state LEFT JOIN cutover.backfill_cursor c ON c.scope = 'tenant' AND c.generation = state.generation
), natives AS (
    SELECT n.memory_id, EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = n.memory_id) AS marked
    FROM cutover.native n WHERE n.expires_at IS NULL OR n.expires_at > now()
), by_scope AS (
    SELECT e.scope, count(*) AS rows FROM expected e GROUP BY e.scope
)
SELECT state.phase,
       reached.everything,
       reached.last_id,
       (SELECT coalesce(sum(b.rows), 0) FROM by_scope b)::bigint AS expected,
       (SELECT coalesce(jsonb_object_agg(coalesce(b.scope, 'LOCAL'), b.rows), '{}') FROM by_scope b) AS by_scope,
       (SELECT count(*) FROM cutover.mark m JOIN expected e ON e.id = m.memory_id) AS marked_expected,
       (SELECT coalesce(array_agg(m.memory_id), '{}') FROM cutover.mark m
        WHERE NOT EXISTS (SELECT FROM natives n WHERE n.memory_id = m.memory_id)) AS marked,
       (SELECT coalesce(array_agg(n.memory_id), '{}') FROM natives n WHERE n.marked) AS marked_natives,
       (SELECT count(*) FROM natives n WHERE NOT n.marked) AS natives,
       (SELECT count(*) FROM natives n WHERE NOT n.marked AND NOT reached.everything
          AND (reached.last_id IS NULL OR n.memory_id > reached.last_id)) AS natives_unreached,
       (SELECT count(*) FROM cutover.quarantine q JOIN expected e ON e.id = q.memory_id
        WHERE NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = q.memory_id)) AS quarantined,
       CASE WHEN reached.everything THEN 0 ELSE (
           SELECT count(*) FROM expected e
           WHERE (reached.last_id IS NULL OR e.id > reached.last_id)
             AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = e.id)
             AND NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = e.id)) END AS unreached
FROM state, reached;
