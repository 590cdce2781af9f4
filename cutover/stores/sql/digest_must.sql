-- What the plugin must hold of a range even where the backfill has not been: natives, K/V rows that were reached, and planted
-- faults.
SELECT j.memory_id AS id FROM cutover.journal j
WHERE j.memory_id BETWEEN $1 AND $2 AND j.native AND j.state IN ('intent', 'applied')
UNION
SELECT c.memory_id FROM cutover.canary c WHERE c.memory_id BETWEEN $1 AND $2
UNION
SELECT k.memory_id FROM cutover.kv k WHERE k.memory_id BETWEEN $1 AND $2
