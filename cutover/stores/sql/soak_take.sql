-- Everything that was fed and is visible, taken away. Rows of a stay that is over go with it.
DELETE FROM cutover.soak_feed RETURNING seq, run_id, epoch, kind, outcome, ended_at
