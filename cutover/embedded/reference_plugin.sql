-- The reference plugin's statements, one per `-- name:` section.

-- name: schema_is_applied
SELECT to_regclass('memory_plugin.memory_records_listing') IS NOT NULL;

-- name: put_namespace
INSERT INTO memory_plugin.memory_namespaces (name, kind, expires_at, metadata)
VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (name) DO UPDATE
SET kind = excluded.kind, expires_at = excluded.expires_at, metadata = excluded.metadata
RETURNING name, kind, expires_at, metadata, created_at;

-- name: patch_namespace
-- $2 and $4 say which of the two fields was given.
UPDATE memory_plugin.memory_namespaces
SET expires_at = CASE WHEN $2 THEN $3::timestamptz ELSE expires_at END,
    metadata = CASE WHEN $4 THEN $5::jsonb ELSE metadata END
WHERE name = $1
RETURNING name, kind, expires_at, metadata, created_at;

-- name: delete_namespace
DELETE FROM memory_plugin.memory_namespaces WHERE name = $1;

-- name: commit
-- created_at is the first commit's for good.
INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source, expires_at, propagation, pin, embedding)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9::text::vector)
ON CONFLICT (id) DO UPDATE
SET namespace = excluded.namespace, content = excluded.content, kind = excluded.kind, source = excluded.source,
    expires_at = excluded.expires_at, propagation = excluded.propagation, pin = excluded.pin,
    embedding = excluded.embedding;

-- name: forget
DELETE FROM memory_plugin.memory_records WHERE id = $1 AND namespace = $2;

-- name: search_by_embedding
SELECT id, namespace, content, kind, source, expires_at, propagation, pin, created_at,
       1 - (embedding <=> $4::text::vector) AS score
FROM memory_plugin.memory_records
WHERE namespace = ANY ($1) AND ($2::text[] IS NULL OR kind = ANY ($2))
  AND (expires_at IS NULL OR expires_at > now()) AND embedding IS NOT NULL
ORDER BY embedding <=> $4::text::vector, created_at DESC, id
LIMIT $3;

-- name: search_by_text
SELECT id, namespace, content, kind, source, expires_at, propagation, pin, created_at,
       ts_rank(content_tsv, plainto_tsquery('english', $4))::float8 AS score
FROM memory_plugin.memory_records
WHERE namespace = ANY ($1) AND ($2::text[] IS NULL OR kind = ANY ($2))
  AND (expires_at IS NULL OR expires_at > now()) AND content_tsv @@ plainto_tsquery('english', $4)
ORDER BY score DESC, created_at DESC, id
LIMIT $3;

-- name: search_by_substring
SELECT id, namespace, content, kind, source, expires_at, propagation, pin, created_at, NULL::float8 AS score
FROM memory_plugin.memory_records
WHERE namespace = ANY ($1) AND ($2::text[] IS NULL OR kind = ANY ($2))
  AND (expires_at IS NULL OR expires_at > now()) AND position(lower($4) IN lower(content)) > 0
ORDER BY pin DESC, created_at DESC, id
LIMIT $3;

-- name: list_newest
SELECT id, namespace, content, kind, source, expires_at, propagation, pin, created_at, NULL::float8 AS score
FROM memory_plugin.memory_records
WHERE namespace = ANY ($1) AND ($2::text[] IS NULL OR kind = ANY ($2))
  AND (expires_at IS NULL OR expires_at > now())
ORDER BY pin DESC, created_at DESC, id
LIMIT $3;
