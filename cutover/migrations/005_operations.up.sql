-- Phase changes, backfill and the counts behind the drift ledger.

-- Compare-and-set the phase, append the event, tell the replicas. The caller holds the phase lock exclusively.
-- p_certificate: what a promotion consumes; migration 011 sees to it that every step forward has one and that it is good.
create function cutover.set_phase(
    p_epoch bigint, p_to text, p_actor text, p_reason text, p_certificate bytea default null
) returns bigint
language plpgsql as $$
declare
    v_from  text;
    v_epoch bigint;
    v_at    timestamptz := clock_timestamp();
begin
    select s.phase into v_from from cutover.phase_state s where s.id = 1 for update;
    update cutover.phase_state s
    set phase = p_to, epoch = s.epoch + 1, entered_at = v_at,
        generation = s.generation + case when v_from = 'A0' and p_to = 'A1' then 1 else 0 end,
        strays_pending = (v_from = 'A0' and p_to = 'A1') or (s.strays_pending and p_to <> 'A0')
    where s.id = 1 and s.epoch = p_epoch returning s.epoch into v_epoch;
    if not found then
        raise exception 'somebody else changed the phase first' using errcode = 'CU001';
    end if;
    insert into cutover.phase_event (epoch, from_phase, to_phase, actor, reason, at, certificate)
    values (v_epoch, v_from, p_to, p_actor, p_reason, v_at, p_certificate);
    perform pg_notify('cutover_phase', v_epoch::text);
    return v_epoch;
end $$;

-- Every column of an event but its hash, as text that is the same in every session. JSON keeps the fields apart, so no
-- two events can be written to look alike; what is null is left out, so that a column that comes later changes none.
create function cutover.phase_event_text(p_event cutover.phase_event) returns text
language sql stable set timezone = 'UTC' set bytea_output = 'hex' set search_path = pg_catalog, pg_temp as $$
    select jsonb_object_agg(f.key, f.value)::text from jsonb_each(to_jsonb(p_event)) f
    where f.key <> 'hash' and f.value <> 'null'
$$;

-- Each event is hashed with the one before it, whoever writes it: `cutover audit verify` computes them again.
create function cutover.chain_event() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform from cutover.phase_state s where s.id = 1 for update;
    new.previous_hash := coalesce((select e.hash from cutover.phase_event e order by e.seq desc limit 1), '\x');
    new.hash := sha256(convert_to(cutover.phase_event_text(new), 'UTF8'));
    return new;
end $$;
create trigger chain before insert on cutover.phase_event for each row execute function cutover.chain_event();
alter table cutover.phase_event enable always trigger chain;

-- Tests step about without certificates, which no session can allow itself: an owner must have said so of the whole
-- database (ALTER DATABASE ... SET cutover.bare_steps = 'on'), where everybody sees it (psql's \drds).
create function cutover.bare_steps() returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (select from pg_db_role_setting s
                   where s.setrole = 0 and s.setdatabase = (select d.oid from pg_database d where d.datname = current_database())
                     and 'cutover.bare_steps=on' = any (s.setconfig))
$$;
comment on function cutover.bare_steps() is 'Whether this database takes steps without certificates: a test''s does.';

-- The phase row changes together with the event that says so, or not at all.
create function cutover.check_phase_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if not cutover.bare_steps() and not exists (
        select from cutover.phase_event e
        where (e.epoch, e.from_phase, e.to_phase, e.at) = (new.epoch, old.phase, new.phase, new.entered_at)
          and new.epoch = old.epoch + 1) then
        raise exception 'the phase row changes with its event only: cutover phase promote, cutover phase rollback'
            using errcode = 'check_violation';
    end if;
    return null;
end $$;
create constraint trigger phase_has_event after update on cutover.phase_state deferrable initially deferred
    for each row when ((old.phase, old.epoch, old.entered_at) is distinct from (new.phase, new.epoch, new.entered_at))
    execute function cutover.check_phase_change();
alter table cutover.phase_state enable always trigger phase_has_event;

-- One chunk of backfill: mark the next rows in id order, move the cursor, all in one transaction (architecture §5).
create function cutover.backfill_chunk(p_epoch bigint, p_scope text, p_workspace uuid, p_limit integer)
returns table (scanned integer, marked integer, done boolean)
language plpgsql as $$
declare
    v_phase  text := cutover.enter(p_epoch, array['A2']);
    v_cursor cutover.backfill_cursor;
    v_ids    uuid[];
begin
    select * into strict v_cursor from cutover.backfill_cursor c where c.scope = p_scope for update;
    -- One more than is taken tells whether anything is left.
    v_ids := array(
        select a.id from public.agent_memories a
        where (v_cursor.last_id is null or a.id > v_cursor.last_id)
          and (p_workspace is null or a.workspace_id = p_workspace)
        order by a.id limit p_limit + 1);
    done := cardinality(v_ids) <= p_limit;
    v_ids := v_ids[:p_limit];
    scanned := cardinality(v_ids);
    with fresh as (
        insert into cutover.mark (memory_id, rev, origin, writer)
        select d.id, nextval('cutover.rev_seq'), 'backfill', 'cutover' from unnest(v_ids) as d (id)
        on conflict (memory_id) do nothing returning 1
    ) select count(*) into marked from fresh;
    update cutover.backfill_cursor c set
        last_id = coalesce(v_ids[cardinality(v_ids)], c.last_id), done = backfill_chunk.done,
        scanned = c.scanned + backfill_chunk.scanned, marked = c.marked + backfill_chunk.marked, updated_at = now()
    where c.scope = p_scope;
    return next;
end $$;

-- Open (or reopen, in a new generation) the cursor of a scope.
create function cutover.open_backfill(p_epoch bigint, p_scope text, p_workspace uuid) returns cutover.backfill_cursor
language plpgsql as $$
declare
    v_phase      text := cutover.enter(p_epoch, array['A2']);
    v_generation integer := (select s.generation from cutover.phase_state s);
    v_cursor     cutover.backfill_cursor;
begin
    insert into cutover.backfill_cursor as c (scope, generation, total)
    values (p_scope, v_generation,
            (select count(*) from public.agent_memories a where p_workspace is null or a.workspace_id = p_workspace))
    on conflict (scope) do update set
        generation = excluded.generation, last_id = null, done = false, scanned = 0, marked = 0, copied = 0,
        total = excluded.total, started_at = now(), updated_at = now()
    where c.generation <> excluded.generation;
    select * into v_cursor from cutover.backfill_cursor c where c.scope = p_scope;
    return v_cursor;
end $$;

-- On coming back to A1: what was deleted in between, and what the plugin holds that nobody expects, must be forgotten.
create function cutover.mark_strays(p_ids uuid[], p_namespaces text[]) returns integer
language plpgsql as $$
declare
    v_count integer;
begin
    with strays as (
        select s.id, s.namespace from unnest(p_ids, p_namespaces) as s (id, namespace)
        -- Gone from legacy, or moved by a change of parents that nobody captured.
        where not exists (select from public.agent_memories a
                          where a.id = s.id and cutover.namespace_of(a.workspace_id, a.scope) = s.namespace)
          and not exists (select from cutover.native n where n.memory_id = s.id)
          and not exists (select from cutover.kv k where k.memory_id = s.id and s.namespace = 'workspace:' || k.workspace_id)
    ), marked as (
        insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
        select s.id, nextval('cutover.rev_seq'), array[s.namespace], 'repair', 'cutover' from strays s order by s.id
        on conflict (memory_id) do update set rev = excluded.rev, held_in = m.held_in || excluded.held_in
        returning 1
    ) select count(*) into v_count from marked;
    return v_count;
end $$;

-- The same for deletes whose namespaces are known from their tombstones: all there is for a contract-only plugin.
create function cutover.mark_tombstones() returns void
language sql as $$
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    select t.memory_id, nextval('cutover.rev_seq'), t.held_in, 'repair', 'cutover' from cutover.tombstone t
    where not exists (select from public.agent_memories a where a.id = t.memory_id) order by t.memory_id
    on conflict (memory_id) do update set rev = excluded.rev, held_in = m.held_in || excluded.held_in
$$;

-- Fold the insert-only log of foreign writes into one row per writer and operation; gives back what was new.
create function cutover.fold_bypass_writes(p_limit integer) returns table (writer text, operation text, writes bigint)
language sql as $$
    with taken as (
        delete from cutover.bypass_write b
        where b.seq in (select x.seq from cutover.bypass_write x order by x.seq limit p_limit for update skip locked)
        returning b.writer, b.operation, b.at
    ), summed as (
        select t.writer, t.operation, count(*) as writes, min(t.at) as first_at, max(t.at) as last_at
        from taken t group by t.writer, t.operation
    ), kept as (
        insert into cutover.bypass_writer as k (writer, operation, writes, first_seen, last_seen)
        select s.writer, s.operation, s.writes, s.first_at, s.last_at from summed s order by s.writer, s.operation
        on conflict on constraint bypass_writer_pkey do update set
            writes = k.writes + excluded.writes, last_seen = greatest(k.last_seen, excluded.last_seen)
    )
    select s.writer, s.operation, s.writes from summed s
$$;
