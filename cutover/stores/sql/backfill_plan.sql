-- What a backfill would find. $1: one workspace, or NULL for all. Each row counts under one reason only.
SELECT count(*) AS rows,
       count(DISTINCT a.workspace_id) AS workspaces,
       count(*) FILTER (WHERE a.workspace_id IS NULL) AS no_workspace,
       count(*) FILTER (WHERE a.workspace_id IS NOT NULL AND w.id IS NULL) AS workspace_gone,
       count(*) FILTER (WHERE w.id IS NOT NULL AND btrim(a.content, cutover.white_space()) = '') AS empty_content
FROM public.agent_memories a
LEFT JOIN public.workspaces w ON w.id = a.workspace_id
WHERE $1::uuid IS NULL OR a.workspace_id = $1;
