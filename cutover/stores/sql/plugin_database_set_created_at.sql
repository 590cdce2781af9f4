-- Give the memories $1 the creation times $2, so that "newest first" stays true after the move (domain §4.8).
-- Answers with the ids that were changed. Ordered locking: two of these at once cannot deadlock.
WITH wanted AS (
    SELECT r.id, w.created_at
    FROM unnest($1::uuid[], $2::timestamptz[]) AS w (id, created_at)
    JOIN memory_plugin.memory_records r ON r.id = w.id AND r.created_at IS DISTINCT FROM w.created_at
    ORDER BY r.id
    FOR UPDATE OF r
)
UPDATE memory_plugin.memory_records r SET created_at = wanted.created_at
FROM wanted WHERE wanted.id = r.id
RETURNING r.id;
