-- Activity rows of one workspace for session-search, newest first.
-- $1 workspace, $2 ILIKE pattern or null, $3 limit
SELECT a.id, a.workspace_id, a.activity_type AS label, coalesce(a.summary, '') AS content,
       coalesce(a.method, '') AS method, coalesce(a.status::text, '') AS status,
       a.request_body::text AS request_body, a.response_body::text AS response_body, a.created_at
  FROM public.activity_logs AS a
 WHERE a.workspace_id = $1
   AND ($2::text IS NULL
        OR a.activity_type ILIKE $2 OR a.summary ILIKE $2 OR a.method ILIKE $2 OR a.status::text ILIKE $2
        OR a.request_body::text ILIKE $2 OR a.response_body::text ILIKE $2)
 ORDER BY a.created_at DESC NULLS LAST, a.id
 LIMIT $3
