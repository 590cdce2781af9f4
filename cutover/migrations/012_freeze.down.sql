-- Undoes 012_freeze. The triggers may be on the table: they name the function, so they go with it.
do $$
declare
    t record;
begin
    for t in select g.tgrelid::regclass as relation, g.tgname from pg_trigger g
        where g.tgfoid = to_regproc('cutover.refuse_frozen') and not g.tgisinternal loop
        execute format('drop trigger %I on %s', t.tgname, t.relation);
    end loop;
end $$;
drop function cutover.freeze_words(bytea);
drop function cutover.fold_refused();
drop function cutover.freeze_faults();
drop function cutover.remove_freeze();
drop function cutover.ease_freeze(text, text);
drop function cutover.freeze_now(text, float8, text, text);
drop function cutover.freeze_code();
drop function cutover.refuse_frozen();
drop function cutover.count_refused(text);
drop function cutover.free_refused();
drop function cutover.refused_name(text);
drop function cutover.freeze_name(integer);
do $$
declare
    v_name text;
begin
    for v_name in select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'cutover' and c.relkind = 'S' and c.relname ~ '^freeze_(attempts|name)_' loop
        execute format('drop sequence cutover.%I', v_name);
    end loop;
end $$;
drop table cutover.freeze_counted;
drop table cutover.freeze_pass;
drop table cutover.freeze_refusal;
drop table cutover.freeze_log;
drop table cutover.freeze;
