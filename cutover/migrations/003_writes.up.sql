-- The write path: one round trip per batch (architecture §3, step 2). Every function enters through cutover.enter,
-- which fences by epoch and holds the phase still until the transaction ends.

-- The key is any constant; advisory locks are per database, so each tenant has its own.
create function cutover.phase_lock_key() returns bigint language sql immutable as $$ select 7304916220481577217 $$;

-- Shared by writers, exclusive for a phase change: a change waits for the writes under way, and later ones see it.
-- p_phases: those in which the caller's way of writing is right. A request that was routed before a change and enters
-- after it may well know the new epoch, so the epoch alone does not fence it. The tree is held still as well, because
-- what enters here resolves namespaces. Locks are not waited for longer than a caller would wait for the answer.
create function cutover.enter(p_epoch bigint, p_phases text[]) returns text
language plpgsql as $$
declare
    v_phase text;
    v_epoch bigint;
begin
    perform set_config('lock_timeout', '800ms', true);
    perform pg_advisory_xact_lock_shared(cutover.phase_lock_key());
    select s.phase, s.epoch into v_phase, v_epoch from cutover.phase_state s;
    if v_epoch is distinct from p_epoch or not v_phase = any (p_phases) then
        raise exception 'epoch % is over, the tenant is in epoch % (%)', p_epoch, v_epoch, v_phase using errcode = 'CU001';
    end if;
    perform pg_advisory_xact_lock_shared(cutover.tree_lock_key());
    return v_phase;
end $$;

-- Which transaction of each session is the daemon's. The settings below are anybody's to set, this is not: other roles have
-- no rights in this schema. One row per session, written over: no transaction number ever comes twice.
create unlogged table cutover.own_transaction (
    pid integer primary key,
    xid xid8 not null
) with (fillfactor = 50);
comment on table cutover.own_transaction is 'The last transaction of each session in which the daemon wrote: what proves the setting cutover.origin.';

create function cutover.prove_own() returns void
language plpgsql as $$
begin
    if current_setting('cutover.own', true) is distinct from pg_current_xact_id()::text then
        insert into cutover.own_transaction as o (pid, xid) values (pg_backend_pid(), pg_current_xact_id())
        on conflict (pid) do update set xid = excluded.xid;
        perform set_config('cutover.own', pg_current_xact_id()::text, true);
    end if;
end $$;

-- Where this transaction comes from: what it says of itself, if it is proven; else null.
create function cutover.own_origin() returns text
language plpgsql stable as $$
declare
    v_origin text := nullif(current_setting('cutover.origin', true), '');
begin
    if v_origin is not null and exists (
        select from cutover.own_transaction o where o.pid = pg_backend_pid() and o.xid = pg_current_xact_id_if_assigned())
    then
        return v_origin;
    end if;
    return null;
end $$;

-- Tell the capture triggers that this transaction is the daemon's, and under whose lease it will send.
create function cutover.write_as(p_owner uuid, p_quiet float8, p_settled bigint) returns void
language plpgsql as $$
begin
    perform cutover.prove_own();
    perform set_config('cutover.origin', 'write', true),
            set_config('cutover.owner', coalesce(p_owner::text, ''), true),
            set_config('cutover.quiet', p_quiet::text, true),
            set_config('cutover.settled', coalesce(p_settled::text, ''), true),
            set_config('cutover.granted', '', true);
end $$;

create function cutover.legacy_embedding_type() returns text
language sql stable as $$
    select format('%I.%I', n.nspname, t.typname)
    from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
    where a.attrelid = to_regclass('public.agent_memories') and a.attname = 'embedding' and not a.attisdropped
$$;

create function cutover.set_embedding(p_id uuid, p_embedding text) returns void
language plpgsql as $$
declare
    v_type text := cutover.legacy_embedding_type();
begin
    if v_type is null then
        insert into cutover.extra as e (memory_id, embedding) values (p_id, translate(p_embedding, '[]', '{}')::real[])
        on conflict (memory_id) do update set embedding = excluded.embedding;
    else
        execute format('update public.agent_memories set embedding = $1::%s where id = $2', v_type) using p_embedding, p_id;
    end if;
end $$;

create function cutover.log_global(p_workspace uuid, p_type text, p_id uuid, p_label text, p_content text) returns void
language sql as $$
    insert into public.activity_logs (workspace_id, activity_type, source_id, method, summary, request_body, status)
    values (p_workspace, p_type, p_workspace, 'commit_memory',
            case p_type when 'memory_edit_global' then 'GLOBAL memory edited' else 'GLOBAL memory written' end,
            jsonb_build_object('memory_id', p_id, 'namespace', p_label,
                               'content_sha256', encode(sha256(convert_to(p_content, 'UTF8')), 'hex')), 'ok')
$$;

create type cutover.write_result as (
    ordinal     integer,
    status      text,
    memory_id   uuid,
    rev         bigint,
    lease_id    bigint,
    seq         bigint,
    namespace   text,
    workspace_id uuid,
    scope       text,
    label       text,
    content     text,
    kind        text,
    source      text,
    expires_at  timestamptz,
    pin         boolean,
    propagation jsonb,
    embedding   text,
    created_at  timestamptz,
    updated_at  timestamptz,
    fingerprint bytea,
    held_in     text[],
    attempts    integer,
    origin      text,
    kv          jsonb
);
comment on type cutover.write_result is 'What one write came to. status: ok, replay, exists, no_workspace, not_root, misplaced, missing, unchanged, busy, closed, native, conflict, kv; from claim_marks: upsert, forget, no_workspace, workspace_gone.';

-- Creates in A0–A2, a batch in one transaction. p_requested is the contract's namespace, or null for a v1 create.
create function cutover.create_memories(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_ids uuid[], p_workspaces uuid[], p_scopes text[],
    p_contents text[], p_labels text[], p_requested text[], p_embeddings text[], p_sources text[], p_pins boolean[],
    p_propagations text[], p_fingerprints bytea[]
) returns setof cutover.write_result
language plpgsql as $$
declare
    v_dual   boolean := cutover.enter(p_epoch, array['A0', 'A1', 'A2']) <> 'A0';
    r        cutover.write_result;
    v_parent uuid;
    v_known  boolean;
begin
    perform cutover.write_as(case when v_dual then p_owner end, p_quiet, null);
    -- One locked row must not hold its neighbours up: the batch gives up soon and its rows are tried one by one.
    perform set_config('lock_timeout', case when cardinality(p_ids) > 1 then '150ms' else '400ms' end, true);
    for i in 1..cardinality(p_ids) loop
        r := null;
        r.ordinal := i - 1; r.status := 'ok'; r.memory_id := p_ids[i]; r.workspace_id := p_workspaces[i]; r.scope := p_scopes[i]; r.label := p_labels[i];
        if p_fingerprints[i] is not null then
            select k.fingerprint into r.fingerprint from cutover.idempotency k where k.memory_id = p_ids[i];
            if found then
                r.status := 'replay';
                r.namespace := coalesce(p_requested[i], cutover.namespace_of(p_workspaces[i], p_scopes[i]));
                return next r;
                continue;
            end if;
        end if;
        select w.parent_id, true into v_parent, v_known from public.workspaces w where w.id = p_workspaces[i];
        if v_known is null then
            r.status := 'no_workspace';
        else
            r.namespace := case p_scopes[i]
                when 'LOCAL' then 'workspace:' || p_workspaces[i]
                when 'TEAM' then 'team:' || coalesce(v_parent, p_workspaces[i])
                else 'org:' || cutover.root_of(p_workspaces[i]) end;
            if p_requested[i] is not null and p_requested[i] <> r.namespace then
                r.status := 'misplaced';
            elsif p_requested[i] is null and p_scopes[i] = 'GLOBAL' and v_parent is not null then
                r.status := 'not_root';
            elsif exists (select from cutover.native n where n.memory_id = p_ids[i])
                  or exists (select from cutover.journal j where j.memory_id = p_ids[i] and j.state = 'intent') then
                r.status := 'exists';
            elsif v_dual and exists (select from cutover.kv k where k.memory_id = p_ids[i])
                  and not exists (select from public.agent_memories a where a.id = p_ids[i]) then
                r.status := 'kv';  -- workspace_memory holds it
            end if;
        end if;
        if r.status <> 'ok' then
            return next r;
            continue;
        end if;
        insert into public.agent_memories as a (id, workspace_id, content, scope, namespace)
        values (p_ids[i], p_workspaces[i], p_contents[i], p_scopes[i], p_labels[i])
        on conflict (id) do nothing
        returning a.created_at, a.updated_at into r.created_at, r.updated_at;
        if not found then
            r.status := 'exists';
            return next r;
            continue;
        end if;
        if p_sources[i] <> 'agent' or p_pins[i] or p_propagations[i] is not null then
            insert into cutover.extra (memory_id, source, pin, propagation)
            values (p_ids[i], p_sources[i], p_pins[i], p_propagations[i]::jsonb);
        end if;
        if p_embeddings[i] is not null then
            perform cutover.set_embedding(p_ids[i], p_embeddings[i]);
        end if;
        if p_fingerprints[i] is not null then
            insert into cutover.idempotency (memory_id, fingerprint) values (p_ids[i], p_fingerprints[i]);
        end if;
        if p_scopes[i] = 'GLOBAL' then
            perform cutover.log_global(p_workspaces[i], 'memory_write_global', p_ids[i], p_labels[i], p_contents[i]);
        end if;
        if v_dual then
            select m.rev, cutover.granted_lease(m.lease_id) into r.rev, r.lease_id
            from cutover.mark m where m.memory_id = p_ids[i];
        end if;
        return next r;
    end loop;
end $$;

-- Fill a result from the legacy row, its extras and its mark. lease_id only when the lease is ours to use.
create function cutover.legacy_result(p_id uuid) returns cutover.write_result
language plpgsql stable as $$
declare
    r cutover.write_result;
    v_embedding text;
begin
    if cutover.legacy_embedding_type() is not null then
        execute 'select embedding::text from public.agent_memories where id = $1' into v_embedding using p_id;
    end if;
    select 0, 'ok', p_id, m.rev, cutover.granted_lease(m.lease_id), null,
           cutover.namespace_of(a.workspace_id, a.scope), a.workspace_id, a.scope, a.namespace, a.content, 'fact',
           coalesce(e.source, 'agent'), null, coalesce(e.pin, false), e.propagation,
           coalesce(v_embedding, translate(e.embedding::text, '{}', '[]')), cutover.sane(a.created_at),
           cutover.sane(a.updated_at), null,
           coalesce(m.held_in, '{}'), m.attempts, m.origin, null
    into r
    from public.agent_memories a
    left join cutover.mark m on m.memory_id = a.id
    left join cutover.extra e on e.memory_id = a.id
    where a.id = p_id;
    return r;
end $$;

-- PATCH in A0–A2. The lease in the result is null when somebody else's request is, or may be, under way.
create function cutover.edit_memory(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_workspace uuid, p_content text, p_label text
) returns cutover.write_result
language plpgsql as $$
declare
    v_dual    boolean := cutover.enter(p_epoch, array['A0', 'A1', 'A2']) <> 'A0';
    v_row     record;
    v_content text;
    r         cutover.write_result;
begin
    select a.content, a.scope, a.namespace into v_row
    from public.agent_memories a where a.id = p_id and a.workspace_id = p_workspace for update;
    if not found then
        r.status := 'missing';
        return r;
    end if;
    v_content := case when v_row.scope = 'GLOBAL' then replace(p_content, '[MEMORY ', '[_MEMORY ') else p_content end;
    if coalesce(v_content, v_row.content) = v_row.content and coalesce(p_label, v_row.namespace) = v_row.namespace then
        r := cutover.legacy_result(p_id);
        r.status := 'unchanged';
        return r;
    end if;
    perform cutover.write_as(case when v_dual then p_owner end, p_quiet, p_settled);
    update public.agent_memories a
    set content = coalesce(v_content, a.content), namespace = coalesce(p_label, a.namespace), updated_at = now()
    where a.id = p_id;
    if v_content is not null and v_content <> v_row.content then
        -- The old vector describes the old words.
        if cutover.legacy_embedding_type() is not null then
            execute 'update public.agent_memories set embedding = null where id = $1 and embedding is not null' using p_id;
        else
            update cutover.extra e set embedding = null where e.memory_id = p_id and e.embedding is not null;
        end if;
        if v_row.scope = 'GLOBAL' then
            perform cutover.log_global(p_workspace, 'memory_edit_global', p_id, coalesce(p_label, v_row.namespace), v_content);
        end if;
    end if;
    return cutover.legacy_result(p_id);
end $$;

-- DELETE of v1 (p_workspace) or forget of the contract (p_namespace) in A0–A2, for memories that legacy holds.
create function cutover.delete_memory(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_workspace uuid, p_namespace text
) returns cutover.write_result
language plpgsql as $$
declare
    v_dual   boolean := cutover.enter(p_epoch, array['A0', 'A1', 'A2']) <> 'A0';
    r        cutover.write_result;
begin
    select 0, 'ok', p_id, cutover.namespace_of(a.workspace_id, a.scope), a.workspace_id, a.scope, a.namespace
    into r.ordinal, r.status, r.memory_id, r.namespace, r.workspace_id, r.scope, r.label
    from public.agent_memories a
    where a.id = p_id and (p_workspace is null or a.workspace_id = p_workspace) for update;
    if not found or (p_namespace is not null and r.namespace is distinct from p_namespace) then
        r := null;
        r.status := case when exists (select from cutover.native n where n.memory_id = p_id) then 'native'
                         when v_dual and cutover.is_kv_in(p_id, p_namespace) then 'kv' else 'missing' end;
        return r;
    end if;
    perform cutover.write_as(case when v_dual then p_owner end, p_quiet, p_settled);
    delete from public.agent_memories a where a.id = p_id;
    if v_dual then
        select m.rev, cutover.granted_lease(m.lease_id), m.held_in into r.rev, r.lease_id, r.held_in
        from cutover.mark m where m.memory_id = p_id;
    else
        perform cutover.bury(p_id, array[r.namespace]);  -- no trigger in A0, but the plugin may hold a copy from an earlier A1
    end if;
    return r;
end $$;

-- A contract commit in A0–A2 whose id exists already: everything is replaced, created_at is kept (domain §3).
-- 409 (conflict) when the memory is another workspace's; native when legacy does not hold the id.
create function cutover.replace_memory(
    p_epoch bigint, p_owner uuid, p_quiet float8, p_settled bigint, p_id uuid, p_namespace text, p_workspace uuid,
    p_scope text, p_content text, p_embedding text, p_source text, p_pin boolean, p_propagation text
) returns cutover.write_result
language plpgsql as $$
declare
    v_dual    boolean := cutover.enter(p_epoch, array['A0', 'A1', 'A2']) <> 'A0';
    v_row     record;
    v_held_at text;
    v_type    text := cutover.legacy_embedding_type();
    r         cutover.write_result;
begin
    select a.workspace_id, a.scope into v_row from public.agent_memories a where a.id = p_id for update;
    if not found then
        r.status := case when exists (select from cutover.native n where n.memory_id = p_id) then 'native' else 'missing' end;
        return r;
    end if;
    v_held_at := cutover.namespace_of(v_row.workspace_id, v_row.scope);
    if v_held_at is distinct from p_namespace then
        if v_row.workspace_id is distinct from p_workspace then
            r.status := 'conflict';
            return r;
        elsif cutover.namespace_of(p_workspace, p_scope) is distinct from p_namespace then
            r.status := 'misplaced';
            return r;
        end if;
    end if;
    perform cutover.write_as(case when v_dual then p_owner end, p_quiet, p_settled);
    delete from cutover.extra e where e.memory_id = p_id;
    if p_source <> 'agent' or p_pin or p_propagation is not null or (v_type is null and p_embedding is not null) then
        insert into cutover.extra (memory_id, source, pin, propagation, embedding)
        values (p_id, p_source, p_pin, p_propagation::jsonb,
                case when v_type is null then translate(p_embedding, '[]', '{}')::real[] end);
    end if;
    if v_type is not null then
        execute format('update public.agent_memories set embedding = $1::%s where id = $2 and (embedding is not null or $1 is not null)', v_type)
            using p_embedding, p_id;
    end if;
    update public.agent_memories a
    set content = p_content, scope = p_scope, updated_at = now(),
        workspace_id = case when v_held_at = p_namespace then a.workspace_id else p_workspace end
    where a.id = p_id;
    if p_scope = 'GLOBAL' then
        perform cutover.log_global(p_workspace, 'memory_edit_global', p_id, a.namespace, p_content)
        from public.agent_memories a where a.id = p_id;
    end if;
    return cutover.legacy_result(p_id);
end $$;

-- The outcome of deliveries, a batch in one transaction:
--   delivered    clears where memory, rev and lease all match, and else only gives the lease back, due at once;
--                journal rows up to p_seqs become applied
--   failed       gives the lease back with a delay, and counts as a try
--   unsent       gives it back with a delay
--   ambiguous    keeps it until T_z
--   quarantined  stores the reason, and clears like delivered; an intent among them may have been acknowledged, so it
--                counts as applied and its payload stays
-- Marks that somebody has locked (a foreign transaction that touched the same memory and is still open) are passed
-- over: null in the answer, to be told again later.
create function cutover.settle(
    p_ids uuid[], p_revs bigint[], p_leases bigint[], p_seqs bigint[], p_outcomes text[], p_delays float8[], p_notes text[]
) returns table (memory_id uuid, cleared boolean)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v_gone uuid[] := '{}';
    v_scans bigint;
begin
    -- Nothing here must survive a crash of the server: a clear that is lost leaves its mark, and the same state is
    -- delivered once more. So nobody waits for the disk.
    perform set_config('synchronous_commit', 'off', true);
    -- Nearly always everything was delivered, nothing changed meanwhile, and the journal is not concerned.
    if p_outcomes <@ array['delivered'] and array_remove(p_seqs, null) = '{}' then
        with locked as (
            select m.memory_id from cutover.mark m
            join unnest(p_ids, p_revs, p_leases) as t (id, rev, lease)
              on t.id = m.memory_id and t.rev = m.rev and t.lease = m.lease_id
            order by m.memory_id for update of m skip locked
        ), gone as (
            delete from cutover.mark m using locked l where m.memory_id = l.memory_id
            returning m.memory_id, m.origin, m.writer
        ), logged as (
            insert into cutover.delivery_log (memory_id, origin, writer)
            select g.memory_id, g.origin, g.writer from gone g
        ) select coalesce(array_agg(g.memory_id), '{}') into v_gone from gone g;
        if cardinality(v_gone) = cardinality(p_ids) then
            delete from cutover.quarantine q where q.memory_id = any (p_ids) and q.reason <> 'id_taken';
            perform cutover.kv_freed(p_ids);
            return query select t.id, true from unnest(p_ids) as t (id);
            return;
        end if;
    end if;
    v_scans := cutover.own_scans_from();
    return query
    with told as (
        select * from unnest(p_ids, p_revs, p_leases, p_seqs, p_outcomes, p_delays, p_notes)
            as t (id, rev, lease, seq, outcome, delay, note)
    ), locked as (
        -- In one order always, so that two daemons settling the same memories cannot dead-lock.
        select t.*, m.rev as now_rev
        from cutover.mark m join told t on t.id = m.memory_id and t.lease = m.lease_id
        order by m.memory_id for update of m skip locked
    ), gone as (
        delete from cutover.mark m using locked l
        where m.memory_id = l.id and l.outcome in ('delivered', 'quarantined') and l.rev = l.now_rev
        returning m.memory_id, m.origin, m.writer
    ), logged as (
        insert into cutover.delivery_log (memory_id, origin, writer) select g.memory_id, g.origin, g.writer from gone g
    ), released as (
        update cutover.mark m set
            lease_id = case when l.outcome = 'ambiguous' then m.lease_id end,
            lease_owner = case when l.outcome = 'ambiguous' then m.lease_owner end,
            ambiguous = l.outcome = 'ambiguous',
            due_at = case when l.outcome = 'ambiguous' then m.due_at else clock_timestamp() + make_interval(secs => l.delay) end,
            attempts = case when l.outcome in ('failed', 'ambiguous') then m.attempts + 1
                            when l.outcome = 'unsent' then m.attempts else 0 end,
            last_error = left(l.note, 300)
        from locked l
        where m.memory_id = l.id and not (l.outcome in ('delivered', 'quarantined') and l.rev = l.now_rev)
        returning m.memory_id
    ), jailed as (
        insert into cutover.quarantine as q (memory_id, workspace_id, reason, detail, rev)
        select l.id, coalesce(a.workspace_id, k.workspace_id), split_part(l.note, ':', 1), left(substr(l.note, length(split_part(l.note, ':', 1)) + 2), 500), l.rev
        from locked l left join public.agent_memories a on a.id = l.id left join cutover.kv k on k.memory_id = l.id
        where l.outcome = 'quarantined' and l.rev = l.now_rev
        on conflict on constraint quarantine_pkey do update set
            reason = excluded.reason, detail = excluded.detail, rev = excluded.rev, last_seen = now()
    ), freed as (
        delete from cutover.quarantine q using told t
        where q.memory_id = t.id and t.outcome = 'delivered' and q.reason <> 'id_taken'
    ), settled as (
        update cutover.journal j set state = 'applied', settled_at = clock_timestamp()
        from told t
        where t.outcome in ('delivered', 'quarantined') and j.memory_id = t.id and j.seq <= t.seq and j.state = 'intent'
        returning j.memory_id, j.seq
    )
    select t.id,
           case when t.id = any (v_gone) or exists (select from gone g where g.memory_id = t.id) then true
                when exists (select from released r where r.memory_id = t.id) then false
                when exists (select from cutover.mark m join told x on x.id = m.memory_id and x.lease = m.lease_id
                             where m.memory_id = t.id) then null
                else false end
    from told t
    left join settled s on s.memory_id = t.id
    group by t.id;
    perform cutover.note_own_scans(v_scans);
    perform cutover.kv_freed(p_ids);
    perform cutover.project_native(s.id, s.seq)
    from unnest(p_ids, p_seqs, p_outcomes) as s (id, seq, outcome) where s.outcome = 'delivered' and s.seq is not null;
end $$;

-- Bring cutover.native up to the journal row p_seq of a memory, if that is still the newest that counts.
create function cutover.project_native(p_id uuid, p_seq bigint) returns void
language plpgsql as $$
declare
    j cutover.journal;
begin
    select * into j from cutover.journal x
    where x.memory_id = p_id and x.state in ('intent', 'applied') order by x.seq desc limit 1;
    if not found or j.seq <> p_seq then
        return;
    end if;
    if j.op = 'upsert' and j.native then
        insert into cutover.native as n (memory_id, namespace, content, kind, source, expires_at, pin, propagation, created_at)
        values (j.memory_id, j.namespace, j.content, j.kind, j.source, j.expires_at, j.pin, j.propagation, j.created_at)
        on conflict (memory_id) do update set
            namespace = excluded.namespace, content = excluded.content, kind = excluded.kind, source = excluded.source,
            expires_at = excluded.expires_at, pin = excluded.pin, propagation = excluded.propagation;
    else
        delete from cutover.native n where n.memory_id = p_id;
    end if;
end $$;
