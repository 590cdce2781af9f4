-- In A3, and once per stay there: the clock at zero. What an earlier stay had come to is in its events.
WITH stay AS (
    SELECT s.epoch FROM cutover.phase_state s WHERE s.phase = 'A3'
), begun AS (
    INSERT INTO cutover.soak AS k (epoch) SELECT epoch FROM stay
    ON CONFLICT (id) DO UPDATE SET
        epoch = excluded.epoch, green_seconds = 0, credited_to = NULL, count_since = NULL, count_until = NULL,
        digest_since = NULL, digest_until = NULL, full_since = NULL, full_until = NULL, resets = 0,
        last_reset_at = NULL, last_reset_why = '', updated_at = clock_timestamp()
    WHERE k.epoch <> excluded.epoch
    RETURNING k.epoch
)
INSERT INTO cutover.soak_event (epoch, event, green_seconds)
SELECT b.epoch, 'began', coalesce((SELECT k.green_seconds FROM cutover.soak k), 0) FROM begun b
