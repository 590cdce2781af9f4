-- These workspaces and all above them. UNION drops repeats, so a cycle ends. $1 workspaces
WITH RECURSIVE up(id) AS (
    SELECT asked.id FROM unnest($1::uuid[]) AS asked(id)
    UNION
    SELECT w.parent_id FROM up JOIN public.workspaces AS w ON w.id = up.id WHERE w.parent_id IS NOT NULL
)
SELECT w.id, w.parent_id, coalesce(w.status::text, '') = 'removed' AS removed
  FROM up JOIN public.workspaces AS w ON w.id = up.id
