-- What the plugin says of a memory is expected of legacy. A time that it does not know stays what it was.
INSERT INTO cutover_rehearsal.expected AS e (id, workspace_id, content, scope, label, created_at, updated_at, embedding)
VALUES ($1, $2::text::uuid, $3, $4, $5, $6::text::timestamptz, $7::text::timestamptz, $8)
ON CONFLICT (id) DO UPDATE SET
    workspace_id = excluded.workspace_id, content = excluded.content, scope = excluded.scope, label = excluded.label,
    created_at = coalesce(excluded.created_at, e.created_at), updated_at = coalesce(excluded.updated_at, e.updated_at),
    embedding = excluded.embedding
