-- The freeze of agent_memories, and what has been attempted on it (architecture §6, decision 0020).

create table cutover.freeze (
    id        smallint primary key default 1 check (id = 1),
    number    bigint not null check (number >= 1),
    mode      text not null check (mode in ('frozen', 'scream', 'thawing', 'open')),
    until     timestamptz,
    since     timestamptz not null default clock_timestamp(),
    actor     text not null check (actor <> '' and length(actor) <= 200),
    reason    text not null default '' check (length(reason) <= 2000),
    table_oid oid not null,
    code      bytea not null,
    check ((mode = 'scream') = (until is not null))
);
comment on table cutover.freeze is 'Who may write agent_memories while the trigger cutover_freeze is on it: frozen (nobody), scream and thawing (the daemon''s own path), open (everybody; the trigger is about to go).';
comment on column cutover.freeze.number is 'The trigger carries it. A transaction whose snapshot shows another number is older than the freeze and is refused.';
comment on column cutover.freeze.until is 'When a scream test ends by itself, by this database''s clock, whether or not a daemon lives.';
comment on column cutover.freeze.table_oid is 'The table that was frozen; another one of its name is tampering.';
comment on column cutover.freeze.code is 'No secret: sha256 of the trigger function as it was then.';

create table cutover.freeze_log (
    number    bigint primary key,
    mode      text not null,
    since     timestamptz not null,
    until     timestamptz,
    actor     text not null,
    reason    text not null,
    ended_at  timestamptz,
    ended_by  text
);
comment on column cutover.freeze.actor is 'No secret: a token''s name, or the daemon.';
comment on column cutover.freeze.reason is 'No secret: looked at where it was given.';
comment on table cutover.freeze_log is 'Every freeze there was: scream tests, cut-overs, repairs of the freeze, and by whom.';

create table cutover.freeze_refusal (
    number     bigint not null,
    writer     text not null,
    attempts   bigint not null,
    first_seen timestamptz not null,
    last_seen  timestamptz not null,
    primary key (number, writer)
);
comment on column cutover.freeze_log.mode is 'No secret: as in freeze.';
comment on column cutover.freeze_log.actor is 'No secret: a token''s name, or the daemon.';
comment on column cutover.freeze_log.reason is 'No secret: looked at where it was given.';
comment on column cutover.freeze_log.ended_by is 'No secret: a token''s name, or the daemon.';
comment on table cutover.freeze_refusal is 'Statements that the freeze refused, by writer (application name and role).';

create table cutover.freeze_counted (
    slot     smallint primary key,
    attempts bigint not null
);
comment on column cutover.freeze_refusal.writer is 'No secret: application_name and role.';
comment on table cutover.freeze_counted is 'How far each counter of refused statements has been read. One row per slot.';

create table cutover.freeze_pass (
    seq       bigint generated always as identity primary key,
    number    bigint not null,
    origin    text not null,
    operation text not null,
    writer    text not null,
    at        timestamptz not null default clock_timestamp()
);
comment on table cutover.freeze_pass is 'Every statement that wrote agent_memories while it was frozen: the replays of ways back, and nothing else.';
comment on column cutover.freeze_pass.origin is 'No secret: replay.';
comment on column cutover.freeze_pass.operation is 'No secret: INSERT or UPDATE.';
comment on column cutover.freeze_pass.writer is 'No secret: application_name and role.';

-- What a refused statement leaves behind must survive its own rollback, so it goes into sequences: a counter per
-- writer, and the writer's name, eight bytes to a sequence. Slot 0 counts those for whom no slot is left.
do $$
declare
    c_slots constant integer := 8;
    c_parts constant integer := 6;
begin
    for s in 0..c_slots loop
        execute format('create sequence cutover.freeze_attempts_%s', s);
        for p in 1..case when s = 0 then 0 else c_parts end loop
            execute format('create sequence cutover.freeze_name_%s_%s minvalue %s start 0', s, p, -9223372036854775808);
        end loop;
        insert into cutover.freeze_counted (slot, attempts) values (s, 0);
    end loop;
end $$;

-- The name in a slot, cut to what fits; null when the slot is free.
create function cutover.freeze_name(p_slot integer) returns bytea
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_name bytea := '';
    v_part bigint;
begin
    for p in 1..6 loop
        execute format('select s.last_value from cutover.freeze_name_%s_%s s', p_slot, p) into v_part;
        v_name := v_name || int8send(v_part);
    end loop;
    return nullif(rtrim(v_name, '\x00'), '');
end $$;

-- Free the slots. The caller holds the table, so nobody is being refused meanwhile, except by a freeze that is being made
-- anew: what he is counted for goes to the name that comes next, in the worst case.
create function cutover.free_refused() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from cutover.fold_refused();
    for s in 1..8 loop
        for p in 1..6 loop
            perform setval(format('cutover.freeze_name_%s_%s', s, p)::regclass, 0);
        end loop;
    end loop;
end $$;

-- What fits into a slot: the role whole, if at all possible, and as much of the application's name as is left.
create function cutover.refused_name(p_writer text) returns bytea
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
    v_role bytea := convert_to(substring(p_writer from '/[^/]*$'), 'UTF8');
    v_name bytea := convert_to(p_writer, 'UTF8');
begin
    if length(v_name) <= 48 or v_role is null then
        return substr(v_name, 1, 48);
    end if;
    -- Not through the middle of a character.
    v_name := convert_to(left(p_writer, -char_length(substring(p_writer from '/[^/]*$'))), 'UTF8');
    v_role := substr(v_role, 1, 40);
    v_name := substr(v_name, 1, 48 - length(v_role));
    while length(v_name) > 0 loop
        begin
            perform convert_from(v_name, 'UTF8');
            exit;
        exception when character_not_in_repertoire or untranslatable_character then
            v_name := substr(v_name, 1, length(v_name) - 1);
        end;
    end loop;
    return v_name || v_role;
end $$;

-- Count one refused statement of a writer. Nothing here is undone when the statement is.
create function cutover.count_refused(p_writer text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    v_name bytea := cutover.refused_name(p_writer);
    v_held bytea;
    v_slot integer := 0;
    v_mine boolean := false;
begin
    for s in 1..8 loop
        v_held := cutover.freeze_name(s);
        if v_held is null then
            -- Two new writers must not put their names into one slot. The lock is gone with the refusal.
            if not v_mine and not pg_try_advisory_xact_lock(7304916220481577230) then
                exit;
            end if;
            v_mine := true;
            v_held := cutover.freeze_name(s);
            if v_held is null then
                for p in 1..6 loop
                    perform setval(format('cutover.freeze_name_%s_%s', s, p)::regclass,
                        ('x' || encode(substr(v_name || decode(repeat('00', 48), 'hex'), p * 8 - 7, 8), 'hex'))::bit(64)::bigint);
                end loop;
                v_held := v_name;
            end if;
        end if;
        if v_held = v_name then
            v_slot := s;
            exit;
        end if;
    end loop;
    perform nextval(format('cutover.freeze_attempts_%s', v_slot)::regclass);
end $$;

-- The freeze itself. security definer: foreign writers need no rights in this schema.
create function cutover.refuse_frozen() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    f       cutover.freeze;
    v_origin text := nullif(current_setting('cutover.origin', true), '');
    v_phase text;
    v_moving text[];
begin
    select * into f from cutover.freeze where id = 1;
    -- Anybody may say that he is the daemon. Not cutover.own_origin(): this function alone is what freeze_code looks at.
    if v_origin is not null and not exists (
        select from cutover.own_transaction o where o.pid = pg_backend_pid() and o.xid = pg_current_xact_id_if_assigned())
    then
        v_origin := null;
    end if;
    if f.number::text is not distinct from tg_argv[0] then
        -- replay: the journal goes back into legacy ahead of the step to A2 (migration 013).
        if f.mode = 'open' or (f.mode = 'scream' and clock_timestamp() >= f.until)
           or (f.mode in ('scream', 'thawing') and v_origin = 'write')
           or (f.mode in ('frozen', 'thawing') and v_origin = 'replay') then
            if tg_level = 'STATEMENT' and f.mode = 'frozen' then
                insert into cutover.freeze_pass (number, origin, operation, writer)
                values (f.number, v_origin, tg_op, cutover.current_writer());
            end if;
            if tg_level = 'STATEMENT' then return null; end if;
            return new;
        end if;
    end if;
    -- A foreign key's ON DELETE SET NULL or SET DEFAULT: not the workspace's deletion is refused. Whoever only says that
    -- he deletes one gets as far as the rows, where it is looked at.
    if tg_op = 'UPDATE' and coalesce(current_setting('cutover.purging', true), '') <> '' then
        if tg_level = 'STATEMENT' then return null; end if;
        -- Generated columns are not known yet.
        v_moving := array(select a.attname::text from pg_attribute a where a.attrelid = tg_relid and a.attgenerated <> '')
            || 'workspace_id'::text;
        if old.workspace_id is not null and to_jsonb(new) - v_moving = to_jsonb(old) - v_moving
              and new.workspace_id is distinct from old.workspace_id
              and not exists (select from public.workspaces w where w.id = old.workspace_id)
              and exists (select from pg_constraint c where c.contype = 'f' and c.conrelid = tg_relid
                          and c.confrelid = 'public.workspaces'::regclass and c.confdeltype in ('n', 'd')) then
            return new;
        end if;
    end if;
    perform cutover.count_refused(cutover.current_writer());
    select s.phase into v_phase from cutover.phase_state s;
    if f.mode = 'scream' then
        raise exception 'agent_memories is frozen for a test until % (phase %): % is refused', f.until, v_phase, tg_op
            using errcode = 'CU003', hint = 'agent_memories still holds the memories. Who writes it past cutover fails like this after the cutover: write through cutover.';
    end if;
    if f.mode = 'thawing' then
        raise exception 'agent_memories is not open yet after the way back (phase %): % is refused', v_phase, tg_op
            using errcode = 'CU003',
                  hint = 'It opens when a sweep of it is clean. Until then write through cutover; DELETE works here.';
    end if;
    raise exception 'agent_memories is frozen (phase %): % is refused', coalesce(v_phase, 'unknown'), tg_op
        using errcode = 'CU003',
              hint = 'Memories are kept by the memory plugin now: write through cutover. DELETE still works here.';
end $$;
comment on function cutover.refuse_frozen() is 'SQLSTATE CU003. A missing row, or one of another number, refuses as well: the snapshot is older than the freeze.';

create function cutover.freeze_code() returns bytea
language sql stable as $$
    select sha256(convert_to(concat_ws('|', p.prosrc, p.prosecdef, p.proconfig::text, p.prolang::text), 'UTF8'))
    from pg_proc p where p.oid = to_regproc('cutover.refuse_frozen')
$$;

-- Freeze, in the caller's transaction. Waits for the writers under way: the caller sets lock_timeout. The trigger is
-- made anew every time, with a number of its own, so that transactions older than this cannot pass by an older row.
create function cutover.freeze_now(p_mode text, p_seconds float8, p_actor text, p_reason text) returns bigint
language plpgsql as $$
declare
    v_number bigint;
    v_until  timestamptz := case when p_mode = 'scream' then clock_timestamp() + make_interval(secs => p_seconds) end;
    v_phase  text := (select s.phase from cutover.phase_state s);
    v_table  text := cutover.legacy_relation();  -- in A4 it is kept under another name until it is dropped
begin
    if v_table is null then
        raise exception 'agent_memories is gone: there is nothing to freeze' using errcode = 'CU004';
    end if;
    if p_mode = 'scream' and v_phase not in ('A1', 'A2') then
        raise exception 'a scream test belongs into A1 or A2, the tenant is in %', v_phase using errcode = 'CU004';
    end if;
    execute format('lock table %s in share row exclusive mode', v_table);
    if p_mode = 'scream' and exists (select from cutover.freeze f where f.mode in ('frozen', 'thawing')) then
        raise exception 'agent_memories is frozen already' using errcode = 'CU004';
    end if;
    if exists (select from cutover.freeze f where f.mode = 'scream' and f.until > clock_timestamp()) then
        raise exception 'a scream test is under way' using errcode = 'CU004';
    end if;
    perform cutover.free_refused();  -- while the freeze before is still the last: whom it refused is written down as its
    update cutover.freeze_log l set ended_at = clock_timestamp(), ended_by = p_actor where l.ended_at is null;
    select coalesce(max(l.number), 0) + 1 into v_number from cutover.freeze_log l;
    insert into cutover.freeze_log (number, mode, since, until, actor, reason)
    values (v_number, p_mode, clock_timestamp(), v_until, p_actor, p_reason);
    execute format('create or replace trigger cutover_freeze before insert or update or truncate on %s'
                   ' for each statement execute function cutover.refuse_frozen(%L)', v_table, v_number);
    -- Logical replication writes rows without statements.
    execute format('create or replace trigger cutover_freeze_row before insert or update on %s'
                   ' for each row execute function cutover.refuse_frozen(%L)', v_table, v_number);
    execute format('alter table %s enable always trigger cutover_freeze', v_table);
    execute format('alter table %s enable always trigger cutover_freeze_row', v_table);
    insert into cutover.freeze as f (number, mode, until, actor, reason, table_oid, code)
    values (v_number, p_mode, v_until, p_actor, p_reason, v_table::regclass, cutover.freeze_code())
    on conflict (id) do update set
        number = excluded.number, mode = excluded.mode, until = excluded.until, since = excluded.since,
        actor = excluded.actor, reason = excluded.reason, table_oid = excluded.table_oid, code = excluded.code;
    return v_number;
end $$;

-- Let go, in the caller's transaction, without a lock on the table: thawing lets the daemon's own path pass, open
-- everybody. The triggers are removed later (remove_freeze), when the table can be locked for a moment.
create function cutover.ease_freeze(p_mode text, p_actor text) returns void
language plpgsql as $$
begin
    if p_mode not in ('thawing', 'open') then
        raise exception '% does not ease a freeze', p_mode;
    end if;
    update cutover.freeze f set mode = p_mode, until = null, actor = p_actor, since = clock_timestamp() where f.mode <> p_mode;
    if p_mode = 'open' then
        update cutover.freeze_log l set ended_at = clock_timestamp(), ended_by = p_actor where l.ended_at is null;
    end if;
end $$;

-- Remove the triggers and the row where nothing is frozen any more; true when they are gone. Needs an exclusive lock
-- on the table for a moment: the caller sets lock_timeout and comes back.
create function cutover.remove_freeze() returns boolean
language plpgsql as $$
declare
    f cutover.freeze;
begin
    select * into f from cutover.freeze for update;
    if not found or not (f.mode = 'open' or (f.mode = 'scream' and f.until <= clock_timestamp()))
       or (select s.phase in ('A3', 'A4') from cutover.phase_state s) then
        return false;
    end if;
    if to_regclass('public.agent_memories') is not null then
        drop trigger if exists cutover_freeze on public.agent_memories;
        drop trigger if exists cutover_freeze_row on public.agent_memories;
    end if;
    delete from cutover.freeze;
    update cutover.freeze_log l set ended_at = coalesce(f.until, clock_timestamp()), ended_by = 'expiry' where l.ended_at is null;
    return true;
end $$;

-- What is wrong with the freeze that A3 and A4 ask for; nothing in other phases, and nothing when it is intact.
create function cutover.freeze_faults() returns setof text
language plpgsql stable as $$
declare
    v_phase text := (select s.phase from cutover.phase_state s);
    v_now   oid := to_regclass('public.agent_memories');
    f       cutover.freeze;
begin
    if v_phase not in ('A3', 'A4') then
        return;
    end if;
    select * into f from cutover.freeze;
    if not found then
        return next 'no freeze is recorded';
        return;
    elsif f.mode <> 'frozen' then
        return next 'the recorded freeze is ' || f.mode;
    end if;
    if v_now is null and v_phase = 'A3' then
        return next 'public.agent_memories is gone';
    elsif v_now is not null and v_now <> f.table_oid then
        return next 'public.agent_memories is not the table that was frozen';
    end if;
    if cutover.freeze_code() is distinct from f.code then
        return next 'function cutover.refuse_frozen is not the one that was there';
    end if;
    if not exists (select from pg_class c where c.oid = f.table_oid) then
        return;  -- dropped: nothing is left to freeze
    end if;
    return query
    select case when t.oid is null then 'trigger ' || w.name || ' is gone'
                when t.tgenabled = 'D' then 'trigger ' || w.name || ' is disabled'
                when t.tgenabled <> 'A' then 'trigger ' || w.name || ' is not enabled always'
                else 'trigger ' || w.name || ' is not the one that was made' end
    from (values ('cutover_freeze', 54), ('cutover_freeze_row', 23)) as w (name, type)
    left join pg_trigger t on t.tgname = w.name and t.tgrelid = f.table_oid and not t.tgisinternal
    where t.oid is null or t.tgenabled <> 'A' or t.tgfoid is distinct from to_regproc('cutover.refuse_frozen')
       or t.tgtype <> w.type or t.tgqual is not null or t.tgattr::text <> ''
       or t.tgargs <> convert_to(f.number::text, 'UTF8') || '\x00';
end $$;

-- Fold the counters into freeze_refusal; gives back what was new, to one daemon only.
create function cutover.fold_refused() returns table (writer text, attempts bigint)
language plpgsql as $$
declare
    c        record;
    v_value  bigint;
    v_called boolean;
    v_number bigint := (select coalesce(max(l.number), 0) from cutover.freeze_log l);
begin
    for c in select * from cutover.freeze_counted x order by x.slot for update loop
        execute format('select s.last_value, s.is_called from cutover.freeze_attempts_%s s', c.slot) into v_value, v_called;
        attempts := case when v_called then v_value else 0 end - c.attempts;
        continue when attempts <= 0;
        writer := case when c.slot = 0 then 'others' else cutover.freeze_words(cutover.freeze_name(c.slot)) end;
        update cutover.freeze_counted x set attempts = x.attempts + fold_refused.attempts where x.slot = c.slot;
        insert into cutover.freeze_refusal as r (number, writer, attempts, first_seen, last_seen)
        values (v_number, fold_refused.writer, fold_refused.attempts, clock_timestamp(), clock_timestamp())
        on conflict on constraint freeze_refusal_pkey do update set
            attempts = r.attempts + excluded.attempts, last_seen = excluded.last_seen;
        return next;
    end loop;
end $$;

-- A name that was cut in the middle of a character.
create function cutover.freeze_words(p_name bytea) returns text
language plpgsql immutable as $$
begin
    for cut in 0..3 loop
        begin
            return convert_from(substr(p_name, 1, length(p_name) - cut), 'UTF8');
        exception when character_not_in_repertoire or untranslatable_character then
            null;
        end;
    end loop;
    return 'unreadable';
end $$;

comment on function cutover.freeze_now(text, float8, text, text) is 'Names the table itself.';
comment on function cutover.remove_freeze() is 'Names the table itself.';
comment on function cutover.freeze_faults() is 'Names the table itself. In A4 it may have another name, or be gone.';
