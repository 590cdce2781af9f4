-- Canonical rows (rows) of given ids, field by field; content and provenance as keyed hashes only.
SELECT c.id, c.namespace, sha256($1::bytea || convert_to(c.content, 'UTF8')) AS content_hash,
       octet_length(convert_to(c.content, 'UTF8')) AS content_length, c.created_at, c.embedding,
       sha256($1::bytea || convert_to(c.provenance, 'UTF8')) AS provenance_hash, c.source, c.workspace_id
FROM ({rows}) c
