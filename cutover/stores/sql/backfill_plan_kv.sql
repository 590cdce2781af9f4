-- What a K/V backfill would copy. Expired rows are walked over, and neither delivered nor counted.
SELECT count(*) AS rows, count(DISTINCT v.workspace_id) AS workspaces,
       count(*) FILTER (WHERE w.id IS NULL) AS workspace_gone
FROM public.workspace_memory v
LEFT JOIN public.workspaces w ON w.id = v.workspace_id
WHERE v.expires_at IS NULL OR v.expires_at > now();
