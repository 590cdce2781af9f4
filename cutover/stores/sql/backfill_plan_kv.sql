-- What a K/V backfill would find. Expired rows are walked over, and not delivered.
SELECT count(*) AS rows, count(DISTINCT v.workspace_id) AS workspaces,
       count(*) FILTER (WHERE w.id IS NULL) AS workspace_gone
FROM public.workspace_memory v
LEFT JOIN public.workspaces w ON w.id = v.workspace_id;
