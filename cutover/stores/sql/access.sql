-- Who else was at agent_memories, and since when it is watched. The newest entry into A1 is when capture began.
SELECT clock_timestamp() AS now, s.phase,
       -- What was written while capture was broken left no trace: the time begins anew then.
       (SELECT greatest(e.at, (SELECT g.seen_at FROM cutover.capture_gap g)) FROM cutover.phase_event e WHERE e.from_phase = 'A0' AND e.to_phase = 'A1' AND s.phase <> 'A0'
        ORDER BY e.seq DESC LIMIT 1) AS writes_since,
       w.since AS reads_since, coalesce(w.why, '') AS reads_why, w.looked_at, coalesce(w.set_aside, 0) AS set_aside
FROM cutover.phase_state s
-- What is left of an earlier time in A3 says nothing about this one.
LEFT JOIN cutover.access_watch w ON s.phase IN ('A3', 'A4') AND w.since <= clock_timestamp() AND w.since >= (
    SELECT max(e.at) FROM cutover.phase_event e WHERE e.to_phase = 'A3')
