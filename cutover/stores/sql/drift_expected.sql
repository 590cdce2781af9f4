-- The expected side of the drift ledger, in one snapshot. One row: counts, and the ids that carry a mark.
-- {kv_rows} is a fragment of stores/drift.py: the rows of workspace_memory, or none where K/V is not captured.
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
), kv AS (
    -- The live K/V rows that capture or, once it is done, the backfill has reached. A row without a mapping then is one
    -- that got past the capture: it counts as expected, so that it shows as unexplained.
    SELECT k.memory_id, m.memory_id IS NOT NULL AS marked, q.memory_id IS NOT NULL AS quarantined
    FROM ({kv_rows}) v
    LEFT JOIN cutover.kv k ON k.workspace_id = v.workspace_id AND k.key = v.key
    LEFT JOIN cutover.mark m ON m.memory_id = k.memory_id
    LEFT JOIN cutover.quarantine q ON q.memory_id = k.memory_id
    WHERE (v.expires_at IS NULL OR v.expires_at > now()) AND v.workspace_id IS NOT NULL AND v.key IS NOT NULL
      AND (k.memory_id IS NOT NULL OR EXISTS (
          SELECT FROM cutover.backfill_cursor c, state WHERE c.scope = 'kv' AND c.generation = state.generation AND c.done))
), kv_under_way AS (
    SELECT kv.memory_id FROM kv WHERE kv.marked
    UNION ALL  -- switched off, or A0: what is mapped is held until it has been forgotten
    SELECT k.memory_id FROM cutover.kv k, cutover.kv_capture c
    WHERE NOT c.captured AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = k.memory_id)
), accepted AS (
    -- Rows that are on one side only, and somebody answers for that. Where another cause accounts for a row, that does.
    SELECT DISTINCT d.memory_id FROM cutover.divergence d
    WHERE d.state = 'accepted' AND d.closed_at IS NULL AND d.source = 'memory'
      AND d.class IN ('missing_in_plugin', 'missing_in_legacy', 'resurrected')
      AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = d.memory_id)
      AND NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = d.memory_id AND q.reason <> 'id_taken')
      AND NOT EXISTS (SELECT FROM cutover.native n WHERE n.memory_id = d.memory_id)
      AND NOT EXISTS (SELECT FROM cutover.kv k WHERE k.memory_id = d.memory_id)
), by_scope AS (
    SELECT e.scope, count(*) AS rows FROM expected e GROUP BY e.scope
)
SELECT state.phase,
       now() AS at,
       reached.everything,
       reached.last_id,
       (SELECT coalesce(sum(b.rows), 0) FROM by_scope b)::bigint AS expected,
       (SELECT coalesce(jsonb_object_agg(coalesce(b.scope, 'LOCAL'), b.rows), '{}') FROM by_scope b) AS by_scope,
       (SELECT count(*) FROM cutover.mark m JOIN expected e ON e.id = m.memory_id) AS marked_expected,
       (SELECT coalesce(array_agg(m.memory_id), '{}') FROM cutover.mark m
        WHERE NOT EXISTS (SELECT FROM natives n WHERE n.memory_id = m.memory_id)
          AND NOT EXISTS (SELECT FROM kv WHERE kv.memory_id = m.memory_id)) AS marked,
       (SELECT coalesce(array_agg(n.memory_id), '{}') FROM natives n WHERE n.marked) AS marked_natives,
       (SELECT count(*) FROM natives n WHERE NOT n.marked) AS natives,
       (SELECT count(*) FROM natives n WHERE NOT n.marked AND NOT reached.everything
          AND (reached.last_id IS NULL OR n.memory_id > reached.last_id)) AS natives_unreached,
       (SELECT coalesce(array_agg(x.memory_id), '{}') FROM accepted x) AS accepted,
       (SELECT count(*) FROM accepted x JOIN expected e ON e.id = x.memory_id) AS accepted_expected,
       (SELECT count(*) FROM kv WHERE NOT kv.marked AND NOT kv.quarantined) AS kv,
       (SELECT coalesce(array_agg(u.memory_id), '{}') FROM kv_under_way u) AS kv_under_way,
       (SELECT count(*) FROM cutover.quarantine q JOIN expected e ON e.id = q.memory_id AND q.reason <> 'id_taken'
        WHERE NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = q.memory_id)) AS quarantined,
       CASE WHEN reached.everything THEN 0 ELSE (
           SELECT count(*) FROM expected e
           WHERE (reached.last_id IS NULL OR e.id > reached.last_id)
             AND NOT EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = e.id)
             AND NOT EXISTS (SELECT FROM accepted x WHERE x.memory_id = e.id)
             AND NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = e.id AND q.reason <> 'id_taken')) END AS unreached
FROM state, reached;
