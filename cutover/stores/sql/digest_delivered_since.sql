-- Of the memories $1, those with a delivery that the memory's own snapshot ($2) did not see; see digest_about.sql.
SELECT t.id FROM unnest($1::uuid[], $2::text[]) AS t (id, snapshot)
WHERE EXISTS (SELECT FROM cutover.delivery_log l
              WHERE l.memory_id = t.id AND l.xid >= pg_snapshot_xmin(t.snapshot::pg_snapshot)
                AND NOT pg_visible_in_snapshot(l.xid, t.snapshot::pg_snapshot)
                AND l.xid < pg_snapshot_xmax(pg_current_snapshot()))
