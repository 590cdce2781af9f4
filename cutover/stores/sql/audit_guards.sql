-- The triggers that must be there ($1 tables, $2 triggers, $3 their functions in schema cutover), as they are.
SELECT g.tab, g.trig, t.tgenabled = 'A' AS always, p.prosrc
FROM unnest($1::text[], $2::text[], $3::text[]) AS g (tab, trig, fun)
LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass('cutover.' || g.tab) AND t.tgname = g.trig AND NOT t.tgisinternal
LEFT JOIN pg_proc p ON p.oid = t.tgfoid AND p.proname = g.fun AND p.pronamespace = 'cutover'::regnamespace
ORDER BY g.tab, g.trig
