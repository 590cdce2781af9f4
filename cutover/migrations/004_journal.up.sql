-- Writes that legacy does not hold: all of A3 and A4, and natives from A1 on. Intent first, in the journal; then the
-- plugin; then applied (architecture §3). A mark under lease accompanies every intent, so that the one-request rule,
-- T_z and the reconciler are the same machinery on both sides of the cutover.

-- The memory as it is expected to be: the journal's newest word, or legacy's. In A1 and A2 legacy is asked first.
create function cutover.expected_state(p_id uuid, p_phase text) returns cutover.write_result
language plpgsql stable as $$
declare
    r cutover.write_result;
    j cutover.journal;
    v_scans bigint;
begin
    if p_phase in ('A0', 'A1', 'A2') then
        r := cutover.legacy_result(p_id);
        if r.memory_id is not null then
            return r;
        end if;
    end if;
    select * into j from cutover.journal x
    where x.memory_id = p_id and x.state in ('intent', 'applied')
      -- Before the cutover only natives live here: anything else is a foreign write of A3 that came after its end.
      and (x.native or p_phase in ('A3', 'A4'))
    order by x.seq desc limit 1;
    if found then
        if j.op = 'forget' then
            return null;
        end if;
        r := null;
        r.status := case when j.native then 'native' else 'ok' end;
        r.memory_id := p_id; r.seq := j.seq;
        r.namespace := case when j.native then j.namespace
                            else coalesce(cutover.namespace_of(j.workspace_id, j.scope), j.namespace) end;
        r.workspace_id := j.workspace_id; r.scope := j.scope; r.label := j.label; r.content := j.content;
        r.kind := j.kind; r.source := j.source; r.expires_at := j.expires_at; r.pin := j.pin;
        r.propagation := j.propagation; r.embedding := translate(j.embedding::text, '{}', '[]');
        r.created_at := j.created_at; r.updated_at := j.updated_at;
        return r;
    end if;
    if p_phase not in ('A0', 'A1', 'A2') then
        v_scans := cutover.legacy_scans();
        r := cutover.legacy_result(p_id);
        perform cutover.note_own_scans(v_scans);
        return r;
    end if;
    return null;
end $$;

-- One journal writer per memory at a time, across daemons. Callers with several memories come in id order.
create function cutover.lock_memory(p_id uuid) returns void
language sql as $$
    select pg_advisory_xact_lock(hashtextextended(p_id::text, 4207::bigint))
$$;

-- The number of the newest word on a memory, 0: there is none.
create function cutover.newest_word(p_id uuid) returns bigint
language plpgsql as $$
begin
    return coalesce((select max(j.seq) from cutover.journal j where j.memory_id = p_id), 0);
end $$;

-- Take the lease and write the intent; fills rev, lease_id, seq, or status busy when a request is, or may be, under way.
-- p_known: the newest word when the caller looked (newest_word), null: the id is fresh. Whoever deletes past us takes
-- the mark, puts his word into the journal and holds the mark until he ends. So what was said while we waited for the
-- mark is seen here, and the caller has to look anew (40001): his write would undo the delete otherwise.
create function cutover.write_intent(
    p_epoch bigint, p_op text, p_native boolean, p_held text[], p_known bigint, r cutover.write_result)
returns cutover.write_result
language plpgsql as $$
begin
    perform cutover.touch_mark(r.memory_id, p_held, 'journal', 'cutover');
    select m.rev, cutover.granted_lease(m.lease_id), m.held_in into r.rev, r.lease_id, r.held_in
    from cutover.mark m where m.memory_id = r.memory_id;
    if r.lease_id is null then
        r.status := 'busy';
        return r;
    end if;
    if p_known is not null and cutover.newest_word(r.memory_id) <> p_known then
        raise exception 'memory % has changed meanwhile', r.memory_id using errcode = '40001';
    end if;
    insert into cutover.journal
        (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source,
         expires_at, pin, propagation, embedding, created_at, updated_at)
    values
        (r.memory_id, r.rev, p_epoch, p_op, 'intent', p_native, r.namespace, r.workspace_id, r.scope,
         coalesce(r.label, 'general'), case when p_op = 'upsert' then r.content end, r.kind, r.source, r.expires_at,
         coalesce(r.pin, false), r.propagation, translate(r.embedding, '[]', '{}')::real[], r.created_at, r.updated_at)
    returning seq into r.seq;
    return r;
end $$;

create function cutover.namespace_closed(p_name text) returns boolean
language sql stable as $$
    select exists (select from cutover.namespace n where n.name = p_name
                   and greatest(n.closed_until, n.delete_may_land_until) > clock_timestamp())
$$;

-- Whoever writes into a namespace holds this shared, whoever closes it exclusively: so the closing sees every write
-- that came before it, and every later one sees the closing.
create function cutover.hold_namespace(p_name text) returns void
language sql as $$
    select pg_advisory_xact_lock_shared(hashtextextended(p_name, 4208::bigint))
$$;

-- Creates and contract commits on the journal, a batch in one transaction. p_requested null: a v1 create, placed by
-- p_workspaces and p_scopes; else the contract's namespace, whose v1 place (if any) is in those two. p_natives: v1 has
-- no form for it. p_fresh: we minted the id, so nothing can be there yet.
create function cutover.begin_commits(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint[], p_ids uuid[], p_fresh boolean[],
    p_workspaces uuid[], p_scopes text[], p_requested text[], p_natives boolean[], p_contents text[], p_labels text[],
    p_kinds text[], p_sources text[], p_expires timestamptz[], p_pins boolean[], p_propagations text[],
    p_embeddings text[], p_fingerprints bytea[]
) returns setof cutover.write_result
language plpgsql as $$
declare
    v_phase   text := cutover.enter(p_epoch, array['A1', 'A2', 'A3', 'A4']);
    v_parent  uuid;
    v_known   boolean;
    v_native  boolean;
    v_derived text;
    v_old     cutover.write_result;
    v_newest  bigint;
    v_row     jsonb;
    r         cutover.write_result;
begin
    perform set_config('lock_timeout', case when cardinality(p_ids) > 1 then '150ms' else '400ms' end, true);
    for i in 1..cardinality(p_ids) loop
        r := null; v_old := null;
        r.ordinal := i - 1; r.status := 'ok'; r.memory_id := p_ids[i];
        v_newest := null;
        if not p_fresh[i] then
            perform cutover.lock_memory(p_ids[i]);
        end if;
        if p_fingerprints[i] is not null then
            select k.fingerprint into r.fingerprint from cutover.idempotency k where k.memory_id = p_ids[i];
            if found then
                r.status := 'replay'; r.workspace_id := p_workspaces[i]; r.scope := p_scopes[i]; r.label := p_labels[i];
                r.namespace := coalesce(p_requested[i], cutover.namespace_of(p_workspaces[i], p_scopes[i]));
                return next r;
                continue;
            end if;
        end if;
        -- The journal has no foreign key; this is what one would do: a purge of the workspace waits, or is seen.
        select w.parent_id, true into v_parent, v_known from public.workspaces w where w.id = p_workspaces[i] for key share;
        v_derived := case when v_known then case p_scopes[i]
            when 'LOCAL' then 'workspace:' || p_workspaces[i]
            when 'TEAM' then 'team:' || coalesce(v_parent, p_workspaces[i])
            when 'GLOBAL' then 'org:' || cutover.root_of(p_workspaces[i]) end end;
        r.namespace := coalesce(p_requested[i], v_derived);
        v_native := p_natives[i] or v_derived is distinct from r.namespace;
        if r.namespace is not null then
            perform cutover.hold_namespace(r.namespace);
        end if;
        if r.namespace is null then
            r.status := 'no_workspace';
        elsif v_phase in ('A1', 'A2') and not v_native then
            r.status := 'stale';  -- routed before the phase went back: this one is legacy's now
        elsif p_requested[i] is null and p_scopes[i] = 'GLOBAL' and v_parent is not null then
            r.status := 'not_root';
        elsif cutover.namespace_closed(r.namespace) then
            r.status := 'closed';
        elsif not p_fresh[i] then
            v_newest := cutover.newest_word(p_ids[i]);
            v_old := cutover.expected_state(p_ids[i], v_phase);
            -- Another workspace's memory is never overwritten; among custom namespaces a move is the contract's right.
            if v_old.memory_id is not null and v_old.namespace is distinct from r.namespace
               and (v_old.workspace_id is distinct from p_workspaces[i]
                    or (v_old.workspace_id is null and (v_old.namespace !~ '^custom:' or r.namespace !~ '^custom:'))) then
                r.status := 'conflict';
            elsif v_old.memory_id is not null and p_fingerprints[i] is not null then
                r.status := 'exists';  -- a keyed create whose record is gone: never an upsert
            elsif v_old.memory_id is null and exists (select from cutover.kv k where k.memory_id = p_ids[i]) then
                r.status := 'kv';  -- workspace_memory holds it
            end if;
        end if;
        if r.status <> 'ok' then
            return next r;
            continue;
        end if;
        r.workspace_id := p_workspaces[i]; r.scope := case when not v_native then p_scopes[i] end;
        if v_old.status = 'ok' and not v_native and v_old.namespace = r.namespace then
            r.workspace_id := v_old.workspace_id; r.scope := v_old.scope;
        end if;
        r.label := coalesce(p_labels[i], v_old.label, 'general');
        r.content := p_contents[i]; r.kind := p_kinds[i]; r.source := p_sources[i]; r.expires_at := p_expires[i];
        r.pin := p_pins[i]; r.propagation := p_propagations[i]::jsonb; r.embedding := p_embeddings[i];
        -- An old fact without a usable time keeps its place in legacy's order; a native must have one.
        r.created_at := case when v_old.memory_id is null or v_native then coalesce(v_old.created_at, now()) else v_old.created_at end;
        r.updated_at := now();
        perform cutover.write_as(p_owner, p_quiet, p_settled[i]);
        if v_old.memory_id is not null and v_old.namespace <> r.namespace then
            perform cutover.hold_namespace(v_old.namespace);
        end if;
        r := cutover.write_intent(
            p_epoch, 'upsert', v_native,
            case when v_old.memory_id is not null and v_old.namespace <> r.namespace then array[v_old.namespace] else '{}' end,
            v_newest, r);
        if r.status = 'ok' then
            if v_phase in ('A1', 'A2') and v_old.memory_id is not null and v_old.status = 'ok' then
                -- Legacy held it and cannot hold its new form. The row is kept in the intent, for its withdrawal.
                select to_jsonb(a) - 'content_tsv' || jsonb_build_object('extra', to_jsonb(e))
                into v_row
                from public.agent_memories a left join cutover.extra e on e.memory_id = a.id where a.id = p_ids[i];
                update cutover.journal j set replaced = v_row where j.seq = r.seq;
                delete from public.agent_memories a where a.id = p_ids[i];
                delete from cutover.tombstone t where t.memory_id = p_ids[i];
                select m.rev, m.held_in into r.rev, r.held_in from cutover.mark m where m.memory_id = p_ids[i];
            end if;
            if v_native then r.status := 'native'; end if;
            if p_fingerprints[i] is not null then
                insert into cutover.idempotency (memory_id, fingerprint) values (p_ids[i], p_fingerprints[i]);
            end if;
            if p_scopes[i] = 'GLOBAL' and not v_native then
                perform cutover.log_global(
                    r.workspace_id, case when v_old.memory_id is null then 'memory_write_global' else 'memory_edit_global' end,
                    p_ids[i], r.label, r.content);
            end if;
        end if;
        return next r;
    end loop;
end $$;

-- PATCH of v1 in A3 and A4.
create function cutover.begin_edit(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_workspace uuid, p_content text, p_label text
) returns cutover.write_result
language plpgsql as $$
declare
    v_phase   text := cutover.enter(p_epoch, array['A3', 'A4']);
    v_content text;
    v_known   boolean;
    v_newest  bigint;
    r         cutover.write_result;
begin
    perform cutover.lock_memory(p_id);
    -- First of all: a purge that is under way ends before we look at what it leaves, or waits for us and sees our word.
    perform from public.workspaces w where w.id = p_workspace for key share;
    v_known := found;
    v_newest := cutover.newest_word(p_id);
    r := cutover.expected_state(p_id, v_phase);
    if not v_known or r.memory_id is null or r.workspace_id is distinct from p_workspace or r.scope is null then
        r := null;
        r.status := 'missing';
        return r;
    end if;
    v_content := case when r.scope = 'GLOBAL' then replace(p_content, '[MEMORY ', '[_MEMORY ') else p_content end;
    if coalesce(v_content, r.content) = r.content and coalesce(p_label, r.label) = r.label then
        r.status := 'unchanged';
        return r;
    end if;
    perform cutover.hold_namespace(r.namespace);
    if cutover.namespace_closed(r.namespace) then
        r.status := 'closed';
        return r;
    end if;
    if v_content is not null and v_content <> r.content then
        r.content := v_content;
        r.embedding := null;
        if r.scope = 'GLOBAL' then
            perform cutover.log_global(p_workspace, 'memory_edit_global', p_id, coalesce(p_label, r.label), v_content);
        end if;
    end if;
    r.label := coalesce(p_label, r.label); r.updated_at := now(); r.status := 'ok';
    perform cutover.write_as(p_owner, p_quiet, p_settled);
    return cutover.write_intent(p_epoch, 'upsert', false, '{}', v_newest, r);
end $$;

-- DELETE of v1 (p_workspace) or forget of the contract (p_namespace) on the journal. What neither journal nor legacy
-- knows may still be in the plugin under that namespace: the plugin decides.
create function cutover.begin_forget(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_workspace uuid, p_namespace text
) returns cutover.write_result
language plpgsql as $$
declare
    v_phase  text := cutover.enter(p_epoch, array['A1', 'A2', 'A3', 'A4']);
    v_native boolean;
    v_newest bigint;
    r        cutover.write_result;
begin
    perform cutover.lock_memory(p_id);
    v_newest := cutover.newest_word(p_id);
    r := cutover.expected_state(p_id, v_phase);
    if r.memory_id is null and cutover.is_kv_in(p_id, p_namespace) then
        r.status := 'kv';  -- its row in workspace_memory is to be deleted, not its copy
        return r;
    elsif p_namespace is not null and r.memory_id is null
       and v_phase not in ('A1', 'A2') and not exists (select from cutover.tombstone t where t.memory_id = p_id) then
        -- We have no state to bring back, so there is nothing to journal: the request is passed on as it is.
        r.memory_id := p_id; r.namespace := p_namespace; r.status := 'unknown';
        return r;
    elsif r.memory_id is null
       or (p_workspace is not null and (r.workspace_id is distinct from p_workspace or r.scope is null))
       or (p_namespace is not null and r.namespace is distinct from p_namespace) then
        r := null;
        r.status := 'missing';
        return r;
    end if;
    v_native := r.status = 'native';
    if v_phase in ('A1', 'A2') and not v_native then
        raise exception 'legacy holds this memory in %', v_phase using errcode = 'CU001';
    end if;
    perform cutover.hold_namespace(r.namespace);
    perform cutover.write_as(p_owner, p_quiet, p_settled);
    r := cutover.write_intent(p_epoch, 'forget', v_native, array[r.namespace], v_newest, r);
    if r.status <> 'busy' then
        -- Not cutover.bury: its extras have to be there still if the intent is withdrawn.
        insert into cutover.tombstone (memory_id, rev, held_in) values (p_id, nextval('cutover.rev_seq'), array[r.namespace])
        on conflict (memory_id) do update set
            rev = excluded.rev, held_in = excluded.held_in, deleted_at = excluded.deleted_at;
    end if;
    return r;
end $$;

-- Put a legacy row back exactly as `begin_commits` took it away. The trigger marks it, without a lease.
create function cutover.restore_legacy(p_row jsonb) returns void
language plpgsql as $$
begin
    perform cutover.write_as(null, 0, null);
    insert into public.agent_memories (id, workspace_id, content, scope, namespace, created_at, updated_at)
    values ((p_row ->> 'id')::uuid, (p_row ->> 'workspace_id')::uuid, p_row ->> 'content', p_row ->> 'scope',
            p_row ->> 'namespace', (p_row ->> 'created_at')::timestamptz, (p_row ->> 'updated_at')::timestamptz)
    on conflict (id) do nothing;  -- somebody wrote the id anew meanwhile: theirs counts
    if found and p_row ->> 'embedding' is not null then
        perform cutover.set_embedding((p_row ->> 'id')::uuid, p_row ->> 'embedding');
    end if;
    if jsonb_typeof(p_row -> 'extra') = 'object' then
        insert into cutover.extra select (jsonb_populate_record(null::cutover.extra, p_row -> 'extra')).*
        on conflict (memory_id) do nothing;
    end if;
end $$;

-- The caller was told no (or is about to be): the intent does not count. The mark stays and brings the plugin back
-- to the state before, at once when the failure was definite, after T_z when it was not.
create function cutover.withdraw(p_seq bigint, p_id uuid, p_lease bigint, p_ambiguous boolean, p_note text) returns boolean
language plpgsql as $$
declare
    v_op       text;
    v_replaced jsonb;
begin
    update cutover.journal j set state = 'withdrawn', settled_at = clock_timestamp()
    where j.seq = p_seq and j.state = 'intent' returning j.op, j.replaced into v_op, v_replaced;
    if not found then
        return false;
    end if;
    if v_replaced is not null then
        perform cutover.restore_legacy(v_replaced);
    end if;
    if v_op = 'forget' then
        delete from cutover.tombstone t where t.memory_id = p_id;
    else
        -- The key this very intent took (one transaction, one time), not that of an earlier create which stands.
        delete from cutover.idempotency k using cutover.journal j
        where j.seq = p_seq and k.memory_id = p_id and k.created_at = j.updated_at;
    end if;
    -- Whoever holds the lease by now may have sent the intent: its success must not clear a mark of the state before.
    update cutover.mark m set
        rev = nextval('cutover.rev_seq'),
        held_in = m.held_in || (select j.namespace from cutover.journal j where j.seq = p_seq)
    where m.memory_id = p_id;
    update cutover.mark m set
        lease_id = case when p_ambiguous then m.lease_id end,
        lease_owner = case when p_ambiguous then m.lease_owner end,
        ambiguous = p_ambiguous,
        due_at = case when p_ambiguous then m.due_at else clock_timestamp() end,
        last_error = left(p_note, 300)
    where m.memory_id = p_id and m.lease_id = p_lease;
    return true;
end $$;

-- A contract fact whose id is a native's becomes a legacy row (A1, A2): the reverse of what begin_commits does.
create function cutover.adopt_native(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_namespace text, p_workspace uuid,
    p_scope text, p_content text, p_embedding text, p_source text, p_pin boolean, p_propagation text
) returns cutover.write_result
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A1', 'A2']);
    v_old   cutover.write_result;
    r       cutover.write_result;
begin
    perform cutover.lock_memory(p_id);
    v_old := cutover.expected_state(p_id, v_phase);
    if v_old.memory_id is null or v_old.status <> 'native' then
        r.status := 'missing';
        return r;
    elsif v_old.namespace <> p_namespace and v_old.workspace_id is distinct from p_workspace then
        r.status := 'conflict';
        return r;
    elsif cutover.namespace_of(p_workspace, p_scope) is distinct from p_namespace then
        r.status := 'misplaced';
        return r;
    end if;
    perform cutover.write_as(p_owner, p_quiet, p_settled);
    insert into cutover.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, settled_at)
    values (p_id, nextval('cutover.rev_seq'), p_epoch, 'forget', 'applied', true, v_old.namespace, v_old.workspace_id, clock_timestamp());
    delete from cutover.native n where n.memory_id = p_id;
    if p_source <> 'agent' or p_pin or p_propagation is not null then
        insert into cutover.extra (memory_id, source, pin, propagation) values (p_id, p_source, p_pin, p_propagation::jsonb);
    end if;
    insert into public.agent_memories (id, workspace_id, content, scope, namespace, created_at)
    values (p_id, p_workspace, p_content, p_scope, coalesce(v_old.label, 'general'), v_old.created_at);
    if p_embedding is not null then
        perform cutover.set_embedding(p_id, p_embedding);
    end if;
    return cutover.legacy_result(p_id);
end $$;

-- Claim due marks for delivery and read, after the claim and in a later snapshot, the state to deliver. A snapshot
-- older than the claim could pair an old row with a new rev, and the clear would then hide the difference.
create function cutover.claim_marks(p_epoch bigint, p_owner uuid, p_limit integer, p_quiet float8, p_backfill boolean)
returns setof cutover.write_result
language plpgsql as $$
declare
    v_phase text;
    v_late  boolean;
    v_ids   uuid[];
    v_scans bigint;
    v_kv    boolean := to_regclass('public.workspace_memory') is not null and (select c.captured from cutover.kv_capture c);
begin
    -- Not cutover.enter: a phase change holds writes back while it waits for exactly these deliveries. A state claimed
    -- just before a flip is still right after it, because a journal write of that memory finds it leased.
    select s.phase into v_phase from cutover.phase_state s where s.epoch = p_epoch;
    if not found then
        raise exception 'epoch % is over', p_epoch using errcode = 'CU001';
    elsif v_phase = 'A0' then
        return;
    end if;
    v_late := v_phase in ('A3', 'A4');
    if v_late then
        v_scans := cutover.legacy_scans();
    end if;
    if p_backfill then
        select array_agg(d.memory_id) into v_ids from (
            select m.memory_id from cutover.mark m where m.origin = 'backfill' and m.due_at <= now()
              and not (v_kv and cutover.kv_must_wait(m.memory_id))
            order by m.due_at limit p_limit for update skip locked) d;
    else
        select array_agg(d.memory_id) into v_ids from (
            select m.memory_id from cutover.mark m where m.origin <> 'backfill' and m.due_at <= now()
              and not (v_kv and cutover.kv_must_wait(m.memory_id))
            order by m.due_at limit p_limit for update skip locked) d;
    end if;
    if v_ids is null then
        perform cutover.note_own_scans(v_scans);
        return;
    end if;
    update cutover.mark m set
        lease_id = nextval('cutover.lease_seq'), lease_owner = p_owner, sent_at = now(), ambiguous = true,
        due_at = now() + make_interval(secs => p_quiet)
    where m.memory_id = any (v_ids);
    perform cutover.kv_quarantine(v_ids, v_late, v_kv);
    return query execute format($q$
        select 0,
               case when from_kv and kw.id is null then 'workspace_gone'
                    when from_kv then 'upsert'
                    when from_journal and (j.op = 'forget') then 'forget'
                    when from_journal then 'upsert'
                    when a.id is null then 'forget'
                    when a.workspace_id is null then 'no_workspace'
                    when w.id is null then 'workspace_gone'
                    else 'upsert' end,
               m.memory_id, m.rev, m.lease_id, j.seq,
               case when is_kv then 'workspace:' || k.workspace_id
                    when from_journal and j.native then j.namespace
                    when from_journal then coalesce(cutover.namespace_of(j.workspace_id, j.scope), j.namespace)
                    when a.scope = 'LOCAL' then 'workspace:' || w.id
                    when a.scope = 'TEAM' then 'team:' || coalesce(w.parent_id, w.id)
                    when a.scope = 'GLOBAL' then 'org:' || cutover.root_of(w.id) end,
               case when from_kv then k.workspace_id when from_journal then j.workspace_id else a.workspace_id end,
               case when from_kv then null when from_journal then j.scope else a.scope::text end,
               case when from_kv then null when from_journal then j.label else a.namespace::text end,
               case when from_kv then coalesce(v.value::text, 'null') when from_journal then j.content else a.content end,
               case when from_kv then 'checkpoint' when from_journal then j.kind else 'fact' end,
               case when from_kv then 'runtime' when from_journal then j.source else coalesce(e.source, 'agent') end,
               case when from_kv then cutover.sane(v.expires_at) when from_journal then j.expires_at end,
               case when from_kv then false when from_journal then j.pin else coalesce(e.pin, false) end,
               case when from_kv then null when from_journal then j.propagation else e.propagation end,
               case when from_kv then null when from_journal then translate(j.embedding::text, '{}', '[]')
                    else coalesce(%s, translate(e.embedding::text, '{}', '[]')) end,
               cutover.sane(case when from_kv then v.updated_at when from_journal then j.created_at else a.created_at end),
               cutover.sane(case when from_kv then v.updated_at when from_journal then j.updated_at else a.updated_at end),
               null::bytea, m.held_in, m.attempts, m.origin,
               case when from_kv then jsonb_build_object('key', v.key, 'version', v.version) end
        from cutover.mark m
        left join public.agent_memories a on a.id = m.memory_id
        left join public.workspaces w on w.id = a.workspace_id
        left join cutover.extra e on e.memory_id = m.memory_id
        left join cutover.kv k on $4 and k.memory_id = m.memory_id
        left join %s on v.workspace_id = k.workspace_id and v.key = k.key
        left join public.workspaces kw on kw.id = v.workspace_id
        left join lateral (
            select * from cutover.journal x
            where x.memory_id = m.memory_id and x.state in ('intent', 'applied') and (x.native or $2)
            order by x.seq desc limit 1) j on true
        -- A memory goes before a K/V row, and a row that has expired is as good as gone.
        cross join lateral (  -- offset 0: asked once per row, not once per column
            select k.memory_id is not null and not cutover.is_memory(m.memory_id, $2) as is_kv offset 0) i
        cross join lateral (
            select is_kv and v.key is not null and (v.expires_at is null or v.expires_at > clock_timestamp()) as from_kv) g
        cross join lateral (select j.seq is not null and ($2 or a.id is null) as from_journal) f
        where m.memory_id = any ($1) and m.lease_owner = $3
    $q$, case when cutover.legacy_embedding_type() is null then 'null::text' else 'a.embedding::text' end,
         case when v_kv then 'public.workspace_memory v'
              else '(select null::uuid as workspace_id, null::text as key, null::jsonb as value, null::bigint as version,
                            null::timestamptz as expires_at, null::timestamptz as updated_at limit 0) v' end)
    using v_ids, v_late, p_owner, v_kv;
    perform cutover.note_own_scans(v_scans);
end $$;
