-- The newest changes of phase, newest first: when, from where to where, by whom, why, and past what. $1: how many.
SELECT e.seq, e.epoch, e.from_phase, e.to_phase, e.at, e.actor, e.reason, e.override, e.approvers,
       encode(e.certificate, 'hex') AS certificate
FROM cutover.phase_event e
ORDER BY e.seq DESC
LIMIT $1
