-- The contract's search over legacy rows, by the namespace that each row derives to in the tree as it is now, and,
-- where asked for, over the native rows that only the plugin holds (domain §3, architecture §2).
-- $1 namespaces asked for, $2 workspaces of `workspace:`, $3 heads of `team:`, $4 roots of `org:`,
-- $5 text of the query, $6 limit, $7 kinds or null, $8 whether natives are wanted
-- The names in braces are fragments of stores/legacy.py: how the text is searched.
WITH RECURSIVE below(id) AS (
    -- Everything under the organisations asked for. UNION drops repeats, so a cycle ends.
    SELECT w.id FROM public.workspaces AS w WHERE w.id = ANY ($4::uuid[])
    UNION
    SELECT w.id FROM below JOIN public.workspaces AS w ON w.parent_id = below.id
), place(workspace_id, scope, namespace) AS (
    SELECT asked.id, 'LOCAL', 'workspace:' || asked.id FROM unnest($2::uuid[]) AS asked(id)
    UNION ALL
    SELECT w.id, 'TEAM', 'team:' || coalesce(w.parent_id, w.id)
      FROM public.workspaces AS w
     WHERE w.parent_id = ANY ($3::uuid[]) OR (w.parent_id IS NULL AND w.id = ANY ($3::uuid[]))
    UNION ALL
    SELECT below.id, 'GLOBAL', 'org:' || top.id
      FROM below CROSS JOIN LATERAL (SELECT cutover.root_of(below.id)) AS top(id)
     WHERE top.id = ANY ($4::uuid[])
), legacy AS (
    SELECT m.id, place.namespace, m.content, 'fact'::text AS kind, coalesce(x.source, 'agent') AS source,
           NULL::timestamptz AS expires_at, x.propagation::text AS propagation, coalesce(x.pin, false) AS pin,
           coalesce(cutover.sane(m.created_at), cutover.sane(m.updated_at), 'epoch'::timestamptz) AS created_at, {score} AS score
      FROM place
      JOIN public.agent_memories AS m ON m.workspace_id = place.workspace_id AND m.scope = place.scope
      LEFT JOIN cutover.extra AS x ON x.memory_id = m.id
     WHERE ($7::text[] IS NULL OR 'fact' = ANY ($7)) AND {matches}
), native AS (
    SELECT m.memory_id AS id, m.namespace, m.content, m.kind::text, m.source::text, m.expires_at,
           m.propagation::text AS propagation, m.pin, m.created_at, {native_score} AS score
      FROM cutover.native AS m
     WHERE $8::boolean AND m.namespace = ANY ($1::text[])
       AND (m.expires_at IS NULL OR m.expires_at > now())
       AND ($7::text[] IS NULL OR m.kind::text = ANY ($7)) AND {native_matches}
)
SELECT * FROM (
    (SELECT * FROM legacy ORDER BY {order} LIMIT $6)
    UNION ALL
    (SELECT * FROM native ORDER BY {order} LIMIT $6)
) AS found
ORDER BY {order}
LIMIT $6
