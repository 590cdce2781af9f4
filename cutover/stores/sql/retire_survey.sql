-- What `cutover retire` removes, and what would be lost or broken by that.
SELECT s.phase, d.state,
       (SELECT count(*) FROM cutover.mark) AS marks,
       (SELECT count(*) FROM cutover.journal WHERE state = 'intent') AS intents,
       (SELECT count(*) FROM cutover.namespace WHERE greatest(closed_until, delete_may_land_until) > clock_timestamp()) AS namespaces,
       (SELECT count(*) FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.application_name IN ('cutover', 'cutover-listen')) AS daemons,
       ARRAY(SELECT quote_ident(t.tgname) || ' on ' || t.tgrelid::regclass
             FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
             JOIN pg_class c ON c.oid = t.tgrelid
             WHERE p.pronamespace = 'cutover'::regnamespace AND c.relnamespace <> 'cutover'::regnamespace AND NOT t.tgisinternal
             ORDER BY 1) AS triggers,
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relnamespace = 'cutover'::regnamespace AND c.relkind = 'r' ORDER BY 1) AS tables
FROM cutover.phase_state s LEFT JOIN cutover.drop_state d ON true
