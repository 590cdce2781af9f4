-- $1: epoch; $2: what the clock had come to; $3: why; $4: the sweep.
INSERT INTO cutover.soak_event (epoch, event, green_seconds, why, run_id) VALUES ($1, 'reset', $2, left($3, 1000), $4)
