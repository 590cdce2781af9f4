-- Who was refused by freeze $1 (null: the last one), and how often.
SELECT r.writer, r.attempts, r.first_seen, r.last_seen
FROM cutover.freeze_refusal r
WHERE r.number = coalesce($1, (SELECT max(l.number) FROM cutover.freeze_log l))
ORDER BY r.attempts DESC, r.writer
