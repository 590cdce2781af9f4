-- Where the tenant stands: phase and epoch, how far the backfill has come in this generation, and the horizon below
-- which every delivery that will ever be visible is visible.
SELECT s.phase, s.epoch, s.generation,
       s.phase IN ('A3', 'A4') OR coalesce(c.done, false) AS everything,
       c.last_id,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
       clock_timestamp() AS at
FROM cutover.phase_state s
LEFT JOIN cutover.backfill_cursor c ON c.scope = 'tenant' AND c.generation = s.generation
