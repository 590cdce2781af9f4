-- What a restore has to know once schema cutover is gone: memories whose last word is a delete, and deletes that never were.
WITH w AS (SELECT j.seq, j.memory_id FROM cutover.journal j WHERE j.op = 'forget' AND j.state = 'withdrawn')
SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS made_at,
       ARRAY(SELECT t.memory_id FROM cutover.tombstone t
             WHERE coalesce((SELECT j.op FROM cutover.journal j
                             WHERE j.memory_id = t.memory_id AND j.state IN ('intent', 'applied')
                             ORDER BY j.seq DESC LIMIT 1), 'forget') = 'forget' ORDER BY 1) AS deleted,
       ARRAY(SELECT w.seq FROM w ORDER BY w.seq) AS withdrawn_seqs,
       ARRAY(SELECT w.memory_id FROM w ORDER BY w.seq) AS withdrawn_ids
