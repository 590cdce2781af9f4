-- Which live memories in these namespaces only the plugin holds. $1 namespaces
SELECT m.memory_id FROM cutover.native AS m
 WHERE m.namespace = ANY ($1::text[]) AND (m.expires_at IS NULL OR m.expires_at > now())
