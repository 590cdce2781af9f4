-- K/V: rows of workspace_memory become plugin memories too (domain §2, decision 0014). workspace_memory stays the
-- authority in every phase; what is here maps its rows to ids and captures its writers, and the marks of 002 do the
-- rest. The functions work where the table does not exist; only install_kv_capture insists on it.

create table cutover.kv (
    memory_id    uuid primary key,
    workspace_id uuid not null,
    key          text not null,
    unique (workspace_id, key)
);
comment on table cutover.kv is 'Rows of workspace_memory that capture or backfill has reached, by the id of their memory (uuid5 of workspace and key). One that is here is marked, or the plugin holds it.';

create table cutover.kv_waiting (
    memory_id uuid primary key
);
comment on table cutover.kv_waiting is 'K/V rows whose id a memory has: they get it when the memory is gone. Written by claims and read by settlements, both of which hold the mark.';

create table cutover.kv_capture (
    id         smallint primary key default 1 check (id = 1),
    captured   boolean not null default false,
    untidy     boolean not null default false,
    changed_at timestamptz not null default now()
);
comment on table cutover.kv_capture is 'Whether writers of workspace_memory are captured: the switch CUTOVER_KV as the last daemon that started has it.';
comment on column cutover.kv_capture.untidy is 'Capture was switched: cutover.kv may hold rows that must be forgotten (kv_tidy).';
insert into cutover.kv_capture default values;

-- The K/V cursor goes by (workspace, key): last_id holds the workspace.
alter table cutover.backfill_cursor add column last_key text;

-- RFC 4122 version 5, in plain PostgreSQL: SHA-1 is not in core, and no extension may be assumed. The eighty rounds are
-- written five at a time so that the five words change their roles without being moved.
create function cutover.uuid5(namespace uuid, name text) returns uuid
language plpgsql immutable strict parallel safe as $$
declare
    m constant bigint := 4294967295;
    v_message bytea := uuid_send(namespace) || convert_to(name, 'UTF8');
    v_length  integer := octet_length(v_message);
    w bigint[];
    x bigint;
    p integer;
    a bigint; b bigint; c bigint; d bigint; e bigint;
    h0 bigint := 1732584193; h1 bigint := 4023233417; h2 bigint := 2562383102; h3 bigint := 271733878; h4 bigint := 3285377520;
begin
    v_message := v_message || '\x80'::bytea
        || decode(repeat('00', (119 - v_length % 64) % 64), 'hex') || int8send(v_length * 8::bigint);
    for block in 0..octet_length(v_message) / 64 - 1 loop
        w := array_fill(0::bigint, array[80]);
        for i in 1..16 loop
            p := block * 64 + i * 4 - 4;
            w[i] := (get_byte(v_message, p)::bigint << 24) | (get_byte(v_message, p + 1) << 16)
                    | (get_byte(v_message, p + 2) << 8) | get_byte(v_message, p + 3);
        end loop;
        for i in 17..80 loop
            x := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
            w[i] := ((x << 1) | (x >> 31)) & m;
        end loop;
        a := h0; b := h1; c := h2; d := h3; e := h4;
        for i in 1..20 by 5 loop
            e := (((a << 5) | (a >> 27)) + (d # (b & (c # d))) + e + 1518500249 + w[i]) & m;     b := ((b << 30) | (b >> 2)) & m;
            d := (((e << 5) | (e >> 27)) + (c # (a & (b # c))) + d + 1518500249 + w[i + 1]) & m; a := ((a << 30) | (a >> 2)) & m;
            c := (((d << 5) | (d >> 27)) + (b # (e & (a # b))) + c + 1518500249 + w[i + 2]) & m; e := ((e << 30) | (e >> 2)) & m;
            b := (((c << 5) | (c >> 27)) + (a # (d & (e # a))) + b + 1518500249 + w[i + 3]) & m; d := ((d << 30) | (d >> 2)) & m;
            a := (((b << 5) | (b >> 27)) + (e # (c & (d # e))) + a + 1518500249 + w[i + 4]) & m; c := ((c << 30) | (c >> 2)) & m;
        end loop;
        for i in 21..40 by 5 loop
            e := (((a << 5) | (a >> 27)) + (b # c # d) + e + 1859775393 + w[i]) & m;     b := ((b << 30) | (b >> 2)) & m;
            d := (((e << 5) | (e >> 27)) + (a # b # c) + d + 1859775393 + w[i + 1]) & m; a := ((a << 30) | (a >> 2)) & m;
            c := (((d << 5) | (d >> 27)) + (e # a # b) + c + 1859775393 + w[i + 2]) & m; e := ((e << 30) | (e >> 2)) & m;
            b := (((c << 5) | (c >> 27)) + (d # e # a) + b + 1859775393 + w[i + 3]) & m; d := ((d << 30) | (d >> 2)) & m;
            a := (((b << 5) | (b >> 27)) + (c # d # e) + a + 1859775393 + w[i + 4]) & m; c := ((c << 30) | (c >> 2)) & m;
        end loop;
        for i in 41..60 by 5 loop
            e := (((a << 5) | (a >> 27)) + ((b & c) | (d & (b | c))) + e + 2400959708 + w[i]) & m;     b := ((b << 30) | (b >> 2)) & m;
            d := (((e << 5) | (e >> 27)) + ((a & b) | (c & (a | b))) + d + 2400959708 + w[i + 1]) & m; a := ((a << 30) | (a >> 2)) & m;
            c := (((d << 5) | (d >> 27)) + ((e & a) | (b & (e | a))) + c + 2400959708 + w[i + 2]) & m; e := ((e << 30) | (e >> 2)) & m;
            b := (((c << 5) | (c >> 27)) + ((d & e) | (a & (d | e))) + b + 2400959708 + w[i + 3]) & m; d := ((d << 30) | (d >> 2)) & m;
            a := (((b << 5) | (b >> 27)) + ((c & d) | (e & (c | d))) + a + 2400959708 + w[i + 4]) & m; c := ((c << 30) | (c >> 2)) & m;
        end loop;
        for i in 61..80 by 5 loop
            e := (((a << 5) | (a >> 27)) + (b # c # d) + e + 3395469782 + w[i]) & m;     b := ((b << 30) | (b >> 2)) & m;
            d := (((e << 5) | (e >> 27)) + (a # b # c) + d + 3395469782 + w[i + 1]) & m; a := ((a << 30) | (a >> 2)) & m;
            c := (((d << 5) | (d >> 27)) + (e # a # b) + c + 3395469782 + w[i + 2]) & m; e := ((e << 30) | (e >> 2)) & m;
            b := (((c << 5) | (c >> 27)) + (d # e # a) + b + 3395469782 + w[i + 3]) & m; d := ((d << 30) | (d >> 2)) & m;
            a := (((b << 5) | (b >> 27)) + (c # d # e) + a + 3395469782 + w[i + 4]) & m; c := ((c << 30) | (c >> 2)) & m;
        end loop;
        h0 := (h0 + a) & m; h1 := (h1 + b) & m; h2 := (h2 + c) & m; h3 := (h3 + d) & m; h4 := (h4 + e) & m;
    end loop;
    h1 := (h1 & 4294905855) | 20480;        -- version 5
    h2 := (h2 & 1073741823) | 2147483648;   -- RFC 4122
    return (lpad(to_hex(h0), 8, '0') || lpad(to_hex(h1), 8, '0') || lpad(to_hex(h2), 8, '0') || lpad(to_hex(h3), 8, '0'))::uuid;
end $$;

-- Whether a memory has this id: then no K/V row may have it. p_late: A3 or A4, where the journal is asked first.
create function cutover.is_memory(p_id uuid, p_late boolean) returns boolean
language plpgsql stable as $$
declare
    v_op text;
begin
    select j.op into v_op from cutover.journal j
    where j.memory_id = p_id and j.state in ('intent', 'applied') and (j.native or p_late) order by j.seq desc limit 1;
    if p_late and v_op is not null then
        return v_op = 'upsert';
    end if;
    return coalesce(v_op = 'upsert', false) or exists (select from public.agent_memories a where a.id = p_id);
end $$;

-- Whether a K/V row has this id, and its memory is in that namespace.
create function cutover.is_kv_in(p_id uuid, p_namespace text) returns boolean
language sql stable as $$
    select exists (select from cutover.kv k where k.memory_id = p_id and p_namespace = 'workspace:' || k.workspace_id)
$$;

-- The plugin's bulk delete of its namespace may still land: what is delivered now could be lost with the rest.
-- (Volatile: it looks again once it has the lock under which sending_namespace_delete decides.)
create function cutover.kv_must_wait(p_id uuid) returns boolean
language plpgsql as $$
declare
    v_name text := (select 'workspace:' || k.workspace_id from cutover.kv k where k.memory_id = p_id);
begin
    if v_name is null then
        return false;
    end if;
    perform cutover.hold_namespace(v_name);
    return exists (select from cutover.namespace n where n.name = v_name and n.delete_may_land_until > clock_timestamp());
end $$;

-- Whether K/V rows have their memories in this namespace.
create function cutover.holds_kv(p_namespace text) returns boolean
language sql stable as $$
    select case when p_namespace ~ '^workspace:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        then exists (select from cutover.kv k where k.workspace_id = substr(p_namespace, 11)::uuid) else false end
$$;

-- K/V rows whose id a memory has (an Idempotency-Key is hashed to an id in the same way): the memory keeps it, the row
-- goes to the quarantine, and leaves it when one of the two is gone. The quarantine has one row per id, and the memory
-- may need it for itself (refused_by_plugin): so who waits for an id is in kv_waiting.
create function cutover.kv_quarantine(p_ids uuid[], p_late boolean, p_captured boolean) returns void
language plpgsql as $$
begin
    if p_captured then
        insert into cutover.quarantine as q (memory_id, workspace_id, reason, detail, rev)
        select k.memory_id, k.workspace_id, 'id_taken', 'a memory has the id of this K/V row', m.rev
        from cutover.kv k join cutover.mark m on m.memory_id = k.memory_id
        where k.memory_id = any (p_ids) and cutover.is_memory(k.memory_id, p_late)
        -- An acknowledgement of it stands until one of the two is gone: another rev would end it (unacknowledge).
        on conflict (memory_id) do update set
            reason = excluded.reason, detail = excluded.detail, last_seen = now(),
            rev = case when q.reason = excluded.reason then q.rev else excluded.rev end;
        insert into cutover.kv_waiting (memory_id)
        select k.memory_id from cutover.kv k
        where k.memory_id = any (p_ids) and cutover.is_memory(k.memory_id, p_late)
        order by k.memory_id on conflict do nothing;
    end if;
    delete from cutover.kv_waiting w
    where w.memory_id = any (p_ids)
      and not (p_captured and exists (select from cutover.kv k where k.memory_id = w.memory_id)
               and cutover.is_memory(w.memory_id, p_late));
    delete from cutover.quarantine q
    where q.memory_id = any (p_ids) and q.reason = 'id_taken'
      and not (p_captured and exists (select from cutover.kv k where k.memory_id = q.memory_id)
               and cutover.is_memory(q.memory_id, p_late));
end $$;

-- These were settled. Where a memory that had a K/V row's id is gone now, it is the row's turn. Where the memory is
-- there and in order again, what is left of its quarantine is the row's.
create function cutover.kv_freed(p_ids uuid[]) returns void
language plpgsql as $$
declare
    v_scans bigint;
begin
    if not exists (select from cutover.kv_waiting w where w.memory_id = any (p_ids)) then
        return;
    end if;
    v_scans := cutover.own_scans_from();
    insert into cutover.mark (memory_id, rev, origin, writer)
    select w.memory_id, nextval('cutover.rev_seq'), 'kv', 'cutover'
    from cutover.kv_waiting w join cutover.kv k on k.memory_id = w.memory_id, cutover.phase_state s
    where w.memory_id = any (p_ids) and not cutover.is_memory(w.memory_id, s.phase in ('A3', 'A4'))
    order by w.memory_id
    on conflict (memory_id) do nothing;
    perform cutover.note_own_scans(v_scans);
    insert into cutover.quarantine (memory_id, workspace_id, reason, detail, rev)
    select w.memory_id, k.workspace_id, 'id_taken', 'a memory has the id of this K/V row', nextval('cutover.rev_seq')
    from cutover.kv_waiting w join cutover.kv k on k.memory_id = w.memory_id
    where w.memory_id = any (p_ids) and not exists (select from cutover.mark m where m.memory_id = w.memory_id)
    order by w.memory_id
    on conflict (memory_id) do nothing;
end $$;

-- Look at one row of workspace_memory, there or gone, and mark its memory. p_fresh: the row may be new; then the
-- mapping is locked, so that kv_tidy does not take it away for a row it cannot see yet.
create function cutover.kv_touch(p_workspace uuid, p_key text, p_fresh boolean, p_writer text) returns void
language plpgsql as $$
declare
    v_there boolean;
    v_held  text[] := '{}';
    v_id    uuid;
    v_scans bigint;
begin
    if p_workspace is null or p_key is null then
        return;  -- nothing that could be asked for
    end if;
    v_there := exists (select from public.workspace_memory v where v.workspace_id = p_workspace and v.key = p_key);
    if p_fresh then
        select k.memory_id into v_id from cutover.kv k where k.workspace_id = p_workspace and k.key = p_key for key share;
    else
        select k.memory_id into v_id from cutover.kv k where k.workspace_id = p_workspace and k.key = p_key;
    end if;
    if v_id is null then
        v_id := cutover.uuid5(p_workspace, p_key);
        if v_there then
            insert into cutover.kv (memory_id, workspace_id, key) values (v_id, p_workspace, p_key)
            -- No index is named: whoever inserts the same row at this moment may be met in either of the two first.
            on conflict do nothing;
        end if;
    end if;
    if v_there then
        delete from cutover.tombstone t where t.memory_id = v_id;
    else
        v_held := array['workspace:' || p_workspace];
        delete from cutover.kv k where k.memory_id = v_id and k.workspace_id = p_workspace and k.key = p_key;
        v_scans := cutover.own_scans_from();
        insert into cutover.tombstone (memory_id, rev, held_in)
        select v_id, nextval('cutover.rev_seq'), v_held from cutover.phase_state s
        where not cutover.is_memory(v_id, s.phase in ('A3', 'A4'))
        on conflict (memory_id) do update set
            rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at;
        perform cutover.note_own_scans(v_scans);
    end if;
    perform cutover.touch_mark(v_id, v_held, 'kv', p_writer);
end $$;

create function cutover.capture_kv() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_moved boolean := tg_op = 'UPDATE' and (old.workspace_id, old.key) is distinct from (new.workspace_id, new.key);
begin
    if tg_op = 'DELETE' or v_moved then
        perform cutover.kv_touch(old.workspace_id, old.key, v_moved, cutover.current_writer());
    end if;
    if tg_op <> 'DELETE' then
        perform cutover.kv_touch(new.workspace_id, new.key, v_moved or tg_op = 'INSERT', cutover.current_writer());
    end if;
    return null;
end $$;

-- Forget these K/V memories: their rows are gone, or K/V is no longer copied.
create function cutover.kv_forget(p_ids uuid[], p_buried boolean, p_writer text) returns void
language plpgsql as $$
declare
    v_late boolean := (select s.phase in ('A3', 'A4') from cutover.phase_state s);
    v_scans bigint := cutover.own_scans_from();
begin
    if p_buried then
        insert into cutover.tombstone (memory_id, rev, held_in)
        select k.memory_id, nextval('cutover.rev_seq'), array['workspace:' || k.workspace_id] from cutover.kv k
        where k.memory_id = any (p_ids) and not cutover.is_memory(k.memory_id, v_late)
        on conflict (memory_id) do update set
            rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at;
        perform cutover.note_own_scans(v_scans);
    end if;
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    select k.memory_id, nextval('cutover.rev_seq'), array['workspace:' || k.workspace_id], 'kv', p_writer
    from cutover.kv k where k.memory_id = any (p_ids) order by k.memory_id
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = m.held_in || excluded.held_in,
        origin = case when m.origin = 'backfill' then excluded.origin else m.origin end,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    delete from cutover.kv k where k.memory_id = any (p_ids);
end $$;

create function cutover.capture_kv_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform cutover.kv_forget((select array_agg(k.memory_id) from cutover.kv k), true, cutover.current_writer());
    return null;
end $$;

-- The columns that K/V needs and public.workspace_memory does not have (or has as another type); null: it has all.
create function cutover.kv_lacks() returns text
language sql stable as $$
    select string_agg(c.name || ' ' || c.types[1], ', ' order by c.name)
    from (values ('workspace_id', '{uuid}'::text[]), ('key', '{text,varchar}'), ('value', '{jsonb}'),
                 ('version', '{bigint,integer,smallint}'), ('expires_at', '{timestamptz}'),
                 ('updated_at', '{timestamptz}')) as c (name, types)
    where not exists (
        select from pg_attribute a
        where a.attrelid = to_regclass('public.workspace_memory') and a.attname = c.name and not a.attisdropped
          and a.atttypid = any (c.types::regtype[]))
$$;

-- Needs a short lock on the table that stops its writers: the caller sets lock_timeout and retries. What was not
-- captured until now is the backfill's to find, so its cursor begins anew.
create function cutover.install_kv_capture() returns void
language plpgsql as $$
begin
    if cutover.kv_lacks() is not null then
        raise exception 'public.workspace_memory lacks %', cutover.kv_lacks() using errcode = 'CU003';
    end if;
    create or replace trigger cutover_capture_kv after insert or update or delete on public.workspace_memory
        for each row execute function cutover.capture_kv();
    create or replace trigger cutover_capture_kv_truncate before truncate on public.workspace_memory
        for each statement execute function cutover.capture_kv_truncate();
    alter table public.workspace_memory enable always trigger cutover_capture_kv;
    alter table public.workspace_memory enable always trigger cutover_capture_kv_truncate;
    update cutover.kv_capture c set captured = true, untidy = true, changed_at = now();
    delete from cutover.backfill_cursor b where b.scope = 'kv';
end $$;

-- The mapping stays: it says what the plugin holds. kv_tidy has that forgotten, or a later install takes it up again.
create function cutover.remove_kv_capture() returns void
language plpgsql as $$
begin
    if to_regclass('public.workspace_memory') is not null then
        drop trigger if exists cutover_capture_kv on public.workspace_memory;
        drop trigger if exists cutover_capture_kv_truncate on public.workspace_memory;
    end if;
    update cutover.kv_capture c set captured = false, untidy = true, changed_at = now() where c.captured;
end $$;

-- Which of the two triggers are there, enabled always, and run our function.
create function cutover.kv_capture_state() returns table (name text, intact boolean)
language sql stable as $$
    select w.name, coalesce((
        select t.tgenabled = 'A' and n.nspname = 'cutover'
        from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
        where t.tgname = w.name and t.tgrelid = to_regclass('public.workspace_memory') and not t.tgisinternal), false)
    from (values ('cutover_capture_kv'), ('cutover_capture_kv_truncate')) as w (name)
$$;

-- Make the capture what the switch says, as a daemon does that starts: the one that starts last decides. Gives
-- installed, removed, or kept when it was so already. The phase is held still, the writers are not.
create function cutover.switch_kv(p_on boolean) returns text
language plpgsql as $$
declare
    v_on    boolean;
    v_found integer;
begin
    perform pg_advisory_xact_lock_shared(cutover.phase_lock_key());
    v_on := p_on and (select s.phase <> 'A0' from cutover.phase_state s);
    select count(*) filter (where x.intact = v_on) into v_found from cutover.kv_capture_state() x;
    if v_found = 2 and (select c.captured = v_on from cutover.kv_capture c) then
        return 'kept';
    elsif v_on then
        perform cutover.install_kv_capture();
        return 'installed';
    end if;
    perform cutover.remove_kv_capture();
    return 'removed';
end $$;

-- After a switch: have the plugin forget, some at a time, what went while nobody looked, or all when K/V is no longer
-- copied. Nothing in A0, where nothing is sent. Gives how many; fewer than p_limit: it is tidy now.
create function cutover.kv_tidy(p_limit integer) returns integer
language plpgsql as $$
declare
    v_captured boolean;
    v_ids      uuid[];
begin
    if (select s.phase from cutover.phase_state s) = 'A0' then
        return 0;
    end if;
    select c.captured into v_captured from cutover.kv_capture c for share;  -- no switch meanwhile
    if v_captured then
        select array_agg(d.memory_id) into v_ids from (
            select k.memory_id from cutover.kv k
            where not exists (select from public.workspace_memory v where v.workspace_id = k.workspace_id and v.key = k.key)
            limit p_limit for update of k skip locked) d;
        -- Once more, with the mapping locked: a row that came back meanwhile is seen now.
        select array_agg(k.memory_id) into v_ids from cutover.kv k
        where k.memory_id = any (v_ids)
          and not exists (select from public.workspace_memory v where v.workspace_id = k.workspace_id and v.key = k.key);
    else
        select array_agg(d.memory_id) into v_ids from (
            select k.memory_id from cutover.kv k limit p_limit for update of k skip locked) d;
    end if;
    if v_ids is not null then
        perform cutover.kv_forget(v_ids, v_captured, 'cutover');
    end if;
    return coalesce(cardinality(v_ids), 0);
end $$;

-- Record that it is tidy, if it is. (In A0 it may stay untidy for long, and be asked often.)
create function cutover.kv_tidied() returns boolean
language plpgsql as $$
declare
    v_captured boolean := (select c.captured from cutover.kv_capture c for update);
begin
    if v_captured and exists (
        select from cutover.kv k
        where not exists (select from public.workspace_memory v where v.workspace_id = k.workspace_id and v.key = k.key))
       or not v_captured and exists (select from cutover.kv k) then
        return false;
    end if;
    update cutover.kv_capture c set untidy = false where c.untidy;
    return true;
end $$;

-- Open (or reopen, in a new generation) the K/V cursor. In A3 as well: workspace_memory stays the authority there.
create function cutover.open_kv_backfill(p_epoch bigint) returns cutover.backfill_cursor
language plpgsql as $$
declare
    v_phase      text := cutover.enter(p_epoch, array['A2', 'A3', 'A4']);
    v_generation integer := (select s.generation from cutover.phase_state s);
    v_cursor     cutover.backfill_cursor;
begin
    if not (select c.captured from cutover.kv_capture c) then
        raise exception 'K/V is not captured' using errcode = 'CU003';
    end if;
    insert into cutover.backfill_cursor as c (scope, generation, total)
    values ('kv', v_generation, (select count(*) from public.workspace_memory v))
    on conflict (scope) do update set
        generation = excluded.generation, last_id = null, last_key = null, done = false, scanned = 0, marked = 0,
        total = excluded.total, started_at = now(), updated_at = now()
    where c.generation <> excluded.generation;
    select * into v_cursor from cutover.backfill_cursor c where c.scope = 'kv';
    return v_cursor;
end $$;

-- One chunk of the K/V backfill: map and mark the next rows in key order, move the cursor, all in one transaction. The
-- rows are held against being deleted, so that none is mapped that is about to go.
create function cutover.kv_backfill_chunk(p_epoch bigint, p_limit integer)
returns table (scanned integer, marked integer, done boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase      text := cutover.enter(p_epoch, array['A2', 'A3', 'A4']);
    v_cursor     cutover.backfill_cursor;
    v_workspaces uuid[];
    v_keys       text[];
    v_ids        uuid[];
    v_scanned    integer;
    v_marked     integer;
begin
    if not (select c.captured from cutover.kv_capture c for share) then
        raise exception 'K/V is not captured' using errcode = 'CU003';
    end if;
    select * into strict v_cursor from cutover.backfill_cursor c where c.scope = 'kv' for update;
    select array_agg(d.workspace_id order by d.workspace_id, d.key), array_agg(d.key order by d.workspace_id, d.key)
    into v_workspaces, v_keys from (
        select v.workspace_id, v.key from public.workspace_memory v
        where v_cursor.last_id is null or (v.workspace_id, v.key) > (v_cursor.last_id, v_cursor.last_key)
        order by v.workspace_id, v.key limit p_limit for key share of v) d;
    v_scanned := coalesce(cardinality(v_keys), 0);
    insert into cutover.kv (memory_id, workspace_id, key)
    select cutover.uuid5(d.workspace_id, d.key), d.workspace_id, d.key
    from unnest(v_workspaces, v_keys) as d (workspace_id, key)
    where not exists (select from cutover.kv k where k.workspace_id = d.workspace_id and k.key = d.key)
    on conflict do nothing;
    select array_agg(k.memory_id) into v_ids
    from unnest(v_workspaces, v_keys) as d (workspace_id, key)
    join cutover.kv k on k.workspace_id = d.workspace_id and k.key = d.key;
    delete from cutover.tombstone t where t.memory_id = any (v_ids);
    with fresh as (
        insert into cutover.mark (memory_id, rev, origin, writer)
        select d.id, nextval('cutover.rev_seq'), 'backfill', 'cutover' from unnest(v_ids) as d (id) order by d.id
        on conflict (memory_id) do nothing returning 1
    ) select count(*) into v_marked from fresh;
    update cutover.backfill_cursor c set
        last_id = coalesce(v_workspaces[v_scanned], c.last_id), last_key = coalesce(v_keys[v_scanned], c.last_key),
        done = v_scanned < p_limit, scanned = c.scanned + v_scanned, marked = c.marked + v_marked, updated_at = now()
    where c.scope = 'kv';
    return query select v_scanned, v_marked, v_scanned < p_limit;
end $$;
