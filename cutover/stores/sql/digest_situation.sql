-- Where the tenant stands: phase and epoch, how far the backfill has come in this generation and when that began, and
-- the snapshot by which a later reader can tell which deliveries came after this one. Not its lower end alone: that
-- stands still while any transaction is open, and everything since would count as just delivered.
SELECT s.phase, s.epoch, s.generation,
       s.phase IN ('A3', 'A4') OR coalesce(c.done, false) AS everything,
       c.last_id,
       pg_current_snapshot()::text AS snapshot,
       (SELECT max(e.at) FROM cutover.phase_event e WHERE e.from_phase = 'A0') AS generation_began,
       clock_timestamp() AS at
FROM cutover.phase_state s
LEFT JOIN cutover.backfill_cursor c ON c.scope = 'tenant' AND c.generation = s.generation
