-- The clock as it is now. $1 to $12: the columns of cutover.soak after id.
UPDATE cutover.soak SET
    epoch = $1, green_seconds = $2, credited_to = $3, count_since = $4, count_until = $5, digest_since = $6,
    digest_until = $7, full_since = $8, full_until = $9, resets = $10, last_reset_at = $11, last_reset_why = left($12, 1000),
    updated_at = clock_timestamp()
