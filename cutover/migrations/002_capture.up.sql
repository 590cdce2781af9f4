-- Capture: every writer of agent_memories leaves a mark in its own transaction (architecture §3; domain §4.6).
-- The trigger functions are security definer because foreign writers need no rights in this schema, and their
-- search_path is pinned because of that; what they call inherits both. (A pinned path costs every call of a function,
-- so the others, which only the daemon and these call, do without: all names in them are qualified.) The triggers
-- themselves come and go with the phase (install_capture, remove_capture).

-- PostgreSQL keeps times that no RFC 3339 text and no Python datetime can hold. Such a time counts as unknown.
create function cutover.sane(p_time timestamptz) returns timestamptz language sql immutable as $$
    select case when p_time >= '0001-01-02 00:00:00+00' and p_time < '9999-12-31 00:00:00+00' then p_time end
$$;

-- Whoever resolves a namespace from the tree in order to deliver holds this shared until its transaction ends; a
-- change of parents takes it exclusively at its own end. So a row is either seen by the change, or sees it.
create function cutover.tree_lock_key() returns bigint language sql immutable as $$ select 7304916220481577219::bigint $$;

-- The last workspace reached by following parents: no parent, an unknown parent, a workspace seen before, or 50 hops.
create function cutover.root_of(p_workspace uuid) returns uuid
language plpgsql stable as $$
declare
    v_at     uuid := p_workspace;
    v_parent uuid;
    v_seen   uuid[] := array[p_workspace];
begin
    for hop in 1..50 loop
        select w.parent_id into v_parent from public.workspaces w where w.id = v_at;
        if v_parent is null or v_parent = any (v_seen) then
            return v_at;
        end if;
        if not exists (select from public.workspaces w where w.id = v_parent) then
            return v_at;
        end if;
        v_at := v_parent;
        v_seen := v_seen || v_at;
    end loop;
    return v_at;
end $$;

-- Where a row of this workspace and scope belongs (domain §3), or null when the tree does not know the workspace.
create function cutover.namespace_of(p_workspace uuid, p_scope text) returns text
language plpgsql stable as $$
declare
    v_parent uuid;
begin
    if p_workspace is null then
        return null;
    end if;
    select w.parent_id into v_parent from public.workspaces w where w.id = p_workspace;
    if not found then
        return null;
    end if;
    return case p_scope
        when 'LOCAL' then 'workspace:' || p_workspace
        when 'TEAM' then 'team:' || coalesce(v_parent, p_workspace)
        when 'GLOBAL' then 'org:' || cutover.root_of(p_workspace)
    end;
end $$;

-- Who writes, as far as PostgreSQL can tell. session_user is the real role even inside security definer.
create function cutover.current_writer() returns text
language sql stable as $$
    select left(coalesce(nullif(current_setting('application_name', true), ''), 'unnamed'), 64) || '/' || session_user
$$;

-- Put or renew a mark. With a lease asked for (setting cutover.owner, by the daemon's own functions only) it is
-- granted unless another request is, or may still be, under way; cutover.settled names a lease whose outcome the
-- daemon knows to be definite although the database has not been told yet.
create function cutover.touch_mark(p_id uuid, p_held text[], p_origin text, p_writer text) returns void
language plpgsql as $$
declare
    -- What others do is under nobody's lease, whatever they have set.
    v_owner   uuid := case when p_origin not in ('bypass', 'kv') then nullif(current_setting('cutover.owner', true), '')::uuid end;
    v_settled bigint := nullif(current_setting('cutover.settled', true), '')::bigint;
    v_due     timestamptz := now();
    v_lease   bigint;
    v_got     bigint;
begin
    if v_owner is not null then
        v_due := now() + make_interval(secs => current_setting('cutover.quiet')::float8);
        v_lease := nextval('cutover.lease_seq');
    end if;
    insert into cutover.mark as m
        (memory_id, rev, held_in, due_at, lease_id, lease_owner, sent_at, ambiguous, origin, writer)
    values
        (p_id, nextval('cutover.rev_seq'), p_held, v_due, v_lease, v_owner,
         case when v_lease is not null then now() end, v_lease is not null, p_origin, p_writer)
    on conflict (memory_id) do update set
        rev = excluded.rev,
        held_in = case when m.held_in @> excluded.held_in then m.held_in else m.held_in || excluded.held_in end,
        -- A live change outranks the copy; a bypass is remembered until it is delivered.
        origin = case when m.origin = 'bypass' or excluded.origin = 'backfill' then m.origin
                      -- A K/V row that shares its id with a memory says nothing about the memory's mark.
                      when excluded.origin = 'kv' and m.origin <> 'backfill' then m.origin
                      else excluded.origin end,
        writer = case when m.origin = 'bypass' and excluded.origin <> 'bypass' then m.writer else excluded.writer end,
        attempts = 0,
        lease_id = case when v_lease is null then m.lease_id
                        when not m.ambiguous or m.due_at <= clock_timestamp() or m.lease_id = v_settled then v_lease
                        else m.lease_id end,
        lease_owner = case when v_lease is null then m.lease_owner
                           when not m.ambiguous or m.due_at <= clock_timestamp() or m.lease_id = v_settled then v_owner
                           else m.lease_owner end,
        sent_at = case when v_lease is null then m.sent_at
                       when not m.ambiguous or m.due_at <= clock_timestamp() or m.lease_id = v_settled then now()
                       else m.sent_at end,
        ambiguous = m.ambiguous or v_lease is not null,
        due_at = case when not m.ambiguous then excluded.due_at
                      when v_lease is not null and (m.due_at <= clock_timestamp() or m.lease_id = v_settled)
                      then excluded.due_at
                      else m.due_at end
    returning lease_id into v_got;
    if v_got = v_lease then
        perform set_config('cutover.granted', v_lease::text, true);
    end if;
end $$;

-- The lease this transaction was granted on a memory, or null: somebody else's request is, or may be, under way.
create function cutover.granted_lease(p_lease bigint) returns bigint
language sql stable as $$
    select case when p_lease = nullif(current_setting('cutover.granted', true), '')::bigint then p_lease end
$$;

-- Whether what somebody else does to legacy now must reach the journal. The phase is read with his snapshot: a repeatable
-- read transaction may be older than the cutover. The freeze stops what it writes, but not what it deletes, so its
-- deletes are journaled in every phase. (Where legacy is the authority, nobody asks the journal about them.)
create function cutover.plugin_rules_for(p_op text) returns boolean
language plpgsql stable as $$
begin
    return (select s.phase in ('A3', 'A4') from cutover.phase_state s)
        or (p_op in ('DELETE', 'TRUNCATE') and current_setting('transaction_isolation') in ('repeatable read', 'serializable'));
end $$;

create function cutover.capture_row() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_origin text := cutover.own_origin();
    v_writer text := 'cutover';
    v_held   text[] := '{}';
begin
    if v_origin = 'replay' then
        return null;  -- the journal on its way into legacy: the plugin has it already (migration 013)
    end if;
    if v_origin is null then
        v_origin := 'bypass';
        v_writer := cutover.current_writer();
        insert into cutover.bypass_write (writer, operation) values (v_writer, case
            -- A foreign key's own statement: the workspace is gone already, and the key is one that takes rows along.
            -- (Not told by pg_trigger_depth(): PostgreSQL runs the triggers of such a statement with the outer one's.)
            when tg_op <> 'INSERT' and old.workspace_id is not null
                 and not exists (select from public.workspaces w where w.id = old.workspace_id)
                 and exists (select from pg_constraint c where c.contype = 'f' and c.conrelid = tg_relid
                             and c.confrelid = 'public.workspaces'::regclass and c.confdeltype in ('c', 'n', 'd'))
            then 'CASCADE'
            else tg_op end);
    end if;
    if tg_op = 'DELETE' then
        v_held := array_remove(array[cutover.namespace_of(old.workspace_id, old.scope)], null);
        perform cutover.bury(old.id, v_held);
        perform cutover.touch_mark(old.id, v_held, v_origin, v_writer);
    else
        if tg_op = 'INSERT' then
            delete from cutover.tombstone t where t.memory_id = new.id;
        else
            if (old.workspace_id, old.scope) is distinct from (new.workspace_id, new.scope) then
                v_held := array_remove(array[cutover.namespace_of(old.workspace_id, old.scope)], null);
            end if;
            if old.id <> new.id then
                v_held := array_remove(array[cutover.namespace_of(old.workspace_id, old.scope)], null);
                perform cutover.bury(old.id, v_held);
                perform cutover.touch_mark(old.id, v_held, v_origin, v_writer);
                delete from cutover.tombstone t where t.memory_id = new.id;
            end if;
        end if;
        perform cutover.touch_mark(new.id, v_held, v_origin, v_writer);
    end if;
    -- Past the cutover legacy is no longer read: what a foreign writer does to it must reach the journal. After the mark,
    -- which he holds from here on: so the words on a memory have the order in which they come to count (write_intent).
    if v_origin = 'bypass' and tg_op = 'UPDATE' and old.workspace_id is not null and new.workspace_id is distinct from old.workspace_id
       and cutover.plugin_rules_for('DELETE') and not exists (select from public.workspaces w where w.id = old.workspace_id) then
        -- The workspace went, and its foreign key kept the row: to the plugin the memory is gone like the others of it.
        perform cutover.journal_bypass('DELETE', to_jsonb(old), v_writer);
    elsif v_origin = 'bypass' and cutover.plugin_rules_for(tg_op) then
        if tg_op = 'UPDATE' and old.id <> new.id then
            perform cutover.journal_bypass('DELETE', to_jsonb(old), v_writer);
        end if;
        perform cutover.journal_bypass(tg_op, to_jsonb(case when tg_op = 'DELETE' then old else new end), v_writer);
    end if;
    return null;
end $$;

create function cutover.bury(p_id uuid, p_held text[]) returns void
language plpgsql as $$
begin
    insert into cutover.tombstone (memory_id, rev, held_in) values (p_id, nextval('cutover.rev_seq'), p_held)
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at;
    delete from cutover.extra e where e.memory_id = p_id;
end $$;

-- A foreign write to legacy in A3 and A4, journaled so that it converges like any other.
create function cutover.journal_bypass(p_op text, p_row jsonb, p_writer text) returns void
language plpgsql as $$
declare
    v_namespace text := cutover.namespace_of((p_row ->> 'workspace_id')::uuid, p_row ->> 'scope');
begin
    if v_namespace is null and p_op <> 'DELETE' then
        return;  -- cannot be placed: the mark leads to the quarantine
    end if;
    insert into cutover.journal
        (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source,
         embedding, created_at, updated_at, writer)
    select (p_row ->> 'id')::uuid, nextval('cutover.rev_seq'), s.epoch,
           case when p_op = 'DELETE' then 'forget' else 'upsert' end,
           -- Who takes us to be before the cutover may be right: then nobody settles it, and it must be in nobody's way.
           case when s.phase in ('A3', 'A4') then 'intent' else 'applied' end, false,
           coalesce(v_namespace, ''), (p_row ->> 'workspace_id')::uuid, p_row ->> 'scope', p_row ->> 'namespace',
           case when p_op <> 'DELETE' then p_row ->> 'content' end, 'fact', 'agent',
           translate(p_row ->> 'embedding', '[]', '{}')::real[],
           cutover.sane((p_row ->> 'created_at')::timestamptz), cutover.sane((p_row ->> 'updated_at')::timestamptz), p_writer
    from cutover.phase_state s;
end $$;

create function cutover.capture_truncate() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_writer text := cutover.current_writer();
begin
    insert into cutover.bypass_write (writer, operation) values (v_writer, 'TRUNCATE');
    if cutover.plugin_rules_for('TRUNCATE') then
        insert into cutover.journal
            (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, writer)
        select a.id, nextval('cutover.rev_seq'), s.epoch, 'forget',
               case when s.phase in ('A3', 'A4') then 'intent' else 'applied' end, false,
               coalesce(cutover.namespace_of(a.workspace_id, a.scope), ''), a.workspace_id, a.scope, a.namespace, v_writer
        from public.agent_memories a, cutover.phase_state s;
    end if;
    insert into cutover.tombstone (memory_id, rev, held_in)
    select a.id, nextval('cutover.rev_seq'), array_remove(array[cutover.namespace_of(a.workspace_id, a.scope)], null)
    from public.agent_memories a
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at;
    delete from cutover.extra e using public.agent_memories a where e.memory_id = a.id;
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    select a.id, nextval('cutover.rev_seq'),
           array_remove(array[cutover.namespace_of(a.workspace_id, a.scope)], null), 'truncate', v_writer
    from public.agent_memories a order by a.id
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = m.held_in || excluded.held_in, origin = excluded.origin, writer = excluded.writer,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    return null;
end $$;

-- A workspace got another parent: its TEAM rows belong to another team, its subtree's GLOBAL rows perhaps to another
-- root (domain §4.10). A statement trigger, because the old root of a row can only be found in the tree as it was.
create function cutover.capture_reparent() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_scans bigint := cutover.own_scans_from();
begin
    if not exists (select from before_update o join after_update n using (id) where o.parent_id is distinct from n.parent_id) then
        return null;
    end if;
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    with recursive moved as (
        select o.id, o.parent_id as old_parent from before_update o join after_update n using (id)
        where o.parent_id is distinct from n.parent_id
    ), subtree (id, hops) as (
        select id, 0 from moved
        union
        select w.id, s.hops + 1 from public.workspaces w join subtree s on w.parent_id = s.id where s.hops < 50
    ), inhabitants as (
        select distinct id from subtree
    ), chain (start, at, parent, hops, seen) as (
        -- The tree as it was: the parent from before where it changed in this statement.
        select i.id, i.id, case when m.id is not null then m.old_parent else w.parent_id end, 0, array[i.id]
        from inhabitants i join public.workspaces w on w.id = i.id left join moved m on m.id = i.id
        union all
        select c.start, w.id, case when m.id is not null then m.old_parent else w.parent_id end, c.hops + 1, c.seen || w.id
        from chain c join public.workspaces w on w.id = c.parent left join moved m on m.id = w.id
        where c.hops < 50 and not w.id = any (c.seen)
    ), old_root as (
        select distinct on (start) start as id, at as root from chain order by start, hops desc
    ), held as (
        select a.id, a.workspace_id, a.scope from public.agent_memories a join inhabitants i on i.id = a.workspace_id
        union all  -- in A3 the newest memories are in the journal only
        select j.memory_id, j.workspace_id, j.scope from cutover.journal j join inhabitants i on i.id = j.workspace_id
        where not j.native and j.op = 'upsert' and j.state in ('intent', 'applied')
    )
    select distinct on (a.id) a.id, nextval('cutover.rev_seq'),
           array[case when a.scope = 'TEAM' then 'team:' || coalesce(v.old_parent, a.workspace_id) else 'org:' || r.root end],
           'reparent', 'workspaces'
    from held a
    join old_root r on r.id = a.workspace_id
    left join moved v on v.id = a.workspace_id
    where (a.scope = 'TEAM' and v.id is not null) or a.scope = 'GLOBAL'
    order by a.id
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = m.held_in || excluded.held_in,
        origin = case when m.origin = 'bypass' then m.origin else excluded.origin end,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    perform cutover.note_own_scans(v_scans);
    return null;
end $$;

create table cutover.purge_again (
    workspace_id uuid primary key,
    writer       text not null
);
comment on table cutover.purge_again is 'Workspaces that were deleted by a transaction with an old snapshot. The daemon looks for what it did not see.';
comment on column cutover.purge_again.writer is 'No secret: application_name and role.';

create function cutover.purge_journal(p_workspace uuid, p_writer text) returns void
language plpgsql as $$
begin
    -- What only the journal knows of this workspace (all of A3, natives before) goes with it.
    with newest as (
        select distinct on (j.memory_id) j.memory_id, j.op, j.native, j.namespace, j.workspace_id, j.scope, j.label
        from cutover.journal j
        where j.state in ('intent', 'applied')
          and j.memory_id in (select x.memory_id from cutover.journal x where x.workspace_id = p_workspace)
        order by j.memory_id, j.seq desc
    ), gone as (
        insert into cutover.journal
            (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, writer)
        select n.memory_id, nextval('cutover.rev_seq'), s.epoch, 'forget', 'intent', n.native, n.namespace,
               n.workspace_id, n.scope, n.label, p_writer
        from newest n, cutover.phase_state s
        where n.op = 'upsert' and n.workspace_id = p_workspace
        returning memory_id, namespace, native
    ), shown as (
        delete from cutover.native x using gone g where x.memory_id = g.memory_id
    ), buried as (
        insert into cutover.tombstone as t (memory_id, rev, held_in)
        select g.memory_id, nextval('cutover.rev_seq'), array[g.namespace] from gone g
        on conflict (memory_id) do update set
            rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at
    )
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    select g.memory_id, nextval('cutover.rev_seq'), array[g.namespace], 'purge', p_writer
    from gone g order by g.memory_id
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = m.held_in || excluded.held_in,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
end $$;

-- Each of those workspaces once more, with a snapshot of today; gives back how many.
create function cutover.purge_once_more() returns integer
language plpgsql as $$
declare
    w       record;
    v_count integer := 0;
begin
    for w in delete from cutover.purge_again a where a.workspace_id in (
                 select x.workspace_id from cutover.purge_again x order by x.workspace_id limit 100 for update skip locked)
             returning a.workspace_id, a.writer loop
        if not exists (select from public.workspaces p where p.id = w.workspace_id) then
            perform cutover.purge_journal(w.workspace_id, w.writer);
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end $$;

-- A workspace is about to be deleted: once it is gone the tree cannot say where its memories are held, nor where
-- those of the workspaces below it were.
create function cutover.capture_workspace_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_scans bigint := cutover.own_scans_from();
begin
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    with recursive subtree (id, hops) as (
        select old.id, 0
        union
        select w.id, s.hops + 1 from public.workspaces w join subtree s on w.parent_id = s.id where s.hops < 50
    ), inhabitants as (
        select distinct id from subtree
    )
    select a.id, nextval('cutover.rev_seq'),
           array_remove(array[cutover.namespace_of(a.workspace_id, a.scope)], null), 'purge', cutover.current_writer()
    from (
        select a.id, a.workspace_id, a.scope from public.agent_memories a join inhabitants i on i.id = a.workspace_id
        union all  -- in A3 the newest memories are in the journal only
        select distinct on (j.memory_id) j.memory_id, j.workspace_id, j.scope
        from cutover.journal j join inhabitants i on i.id = j.workspace_id
        where not j.native and j.op = 'upsert' and j.state in ('intent', 'applied') and j.workspace_id <> old.id
          and not exists (select from public.agent_memories a where a.id = j.memory_id)
    ) a
    where a.workspace_id = old.id or a.scope <> 'LOCAL'
    order by a.id
    on conflict (memory_id) do update set
        rev = excluded.rev, held_in = m.held_in || excluded.held_in,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    perform set_config('cutover.purging', old.id::text, true);  -- the foreign key's own UPDATE is on its way
    perform cutover.purge_journal(old.id, cutover.current_writer());
    -- A snapshot that is older than words on this workspace does not show them: the daemon looks once more.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        insert into cutover.purge_again (workspace_id, writer) values (old.id, cutover.current_writer())
        on conflict (workspace_id) do nothing;
    end if;
    perform cutover.note_own_scans(v_scans);
    return old;
end $$;

-- It is deleted, and its foreign keys have looked at agent_memories: their triggers come first, by name. Not noted before,
-- because a deletion that fails would leave a scan noted that never came.
create function cutover.note_workspace_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform cutover.note_foreign_key_scans();
    return null;
end $$;

-- The same change once more at the end of its transaction, under the tree lock: rows that were written meanwhile by
-- somebody who saw the old tree are seen now. (The statement trigger above knows the old tree exactly and may be early;
-- this one is on time. Both only mark.)
create function cutover.capture_reparent_at_commit() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_scans bigint := cutover.own_scans_from();
begin
    perform pg_advisory_xact_lock(cutover.tree_lock_key());
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    with recursive subtree (id, hops) as (
        select new.id, 0
        union
        select w.id, s.hops + 1 from public.workspaces w join subtree s on w.parent_id = s.id where s.hops < 50
    ), inhabitants as (
        select distinct id from subtree
    ), held as (
        select a.id, a.workspace_id, a.scope from public.agent_memories a join inhabitants i on i.id = a.workspace_id
        union all
        select j.memory_id, j.workspace_id, j.scope from cutover.journal j join inhabitants i on i.id = j.workspace_id
        where not j.native and j.op = 'upsert' and j.state in ('intent', 'applied')
    )
    select distinct on (h.id) h.id, nextval('cutover.rev_seq'),
           array[case when h.scope = 'TEAM' then 'team:' || coalesce(old.parent_id, old.id)
                      else 'org:' || coalesce(cutover.root_of(old.parent_id), old.id) end],
           'reparent', 'workspaces'
    from held h
    where (h.scope = 'TEAM' and h.workspace_id = new.id) or h.scope = 'GLOBAL'
    order by h.id
    on conflict (memory_id) do update set
        rev = excluded.rev,
        held_in = case when m.held_in @> excluded.held_in then m.held_in else m.held_in || excluded.held_in end,
        origin = case when m.origin = 'bypass' then m.origin else excluded.origin end,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    perform cutover.note_own_scans(v_scans);
    return null;
end $$;

-- A workspace appears that others already named as their parent: their chains go on past it now, so the GLOBAL rows
-- below it belong to another root. (TEAM rows follow parent_id, which has not changed.)
create function cutover.capture_workspace_insert() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    v_scans bigint := cutover.own_scans_from();
begin
    if not exists (select from public.workspaces w where w.parent_id = new.id and w.id <> new.id) then
        return null;
    end if;
    insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
    with recursive subtree (id, was_root, hops) as (
        select w.id, w.id, 1 from public.workspaces w where w.parent_id = new.id
        union
        select w.id, s.was_root, s.hops + 1 from public.workspaces w join subtree s on w.parent_id = s.id where s.hops < 50
    ), held as (
        select a.id, s.was_root from public.agent_memories a join subtree s on s.id = a.workspace_id where a.scope = 'GLOBAL'
        union all
        select j.memory_id, s.was_root from cutover.journal j join subtree s on s.id = j.workspace_id
        where j.scope = 'GLOBAL' and not j.native and j.op = 'upsert' and j.state in ('intent', 'applied')
    )
    select distinct on (h.id) h.id, nextval('cutover.rev_seq'), array['org:' || h.was_root], 'reparent', 'workspaces'
    from held h order by h.id
    on conflict (memory_id) do update set
        rev = excluded.rev,
        held_in = case when m.held_in @> excluded.held_in then m.held_in else m.held_in || excluded.held_in end,
        origin = case when m.origin = 'bypass' then m.origin else excluded.origin end,
        attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end;
    perform cutover.note_own_scans(v_scans);
    return null;
end $$;

-- Needs short exclusive locks on two tables: the caller sets lock_timeout and retries.
create function cutover.install_capture() returns void
language plpgsql as $$
begin
    perform cutover.remove_capture();
    create trigger cutover_capture_row after insert or update or delete on public.agent_memories
        for each row execute function cutover.capture_row();
    create trigger cutover_capture_truncate before truncate on public.agent_memories
        for each statement execute function cutover.capture_truncate();
    create trigger cutover_capture_reparent after update on public.workspaces
        referencing old table as before_update new table as after_update
        for each statement execute function cutover.capture_reparent();
    create constraint trigger cutover_capture_reparent_at_commit after update of parent_id on public.workspaces
        deferrable initially deferred for each row when (old.parent_id is distinct from new.parent_id)
        execute function cutover.capture_reparent_at_commit();
    create trigger cutover_capture_workspace_insert after insert on public.workspaces
        for each row execute function cutover.capture_workspace_insert();
    create trigger cutover_capture_workspace_delete before delete on public.workspaces
        for each row execute function cutover.capture_workspace_delete();
    -- Not enabled always, and none of the six: where foreign keys do not fire, it must not either.
    create trigger cutover_note_workspace_delete after delete on public.workspaces
        for each row execute function cutover.note_workspace_delete();
    alter table public.agent_memories enable always trigger cutover_capture_row;
    alter table public.agent_memories enable always trigger cutover_capture_truncate;
    alter table public.workspaces enable always trigger cutover_capture_reparent;
    alter table public.workspaces enable always trigger cutover_capture_reparent_at_commit;
    alter table public.workspaces enable always trigger cutover_capture_workspace_insert;
    alter table public.workspaces enable always trigger cutover_capture_workspace_delete;
end $$;

create function cutover.remove_capture() returns void
language plpgsql as $$
begin
    drop trigger if exists cutover_capture_row on public.agent_memories;
    drop trigger if exists cutover_capture_truncate on public.agent_memories;
    drop trigger if exists cutover_capture_reparent on public.workspaces;
    drop trigger if exists cutover_capture_reparent_at_commit on public.workspaces;
    drop trigger if exists cutover_capture_workspace_insert on public.workspaces;
    drop trigger if exists cutover_capture_workspace_delete on public.workspaces;
    drop trigger if exists cutover_note_workspace_delete on public.workspaces;
end $$;

-- Which of the six are there, enabled always, and run our function.
create function cutover.capture_state() returns table (name text, intact boolean)
language sql stable as $$
    select w.name, coalesce((
        select t.tgenabled = 'A' and n.nspname = 'cutover'
        from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
        where t.tgname = w.name and t.tgrelid = to_regclass(w.relation) and not t.tgisinternal), false)
    from (values ('cutover_capture_row', 'public.agent_memories'),
                 ('cutover_capture_truncate', 'public.agent_memories'),
                 ('cutover_capture_reparent', 'public.workspaces'),
                 ('cutover_capture_reparent_at_commit', 'public.workspaces'),
                 ('cutover_capture_workspace_insert', 'public.workspaces'),
                 ('cutover_capture_workspace_delete', 'public.workspaces')) as w (name, relation)
$$;
