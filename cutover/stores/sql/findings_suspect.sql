-- Put down what one look found ($1 ids, $2 classes and so on, one array element per finding). What is open already keeps
-- its state; a suspicion starts anew with this look; what was closed or repaired and is here again is suspect again.
-- The onset: after the last time its bucket was looked at whole, or its last delivery if that was later.
INSERT INTO cutover.divergence AS d
    (memory_id, class, state, source, namespace, namespace_kind, workspace_id, writer, first_run, last_run, looked_at,
     snapshot, onset_after, onset_before, expected_hash, plugin_hash, expected_length, plugin_length)
SELECT f.id, f.class, 'suspect', f.source, f.namespace,
       CASE WHEN f.namespace IS NULL THEN 'none'
            WHEN split_part(f.namespace, ':', 1) IN ('workspace', 'team', 'org') THEN split_part(f.namespace, ':', 1)
            ELSE 'custom' END,
       f.workspace_id, coalesce(f.writer, 'unknown'), $14, $14, $15, $16,
       greatest(f.delivered_at, b.looked_at, w.started_at), $15, f.expected_hash, f.plugin_hash, f.expected_length,
       f.plugin_length
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[], $8::bytea[],
            $9::bytea[], $10::integer[], $11::integer[], $12::integer[])
     AS f (id, class, source, namespace, workspace_id, writer, delivered_at, expected_hash, plugin_hash, expected_length,
           plugin_length, bucket)
LEFT JOIN (
    SELECT s.bucket, max(s.looked_at) AS looked_at FROM cutover.sweep_bucket s
    WHERE s.bucket = ANY ($12::integer[]) AND s.run_id <> $14 GROUP BY s.bucket
) b ON b.bucket = f.bucket
-- A bucket that was empty then has no row; the whole sweep was there all the same.
LEFT JOIN (
    SELECT max(r.started_at) AS started_at FROM cutover.task_run r
    WHERE r.kind = 'sweep.digest' AND r.state = 'finished' AND (r.outcome ->> 'full')::boolean AND r.id <> $14
      AND r.outcome ->> 'generation' = $13::text
) w ON true
ON CONFLICT (memory_id, class) DO UPDATE SET
    last_run = excluded.last_run, last_seen = now(), expected_hash = excluded.expected_hash,
    plugin_hash = excluded.plugin_hash, expected_length = excluded.expected_length,
    plugin_length = excluded.plugin_length, namespace = excluded.namespace, namespace_kind = excluded.namespace_kind,
    state = CASE WHEN d.closed_at IS NOT NULL OR d.state = 'repaired' THEN 'suspect' ELSE d.state END,
    looked_at = CASE WHEN d.closed_at IS NOT NULL OR d.state IN ('suspect', 'repaired') THEN excluded.looked_at ELSE d.looked_at END,
    snapshot = CASE WHEN d.closed_at IS NOT NULL OR d.state IN ('suspect', 'repaired') THEN excluded.snapshot ELSE d.snapshot END,
    first_seen = CASE WHEN d.closed_at IS NOT NULL THEN now() ELSE d.first_seen END,
    first_run = CASE WHEN d.closed_at IS NOT NULL THEN excluded.first_run ELSE d.first_run END,
    onset_after = CASE WHEN d.closed_at IS NOT NULL THEN excluded.onset_after ELSE d.onset_after END,
    onset_before = CASE WHEN d.closed_at IS NOT NULL THEN excluded.onset_before ELSE d.onset_before END,
    confirmed_at = CASE WHEN d.closed_at IS NOT NULL OR d.state = 'repaired' THEN NULL ELSE d.confirmed_at END,
    accepted_by = CASE WHEN d.closed_at IS NULL THEN d.accepted_by END,
    accepted_at = CASE WHEN d.closed_at IS NULL THEN d.accepted_at END,
    why = CASE WHEN d.closed_at IS NULL THEN d.why END,
    closed_at = NULL, closed_by = NULL
