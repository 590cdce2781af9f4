-- What the tenant's database knows of given ids ($1) apart from the rows themselves: a mark, a delivery by a transaction
-- from horizon $2 on, a tombstone, the quarantine, and who wrote the memory last as far as the log goes back.
SELECT t.id,
       EXISTS (SELECT FROM cutover.mark m WHERE m.memory_id = t.id)
           -- K/V was switched off: about what is still mapped nothing is promised either, it is to be forgotten.
           OR EXISTS (SELECT FROM cutover.kv k, cutover.kv_capture c WHERE k.memory_id = t.id AND NOT c.captured) AS marked,
       EXISTS (SELECT FROM cutover.tombstone g WHERE g.memory_id = t.id) AS deleted,
       EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = t.id AND q.reason <> 'id_taken') AS quarantined,
       d.xid IS NOT NULL AND d.xid >= $2::text::xid8 AS delivered,
       d.at AS delivered_at,
       CASE WHEN d.origin = 'backfill' THEN 'backfill' ELSE d.writer END AS writer
FROM unnest($1::uuid[]) AS t (id)
LEFT JOIN (
    SELECT DISTINCT ON (l.memory_id) l.memory_id, l.xid, l.at, l.origin, l.writer
    FROM cutover.delivery_log l WHERE l.memory_id = ANY ($1::uuid[])
    ORDER BY l.memory_id, l.xid DESC
) d ON d.memory_id = t.id
