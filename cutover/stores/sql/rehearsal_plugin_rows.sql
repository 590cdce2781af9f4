-- Of these memories what the plugin says that their v1 rows are (propagation.cutover), as text.
SELECT r.id, r.content, r.propagation #>> '{cutover,workspace_id}' AS workspace_id, r.propagation #>> '{cutover,scope}' AS scope,
       r.propagation #>> '{cutover,namespace}' AS label, r.propagation #>> '{cutover,created_at}' AS created_at,
       r.propagation #>> '{cutover,updated_at}' AS updated_at, md5(r.embedding::text) AS embedding
FROM memory_plugin.memory_records r WHERE r.id = ANY ($1::uuid[]) AND r.propagation ? 'cutover' AND r.propagation #>> '{cutover,scope}' IS NOT NULL
