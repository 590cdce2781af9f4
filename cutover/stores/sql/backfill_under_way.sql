-- Whether a session of this database holds the advisory lock $1.
SELECT EXISTS (SELECT FROM pg_locks l
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND (l.classid::bigint << 32) | l.objid::bigint = $1
                 AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
