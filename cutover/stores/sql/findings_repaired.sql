-- The memories $1 have been marked: their open findings are repaired, by $2, until a sweep says otherwise.
UPDATE cutover.divergence d
SET state = 'repaired', repair_by = $2, repair_at = now(), accepted_by = NULL, accepted_at = NULL, why = NULL
WHERE d.memory_id = ANY ($1::uuid[]) AND d.closed_at IS NULL AND NOT d.class = ANY ($3::text[])
RETURNING d.class
