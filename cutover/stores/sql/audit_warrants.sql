-- The certificates that phase events name, by what the events call them, each with its approvals.
SELECT encode(c.hash, 'hex') AS hash, c.body,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(a.approver, a.at) ORDER BY a.seq), '[]')
        FROM cutover.approval a WHERE a.certificate = c.hash) AS approvals
FROM cutover.certificate c WHERE c.hash IN (SELECT e.certificate FROM cutover.phase_event e)
