-- Namespaces, other than where they belong, in which these memories ($1) may still be held: where deleted ones were, where
-- planted ones are, and where open findings saw theirs.
SELECT t.memory_id AS id, h.namespace
FROM cutover.tombstone t CROSS JOIN LATERAL unnest(t.held_in) AS h(namespace) WHERE t.memory_id = ANY ($1::uuid[])
UNION
SELECT c.memory_id, c.namespace FROM cutover.canary c WHERE c.memory_id = ANY ($1::uuid[])
UNION
SELECT d.memory_id, d.namespace FROM cutover.divergence d
WHERE d.memory_id = ANY ($1::uuid[]) AND d.closed_at IS NULL AND d.namespace IS NOT NULL
UNION
SELECT v.memory_id, v.namespace FROM cutover.verify_finding v
WHERE v.memory_id = ANY ($1::uuid[]) AND v.closed_at IS NULL AND v.namespace IS NOT NULL
