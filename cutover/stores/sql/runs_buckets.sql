-- The buckets of one full sweep, summed up.
SELECT count(*) AS buckets, count(*) FILTER (WHERE b.differing > 0) AS differing_buckets,
       coalesce(sum(b.expected_rows), 0)::bigint AS expected_rows, coalesce(sum(b.plugin_rows), 0)::bigint AS plugin_rows,
       coalesce(sum(b.differing), 0)::bigint AS differing_rows,
       min(b.looked_at) AS looked_from, max(b.looked_at) AS looked_until
FROM cutover.sweep_bucket b WHERE b.run_id = $1
