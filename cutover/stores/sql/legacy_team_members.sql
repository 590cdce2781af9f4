-- The workspaces whose TEAM rows a reader sees: its parent (itself for a root) and that one's children, but not
-- removed ones. $1 the parent, or the root itself
SELECT w.id, w.parent_id FROM public.workspaces AS w
 WHERE (w.id = $1 OR w.parent_id = $1) AND w.status::text <> 'removed'
