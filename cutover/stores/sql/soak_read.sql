-- The clock of the present stay in A3; no row in any other phase, or before the clock began.
SELECT s.*, clock_timestamp() AS now FROM cutover.soak s, cutover.phase_state p WHERE p.phase = 'A3' AND p.epoch = s.epoch
