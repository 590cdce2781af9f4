-- What digest_kv_rows.sql gives where K/V is not captured: nothing. workspace_memory need not exist there.
SELECT NULL::uuid AS id, NULL::uuid AS workspace_id, NULL::text AS key, NULL::jsonb AS value, NULL::bigint AS version,
       NULL::timestamptz AS expires_at, NULL::timestamptz AS updated_at LIMIT 0
