-- What the plugin must hold of a range even where the backfill has not been: natives, K/V rows that were reached,
-- planted faults, and what was delivered in this generation, as far as the log goes back.
SELECT j.memory_id AS id FROM cutover.journal j
WHERE j.memory_id BETWEEN $1 AND $2 AND j.native AND j.state IN ('intent', 'applied')
UNION
SELECT c.memory_id FROM cutover.canary c WHERE c.memory_id BETWEEN $1 AND $2
UNION
SELECT k.memory_id FROM cutover.kv k WHERE k.memory_id BETWEEN $1 AND $2
UNION
SELECT l.memory_id FROM cutover.delivery_log l
WHERE l.memory_id BETWEEN $1 AND $2
  AND l.at >= (SELECT coalesce(max(e.at), '-infinity') FROM cutover.phase_event e WHERE e.from_phase = 'A0')
