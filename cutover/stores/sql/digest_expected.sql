-- What the plugin is expected to hold, canonical: one row per memory (architecture §4). Before A3 that is agent_memories
-- and the natives; from A3 on the journal's newest word over the frozen agent_memories. Marked and quarantined memories
-- are left out: about those nothing is promised. Places every row by itself, without the functions that deliveries use.
-- K/V rows (the fragment kv: digest_kv_rows.sql or digest_kv_none.sql) are expected in every phase as workspace_memory has them.
-- $1: salt; $2: range or ids (see `these`); embedding: whether a row of agent_memories `a` has one.
-- What expires by cutover.as_of (one instant for both sides, whatever their clocks say) counts as gone already.
-- Columns: id, namespace (null: cannot be placed), content, created_at (null: not known), embedding, provenance, source,
-- workspace_id.
WITH RECURSIVE late AS (
    SELECT s.phase IN ('A3', 'A4') AS late FROM cutover.phase_state s
), up (start, at, hops, seen) AS (
    SELECT w.id, w.id, 0, ARRAY[w.id] FROM public.workspaces w
    UNION ALL
    SELECT u.start, p.id, u.hops + 1, u.seen || p.id
    FROM up u JOIN public.workspaces w ON w.id = u.at JOIN public.workspaces p ON p.id = w.parent_id
    WHERE u.hops < 50 AND NOT p.id = ANY (u.seen)
), place AS MATERIALIZED (
    SELECT w.id, 'workspace:' || w.id AS own, 'team:' || coalesce(w.parent_id, w.id) AS team, 'org:' || r.at AS org
    FROM public.workspaces w
    JOIN (SELECT DISTINCT ON (u.start) u.start, u.at FROM up u ORDER BY u.start, u.hops DESC) r ON r.start = w.id
), word AS (
    -- The journal's newest word on each memory that it speaks for in this phase.
    SELECT DISTINCT ON (j.memory_id) j.*
    FROM cutover.journal j
    WHERE j.memory_id {these} AND j.state IN ('intent', 'applied') AND (j.native OR (SELECT late FROM late))
    ORDER BY j.memory_id, j.seq DESC
), memory AS (
    SELECT a.id, a.workspace_id, a.scope::text AS scope, a.namespace::text AS label, a.content, a.created_at, a.updated_at,
           ({embedding} OR e.embedding IS NOT NULL) AS embedding, 'fact' AS kind, coalesce(e.source, 'agent') AS written_by,
           coalesce(e.pin, false) AS pin, NULL::timestamptz AS expires_at, NULL::text AS namespace, NULL::text AS last_known, 'memory' AS source,
           NULL::text AS kv
    FROM public.agent_memories a LEFT JOIN cutover.extra e ON e.memory_id = a.id
    WHERE a.id {these} AND NOT ((SELECT late FROM late) AND EXISTS (SELECT FROM word w WHERE w.memory_id = a.id))
    UNION ALL
    SELECT w.memory_id, w.workspace_id, w.scope, w.label, w.content, w.created_at, w.updated_at, w.embedding IS NOT NULL, w.kind,
           w.source, w.pin, w.expires_at, CASE WHEN w.native THEN w.namespace END, w.namespace,
           CASE WHEN w.native THEN 'native' ELSE 'memory' END, NULL
    FROM word w
    WHERE w.op = 'upsert' AND (w.expires_at IS NULL OR w.expires_at > (SELECT current_setting('cutover.as_of')::timestamptz))
      AND ((SELECT late FROM late) OR NOT EXISTS (SELECT FROM public.agent_memories a WHERE a.id = w.memory_id))
    UNION ALL
    SELECT v.id, v.workspace_id, NULL, 'general', coalesce(v.value::text, 'null'), v.updated_at, v.updated_at, false, 'checkpoint',
           'runtime', false, CASE WHEN v.expires_at < '9999-12-31 00:00:00+00' THEN v.expires_at END,
           'workspace:' || v.workspace_id, NULL, 'kv', concat('|', length(v.key), '|', v.key, '|', v.version)
    FROM ({kv}) v
    WHERE (v.expires_at IS NULL OR v.expires_at > (SELECT current_setting('cutover.as_of')::timestamptz))
      AND NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = v.id)
    UNION ALL
    SELECT c.memory_id, NULL, NULL, NULL, c.content, NULL, NULL, false, 'fact', 'runtime', false, NULL, c.namespace, NULL, 'native', NULL
    FROM cutover.canary c WHERE c.memory_id {these} AND c.fault IN ('missing', 'changed', 'intact')
)
SELECT m.id,
       -- A journaled memory of a workspace that is gone stays where it was last.
       coalesce(m.namespace, CASE m.scope WHEN 'LOCAL' THEN p.own WHEN 'TEAM' THEN p.team WHEN 'GLOBAL' THEN p.org END,
                m.last_known) AS namespace,
       m.content,
       CASE WHEN m.created_at >= '0001-01-02 00:00:00+00' AND m.created_at < '9999-12-31 00:00:00+00'
            THEN m.created_at END AS created_at,
       m.embedding,
       -- What makes a v1 row of it again must be whole: all five keys, and the times to the microsecond.
       CASE WHEN m.label IS NULL THEN '' ELSE '5|'
               || coalesce(to_char(CASE WHEN m.created_at >= '0001-01-02 00:00:00+00' AND m.created_at < '9999-12-31 00:00:00+00'
                                THEN m.created_at END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '') || '|'
               || coalesce(to_char(CASE WHEN m.updated_at >= '0001-01-02 00:00:00+00' AND m.updated_at < '9999-12-31 00:00:00+00'
                                THEN m.updated_at END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '') || '|' END
           || coalesce(m.workspace_id::text, '') || '|' || coalesce(m.scope, '') || '|' || m.kind || '|' || m.written_by || '|'
           || CASE WHEN m.pin THEN 't|' ELSE 'f|' END || coalesce(encode(timestamptz_send(m.expires_at), 'hex'), '') || '|'
           || coalesce(length(m.label) || '|' || m.label, '') || coalesce(m.kv, '') AS provenance,
       m.source,
       m.workspace_id
FROM memory m LEFT JOIN place p ON p.id = m.workspace_id
WHERE NOT EXISTS (SELECT FROM cutover.mark x WHERE x.memory_id = m.id)
  AND NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = m.id AND q.reason <> 'id_taken')
