-- Every phase event with the text that its hash is of, put together here and not by the functions of schema cutover,
-- which whoever changed an event may have changed too. The session's time zone is UTC and its bytea_output hex.
SELECT e.seq, e.epoch, e.from_phase, e.to_phase, encode(e.certificate, 'hex') AS certificate, e.approvers, to_jsonb(e.at) #>> '{}' AS at, e.previous_hash, e.hash,
       (SELECT jsonb_object_agg(f.key, f.value)::text FROM jsonb_each(to_jsonb(e)) f
        WHERE f.key <> 'hash' AND f.value <> 'null') AS told
FROM cutover.phase_event e
ORDER BY e.seq
