-- Certificates with their approvals and what they were used for, newest first. $1: a hash in hex or its beginning,
-- empty for all. $2: at most so many.
SELECT c.body, e.epoch AS used_in,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('approver', a.approver, 'at', a.at) ORDER BY a.seq), '[]')
        FROM cutover.approval a WHERE a.certificate = c.hash) AS approvals
FROM cutover.certificate c LEFT JOIN cutover.phase_event e ON e.certificate = c.hash
WHERE starts_with(encode(c.hash, 'hex'), $1)
ORDER BY c.issued_at DESC, c.hash LIMIT $2
