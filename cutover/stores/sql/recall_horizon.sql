-- Deliveries of transactions that this snapshot does not hold have an xid from here on.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text
