-- Rows of workspace_memory under the ids that they must have. Braces: parameters (stores/digest.py).
SELECT l.id, v.workspace_id, v.key, v.value, v.version, v.expires_at, v.updated_at
FROM unnest({ids}::uuid[], {workspaces}::uuid[], {keys}::text[]) AS l (id, workspace_id, key)
JOIN public.workspace_memory v ON v.workspace_id = l.workspace_id AND v.key = l.key
