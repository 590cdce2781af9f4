-- What the tree says about one workspace. $1 workspace
SELECT w.id, w.parent_id, cutover.root_of(w.id) AS root_id, coalesce(w.status::text, '') AS status
  FROM public.workspaces AS w
 WHERE w.id = $1
