-- How the buckets of one stretch of a full sweep compared. A bucket may come in several stretches.
INSERT INTO cutover.sweep_bucket AS b (run_id, bucket, looked_at, expected_rows, plugin_rows, differing)
SELECT $1, t.bucket, $2, t.expected, t.held, t.differing
FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[]) AS t (bucket, expected, held, differing)
ON CONFLICT (run_id, bucket) DO UPDATE SET
    looked_at = least(b.looked_at, excluded.looked_at), expected_rows = b.expected_rows + excluded.expected_rows,
    plugin_rows = b.plugin_rows + excluded.plugin_rows, differing = b.differing + excluded.differing
