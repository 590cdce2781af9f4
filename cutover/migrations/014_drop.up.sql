-- The end of agent_memories (architecture §7, decision 0022): the journal takes its rows over, the table is renamed and
-- held, and dropped when the hold is over. Everything here is done by the daemon's own statements; nothing cascades.

-- 1. Taking over ("adoption"), in A3: every legacy row becomes the oldest word of the journal on its memory, so that in
-- A4 the journal alone says what is expected.
alter table cutover.journal add column adopted boolean not null default false;
comment on column cutover.journal.adopted is 'Taken over from agent_memories before A4. Its seq is negative: whatever was ever said of the memory by a write, before or after, is newer.';
create index journal_adopted on cutover.journal (memory_id) where adopted;
-- Counted downwards by negation, so that no lock is needed against the writers of the same memories.
create sequence cutover.adoption_seq;

-- One chunk, in id order. Rows that the tree cannot place are left: they are in the quarantine, and in the archive.
create function cutover.adopt_chunk(p_epoch bigint, p_after uuid, p_limit integer)
returns table (scanned integer, adopted integer, last_id uuid)
language plpgsql as $$
#variable_conflict use_column
declare
    v_phase   text := cutover.enter(p_epoch, array['A3']);
    v_ids     uuid[];
    v_adopted integer;
begin
    execute format('select coalesce(array_agg(d.id order by d.id), ''{}'') from ('
                   'select a.id from public.agent_memories a where %s order by a.id limit $2) d',
                   case when p_after is null then 'true' else 'a.id > $1' end)
    into v_ids using p_after, p_limit;
    execute format($q$
        insert into cutover.journal
            (seq, memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source,
             pin, propagation, embedding, created_at, updated_at, settled_at, adopted)
        overriding system value
        select -nextval('cutover.adoption_seq'), a.id, nextval('cutover.rev_seq'), $2, 'upsert', 'applied', false,
               p.name, a.workspace_id, a.scope, a.namespace, a.content, 'fact', coalesce(e.source, 'agent'),
               coalesce(e.pin, false), e.propagation, coalesce(%s, e.embedding), cutover.sane(a.created_at),
               cutover.sane(a.updated_at), clock_timestamp(), true
        from unnest($1) as i (id) join public.agent_memories a on a.id = i.id
        left join cutover.extra e on e.memory_id = a.id
        cross join lateral (select cutover.namespace_of(a.workspace_id, a.scope) as name offset 0) p
        where p.name is not null
          and not exists (select from cutover.journal j where j.memory_id = a.id and j.adopted)
        order by a.id
    $q$, case when cutover.legacy_embedding_type() is null then 'null::real[]'
              else 'translate(a.embedding::text, ''[]'', ''{}'')::real[]' end)
    using v_ids, p_epoch;
    get diagnostics v_adopted = row_count;
    return query select cardinality(v_ids), v_adopted, v_ids[cardinality(v_ids)];
end $$;

-- The way back: legacy is the authority again, so the journal gives up what it took over. Some at a time; 0: nothing left.
-- Only in A3: from A4 on these words are all there is, and another daemon may have entered it since this one looked.
create function cutover.disown(p_epoch bigint, p_limit integer) returns integer
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A3']);
    v_count integer;
begin
    delete from cutover.journal j where j.seq in (
        select x.seq from cutover.journal x where x.adopted limit p_limit);
    get diagnostics v_count = row_count;
    return v_count;
end $$;

-- 2. Setting aside, in the transaction A3 → A4, and again after a drop was cancelled.
create table cutover.drop_event (
    seq        bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    event      text not null check (event in ('aside', 'cancelled', 'dropping', 'blocked', 'dropped', 'retiring')),
    relation   text not null default '',
    hold_until timestamptz,
    actor      text not null check (actor <> '' and length(actor) <= 200),
    detail     text not null default '' check (length(detail) <= 4000),
    check ((event = 'aside') = (hold_until is not null)),
    check (not cutover.looks_secret(actor) and not cutover.looks_secret(detail))
);
comment on table cutover.drop_event is 'Append-only: every step of dropping agent_memories, recorded before it is taken or in its own transaction.';
comment on column cutover.drop_event.relation is 'No secret: the name that the table has while it is held, without its schema (public).';
comment on column cutover.drop_event.hold_until is 'Not dropped before this, by the clock of the database.';
select cutover.make_append_only('cutover.drop_event');

-- How long the table has been held, added up from looks: a clock that jumps ahead does not end the hold.
create table cutover.drop_hold (
    event_seq bigint primary key,
    seconds   double precision not null,
    held      double precision not null default 0,
    looked_at timestamptz not null default clock_timestamp()
);
comment on table cutover.drop_hold is 'One row for each hold: how long it is to last, and how long it has lasted while somebody looked.';
comment on column cutover.drop_hold.event_seq is 'The drop_event that began it.';
comment on column cutover.drop_hold.held is 'Seconds. A look adds what lies between it and the one before, and never more than a minute.';

create function cutover.look_at_hold() returns void
language sql as $$
    update cutover.drop_hold h set
        held = h.held + least(greatest(extract(epoch from clock_timestamp() - h.looked_at)::float8, 0), 60),
        looked_at = clock_timestamp()
    where h.event_seq = (select max(d.seq) from cutover.drop_event d where d.event in ('aside', 'cancelled', 'dropped'))
$$;

-- Where the drop stands: the newest event that changed something. No row: nothing was begun.
create view cutover.drop_state as
select d.event as state, d.relation, d.hold_until, d.actor, d.at,
       greatest(extract(epoch from d.hold_until - clock_timestamp())::float8, h.seconds - h.held, 0) as remaining,
       (select b.detail from cutover.drop_event b where b.event = 'blocked' and b.seq > d.seq order by b.seq desc limit 1) as blocked
from cutover.drop_event d left join cutover.drop_hold h on h.event_seq = d.seq
where d.event in ('aside', 'cancelled', 'dropped') order by d.seq desc limit 1;
comment on view cutover.drop_state is 'Where the drop stands now. blocked: why the last try to drop did not come to it.';

-- The legacy table as it is called now, quoted and with its schema, or null when there is none.
create function cutover.legacy_relation() returns text
language sql stable as $$
    select case when d.state = 'dropped' or to_regclass(t.name) is null then null else t.name end
    from (values (1)) as one (n) left join cutover.drop_state d on true
    -- Quoted, so that nobody takes it for the name that is switched to the stand-in.
    cross join lateral (
        select 'public.' || '"' || case when d.state = 'aside' then d.relation else 'agent_memories' end || '"') as t (name)
$$;

-- From A4 on, nothing here may name a table that is about to go: what reads or writes public.agent_memories is made to
-- name an empty table with the same columns instead. All words on memories are in the journal by then. Functions that
-- look after the table itself go on naming it. Also called after a migration that comes while the tenant is in A4.
create function cutover.look_past_legacy() returns integer
language plpgsql as $$
declare
    f       record;
    v_count integer := 0;
begin
    for f in
        select pg_get_functiondef(p.oid) as definition from pg_proc p
        where p.pronamespace = 'cutover'::regnamespace and p.prokind = 'f'
          and p.prosrc like '%public.agent\_memories%'
          and p.proname <> all (array['install_capture', 'remove_capture', 'capture_state', 'set_legacy_aside',
                                      'take_legacy_back', 'look_past_legacy'])
          and coalesce(obj_description(p.oid, 'pg_proc'), '') not like 'Names the table itself%'
        order by p.oid
    loop
        execute replace(f.definition, 'public.agent_memories', 'cutover.legacy_stand_in');
        v_count := v_count + 1;
    end loop;
    return v_count;
end $$;

-- A workspace goes while its rows are held: a purge cannot name their table any more, and the foreign key would keep the
-- workspace. The rows' own trigger tells the journal, as for any delete by others.
create function cutover.release_held_rows() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_table text := cutover.legacy_relation();
begin
    if v_table is not null then
        execute format('delete from %s where workspace_id = $1', v_table) using old.id;
    end if;
    return old;
end $$;

-- Whether the table has a row that the journal says nothing final about, although the tree can place it. Whoever goes on
-- without such a row loses it. Exact only while the phase is held still.
create function cutover.legacy_knows_more() returns boolean
language plpgsql stable as $$
begin
    return exists (
        select from public.agent_memories a
        where not exists (select from cutover.journal j where j.memory_id = a.id and j.state = 'applied')
          and cutover.namespace_of(a.workspace_id, a.scope) is not null);
end $$;
comment on function cutover.legacy_knows_more() is 'Names the table itself, also in A4, when a hold that was called off is begun again.';

-- Give the table a name that says what it is and until when. The caller has set lock_timeout: workspaces is held still
-- as well, because its triggers must run wholly before or wholly after their functions change.
create function cutover.set_legacy_aside(p_seconds float8, p_actor text, p_detail text) returns text
language plpgsql as $$
declare
    v_until timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
    v_seq   bigint;
    v_name  text := 'agent_memories_dropped_after_' || to_char(v_until at time zone 'UTC', 'YYYYMMDD_HH24MISS') || '_utc';
begin
    -- Before the table is locked: readers need not wait for this, and what may still go on meanwhile is deleting.
    if cutover.legacy_knows_more() then
        raise exception 'agent_memories holds rows that the journal has not taken over: a way back was begun meanwhile'
            using errcode = 'CU004';
    end if;
    lock table public.workspaces in share row exclusive mode;
    lock table public.agent_memories in access exclusive mode;
    insert into cutover.drop_event (event, relation, hold_until, actor, detail)
    values ('aside', v_name, v_until, p_actor, p_detail) returning seq into v_seq;
    insert into cutover.drop_hold (event_seq, seconds) values (v_seq, p_seconds);
    if to_regclass('cutover.legacy_stand_in') is null then
        create table cutover.legacy_stand_in (like public.agent_memories including generated);
        alter table cutover.legacy_stand_in add constraint always_empty check (false);
        comment on table cutover.legacy_stand_in is 'Always empty: stands where agent_memories was, for what read it.';
    end if;
    perform cutover.look_past_legacy();
    execute format('alter table public.agent_memories rename to %I', v_name);
    create or replace trigger cutover_hold_workspace_delete before delete on public.workspaces
        for each row execute function cutover.release_held_rows();
    alter table public.workspaces enable always trigger cutover_hold_workspace_delete;
    return v_name;
end $$;

-- The hold is called off: the table has its name again, still frozen. The functions go on without it. The table is locked
-- first: whoever reads it for long (a dump) must not make everybody wait at workspaces.
create function cutover.take_legacy_back(p_actor text, p_detail text) returns boolean
language plpgsql as $$
declare
    v_name text := (select d.relation from cutover.drop_state d where d.state = 'aside');
begin
    if v_name is null then
        return false;
    end if;
    if to_regclass('public.agent_memories') is not null then
        raise exception 'another public.agent_memories was made meanwhile' using errcode = 'CU004';
    end if;
    execute format('lock table public.%I in access exclusive mode', v_name);
    insert into cutover.drop_event (event, relation, actor, detail) values ('cancelled', v_name, p_actor, p_detail);
    drop trigger if exists cutover_hold_workspace_delete on public.workspaces;
    execute format('alter table public.%I rename to agent_memories', v_name);
    return true;
end $$;

-- The drop itself, without CASCADE: what depends on the table stops it. Not before the hold is over. The table is locked
-- first, as above.
create function cutover.drop_legacy(p_actor text) returns boolean
language plpgsql as $$
declare
    v_name text := (select d.relation from cutover.drop_state d where d.state = 'aside' and d.remaining <= 0);
begin
    if v_name is null then
        return false;
    end if;
    execute format('lock table public.%I in access exclusive mode', v_name);
    drop trigger if exists cutover_hold_workspace_delete on public.workspaces;
    execute format('drop table public.%I', v_name);
    insert into cutover.drop_event (event, relation, actor) values ('dropped', v_name, p_actor);
    return true;
end $$;

-- What depends on the legacy table, by kind and name, as `drop` shows it: whatever of it is not part of the table itself.
create function cutover.legacy_dependants() returns table (kind text, name text)
language sql stable as $$
    with legacy as (
        select c.oid, c.reltype from pg_class c where c.oid = to_regclass(cutover.legacy_relation())
    ), columns_of as (
        -- A row type stands for the table where columns or functions of others use it.
        select t.oid from pg_type t join legacy l on t.oid = l.reltype or t.typelem = l.reltype
    ), found (kind, name) as (
        select case v.relkind when 'm' then 'materialized view' when 'v' then 'view' else 'rule' end,
               case when v.relkind in ('m', 'v') then v.oid::regclass::text
                    else r.rulename || ' on ' || v.oid::regclass::text end
        from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        join pg_class v on v.oid = r.ev_class join legacy l on d.refclassid = 'pg_class'::regclass and d.refobjid = l.oid
        where v.oid <> l.oid or (v.relkind not in ('m', 'v'))
        union
        select 'foreign key', k.conname || ' on ' || k.conrelid::regclass::text
        from pg_constraint k join legacy l on k.confrelid = l.oid where k.contype = 'f' and k.conrelid <> l.oid
        union
        select 'policy', p.polname || ' on ' || p.polrelid::regclass::text
        from pg_depend d join pg_policy p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
        join legacy l on d.refclassid = 'pg_class'::regclass and d.refobjid = l.oid where p.polrelid <> l.oid
        union
        select 'publication', b.pubname::text
        from pg_publication_rel r join pg_publication b on b.oid = r.prpubid join legacy l on l.oid = r.prrelid
        union
        select 'inheritance child', i.inhrelid::regclass::text from pg_inherits i join legacy l on l.oid = i.inhparent
        union
        select 'inheritance parent', i.inhparent::regclass::text from pg_inherits i join legacy l on l.oid = i.inhrelid
        union
        -- By its text, because PostgreSQL does not look into it: what it names it finds, or not, when it runs.
        select case p.prokind when 'p' then 'procedure' else 'function' end, p.oid::regprocedure::text
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname not in ('cutover', 'pg_catalog', 'information_schema') and p.prokind in ('f', 'p')
          and p.prosrc ~ '\magent_memories\M' and exists (select from legacy)
        union
        select case p.prokind when 'p' then 'procedure' else 'function' end, p.oid::regprocedure::text
        from pg_depend d join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
        where (d.refclassid = 'pg_class'::regclass and d.refobjid in (select l.oid from legacy l))
           or (d.refclassid = 'pg_type'::regclass and d.refobjid in (select t.oid from columns_of t))
        union
        select 'column', a.attrelid::regclass::text || '.' || a.attname
        from pg_attribute a join pg_class c on c.oid = a.attrelid join legacy l on c.oid <> l.oid
        where a.atttypid in (select t.oid from columns_of t) and not a.attisdropped and c.relkind in ('r', 'p', 'm', 'f', 'c')
        union
        -- Whoever made it believes in agent_memories still; and the held table could not have its name back.
        select 'another table', 'agent_memories in schema public, made during the hold'
        from cutover.drop_state d where d.state = 'aside' and to_regclass('public."agent_memories"') is not null
    )
    select f.kind, f.name from found f order by f.kind, f.name
$$;
