-- What a manifest says of the tenant at the moment of the snapshot.
SELECT current_database()::text AS database, s.phase, s.epoch, s.legacy_changes,
       to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS snapshot_at,
       current_setting('server_version') AS server, current_setting('server_encoding') AS encoding
FROM cutover.phase_state s
