-- What the plugin must hold of a range even where the backfill has not been: natives, and planted faults.
SELECT j.memory_id AS id FROM cutover.journal j
WHERE j.memory_id BETWEEN $1 AND $2 AND j.native AND j.state IN ('intent', 'applied')
UNION
SELECT c.memory_id FROM cutover.canary c WHERE c.memory_id BETWEEN $1 AND $2
