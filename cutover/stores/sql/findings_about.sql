-- What else is known of a memory that was found to differ. One row.
SELECT (SELECT to_jsonb(m) - 'memory_id' - 'lease_owner' FROM cutover.mark m WHERE m.memory_id = $1) AS mark,
       (SELECT t.deleted_at FROM cutover.tombstone t WHERE t.memory_id = $1) AS deleted_at,
       (SELECT to_jsonb(q) - 'memory_id' FROM cutover.quarantine q WHERE q.memory_id = $1) AS quarantine
