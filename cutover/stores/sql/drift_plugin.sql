-- The plugin's side of the drift ledger. $1: marked ids, $2: marked natives, $3: the backfill's cursor (NULL: nothing
-- reached), $4: everything is reached, $5: namespaces that are not memories (canaries), $6: K/V ids under way, $7: the
-- moment of the expected side, so that both call the same rows expired, $8: ids whose difference somebody accepted.
WITH held AS (
    SELECT r.id, split_part(r.namespace, ':', 1) AS prefix
    FROM memory_plugin.memory_records r
    WHERE r.namespace <> ALL ($5::text[]) AND (r.expires_at IS NULL OR r.expires_at > $7::timestamptz)
), by_kind AS (
    SELECT CASE WHEN h.prefix IN ('workspace', 'team', 'org') THEN h.prefix ELSE 'custom' END AS kind, count(*) AS rows
    FROM held h GROUP BY 1
)
SELECT (SELECT coalesce(sum(b.rows), 0) FROM by_kind b)::bigint AS held,
       (SELECT coalesce(jsonb_object_agg(b.kind, b.rows), '{}') FROM by_kind b) AS by_kind,
       (SELECT count(*) FROM held h WHERE h.id = ANY ($1::uuid[])) AS marked,
       (SELECT count(*) FROM held h WHERE h.id = ANY ($2::uuid[])) AS marked_natives,
       (SELECT count(*) FROM held h WHERE h.id = ANY ($6::uuid[])) AS kv_under_way,
       (SELECT count(*) FROM held h WHERE h.id = ANY ($8::uuid[])) AS accepted,
       -- K/V memories have a cursor of their own: one that is missing must not look like a row not yet copied.
       CASE WHEN $4::boolean THEN 0 ELSE (
           SELECT count(*) FROM held h JOIN memory_plugin.memory_records r USING (id)
           WHERE ($3::uuid IS NULL OR h.id > $3::uuid)
             AND NOT h.id = ANY ($1::uuid[]) AND NOT h.id = ANY ($2::uuid[])
             AND NOT h.id = ANY ($8::uuid[])
             AND (r.kind <> 'checkpoint' OR r.propagation #> '{cutover,kv}' IS NULL)) END AS unreached;
