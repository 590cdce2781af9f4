-- What the plugin holds, canonical: the same columns as digest_expected.sql, from the built-in plugin's tables.
-- created_at is taken only where the delivery said that legacy knew one. What expires by cutover.as_of counts as gone.
-- $1: salt; $2: range or ids (see `these`); $3 or $4: namespaces that hold no memories; the last: ids to leave out.
SELECT r.id, r.namespace, r.content,
       CASE WHEN r.ours ->> 'created_at' IS NOT NULL THEN r.created_at END AS created_at,
       r.embedding,
       CASE WHEN r.ours ?& ARRAY['workspace_id', 'scope', 'namespace', 'created_at', 'updated_at']
            THEN '5|' || coalesce(r.ours ->> 'created_at', '') || '|' || coalesce(r.ours ->> 'updated_at', '') || '|'
            ELSE '' END
           || coalesce(r.ours ->> 'workspace_id', '') || '|' || coalesce(r.ours ->> 'scope', '') || '|' || r.kind || '|'
           || r.source || '|' || CASE WHEN r.pin THEN 't|' ELSE 'f|' END
           || coalesce(encode(timestamptz_send(r.expires_at), 'hex'), '') || '|'
           || coalesce(length(r.ours ->> 'namespace') || '|' || (r.ours ->> 'namespace'), '')
           || CASE WHEN r.kind = 'checkpoint' AND r.ours ? 'kv' THEN
                  concat('|', length(r.ours #>> '{kv,key}'), '|', r.ours #>> '{kv,key}', '|', r.ours #>> '{kv,version}')
                  ELSE '' END AS provenance,
       CASE WHEN r.kind = 'checkpoint' AND r.ours ? 'kv' THEN 'kv' ELSE 'memory' END AS source,
       NULL::uuid AS workspace_id
FROM (
    SELECT h.id, h.namespace, h.content,
           -- A time that no client can hold is put down as one that no memory has.
           CASE WHEN h.created_at >= '0001-01-02 00:00:00+00' AND h.created_at < '9999-12-31 00:00:00+00'
                THEN h.created_at ELSE '0001-01-01 12:00:00+00' END AS created_at, h.embedding IS NOT NULL AS embedding, h.kind, h.source, h.pin,
           h.expires_at, h.propagation -> 'cutover' AS ours
    FROM memory_plugin.memory_records h
    WHERE h.id {these} AND h.namespace <> ALL ({leaving_out}::text[])
      AND (h.expires_at IS NULL OR h.expires_at > (SELECT current_setting('cutover.as_of')::timestamptz)) AND h.id <> ALL ({except}::uuid[])
    OFFSET 0
) r
