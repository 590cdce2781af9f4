-- The set-based backfill (architecture §5, `--via database`): a chunk of agent_memories is written straight into the
-- built-in plugin's tables, in one transaction, where those tables are in this database. Why this is safe beside live
-- traffic is decision 0013; the order of the statements below is its proof, so change neither without the other.
-- Nothing in memory_plugin is named outside EXECUTE: the schema may come later than this migration, or never.

-- Definitions that changed while nothing was forwarded (A0): brought up to date once, before the first chunk. The
-- chunks themselves only add namespaces, so that they cannot undo a PUT that is on its way.
create function cutover.copy_namespaces(p_epoch bigint) returns bigint
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A2']);
    v_count bigint;
begin
    execute $q$
        update memory_plugin.memory_namespaces p
        set kind = n.kind, expires_at = n.expires_at, metadata = coalesce(n.metadata, '{}')
        from cutover.namespace n
        where n.name = p.name
          and (p.kind, p.expires_at, p.metadata) is distinct from (n.kind, n.expires_at, coalesce(n.metadata, '{}'))
    $q$;
    get diagnostics v_count = row_count;
    return v_count;
end $$;

create type cutover.copied_chunk as (
    scanned     integer,
    copied      integer,
    unchanged   integer,
    already     integer,
    quarantined integer,
    handed_over integer,
    done        boolean,
    blocked     boolean
);
comment on type cutover.copied_chunk is 'Rows of one chunk: copied or found equal; already: marked, the reconciler delivers them; handed_over: marked now, because the plugin itself must judge or somebody holds the row. blocked: the next row is held by a transaction that may also hold its mark.';

-- One chunk. The rows are locked, then looked at; whoever wants to change one waits for the end of this transaction and
-- marks it then. What carries a mark is somebody else's to deliver and is not touched.
create function cutover.copy_chunk(p_epoch bigint, p_scope text, p_workspace uuid, p_limit integer)
returns cutover.copied_chunk
language plpgsql as $$
declare
    v_phase    text := cutover.enter(p_epoch, array['A2']);
    v_cursor   cutover.backfill_cursor;
    v_ids      uuid[];
    v_locked   uuid[];
    v_aside    uuid[];
    v_taken    uuid[];
    v_marked   uuid[];
    v_snapshot pg_snapshot;
    v_last     uuid;
    v_id       uuid;
    v_placed   integer;
    v_found    integer;
    r          cutover.copied_chunk;
begin
    -- A chunk that a crash of the server loses takes its cursor along; nobody was told anything. So no wait for the disk.
    perform set_config('synchronous_commit', 'off', true);
    select * into strict v_cursor from cutover.backfill_cursor c where c.scope = p_scope for update;
    -- About a megabyte of content at most, because whoever wants one of the rows waits for all of them; at least one
    -- row. One more than may be taken is looked at: it tells whether anything is left.
    execute format($q$
        select coalesce(array_agg(d.id order by d.id) filter (where d.place <= $3 and (d.place = 1 or d.bytes <= 1000000)),
                        '{}'), count(*)
        from (select f.id, row_number() over w as place, sum(f.bytes) over w as bytes
              from (select a.id, octet_length(a.content) as bytes from public.agent_memories a where %s and %s
                    order by a.id limit $3 + 1) f
              window w as (order by f.id rows unbounded preceding)) d $q$,
        case when v_cursor.last_id is null then 'true' else 'a.id > $1' end,
        case when p_workspace is null then 'true' else 'a.workspace_id = $2' end)
    into v_ids, v_found using v_cursor.last_id, p_workspace, p_limit;
    r.done := cardinality(v_ids) = v_found; r.blocked := false;

    -- 1. Locks, in id order. A row that somebody holds is not waited for: it gets a mark. Where even that would have to
    -- wait (the holder has changed the row, so its mark is on its way too), the chunk ends before it.
    select coalesce(array_agg(l.id), '{}') into v_locked from (
        select a.id from public.agent_memories a where a.id = any (v_ids) order by a.id for no key update skip locked) l;
    perform set_config('lock_timeout', '20ms', true);
    r.handed_over := 0;
    if cardinality(v_locked) < cardinality(v_ids) then
        for v_id in
            select i.id from (select unnest(v_ids) except select unnest(v_locked)) as i (id)
            where not exists (select from cutover.mark m where m.memory_id = i.id)
            order by i.id
        loop
            begin
                insert into cutover.mark (memory_id, rev, origin, writer)
                values (v_id, nextval('cutover.rev_seq'), 'backfill', 'cutover') on conflict (memory_id) do nothing;
                r.handed_over := r.handed_over + 1;
            exception when lock_not_available then
                v_ids := array(select i.id from unnest(v_ids) as i (id) where i.id < v_id order by i.id);
                v_locked := array(select i.id from unnest(v_locked) as i (id) where i.id < v_id);
                r.done := false; r.blocked := true;
                exit;
            end;
        end loop;
    end if;
    perform set_config('lock_timeout', '400ms', true);
    r.scanned := cardinality(v_ids);
    v_last := v_ids[cardinality(v_ids)];

    -- 2. Our own marks that nobody has tried to deliver are taken over: no request for them is, or can be, under way.
    with free as (
        select m.memory_id from cutover.mark m join unnest(v_locked) as i (id) on i.id = m.memory_id
        where m.origin = 'backfill' and m.lease_id is null and m.attempts = 0
        order by m.memory_id for update of m skip locked
    ), gone as (
        delete from cutover.mark m using free f where m.memory_id = f.memory_id
        returning m.memory_id, m.origin, m.writer
    ), logged as (
        insert into cutover.delivery_log (memory_id, origin, writer) select g.memory_id, g.origin, g.writer from gone g
    ) select coalesce(array_agg(g.memory_id), '{}') into v_taken from gone g;

    -- 3. What is marked, in a snapshot later than the locks: an edit that we waited for, or passed, shows its mark here.
    select pg_current_snapshot(), coalesce(array_agg(m.memory_id), '{}') into v_snapshot, v_marked
    from cutover.mark m join unnest(v_locked) as i (id) on i.id = m.memory_id;
    if cardinality(v_marked) > 0 then
        v_locked := array(select unnest(v_locked) except select unnest(v_marked));
    end if;
    -- What the rules here do not cover goes the contract's way: the journal has a word on it, the plugin itself has
    -- refused it before, its vector is none of ours, or a K/V row wants the same id (its delivery quarantines the row).
    v_aside := array(
        select i.id from unnest(v_locked) as i (id)
        where exists (select from cutover.native n where n.memory_id = i.id)
           or exists (select from cutover.journal j where j.memory_id = i.id and j.state in ('intent', 'applied'))
           or exists (select from cutover.quarantine q where q.memory_id = i.id and q.reason = 'refused_by_plugin')
           or exists (select from cutover.extra e where e.memory_id = i.id and cardinality(e.embedding) <> 1536)
           or exists (select from cutover.kv k where k.memory_id = i.id));
    if cardinality(v_aside) > 0 then
        insert into cutover.mark (memory_id, rev, origin, writer)
        select i.id, nextval('cutover.rev_seq'), 'backfill', 'cutover' from unnest(v_aside) as i (id) order by i.id
        on conflict (memory_id) do nothing;
        v_locked := array(select unnest(v_locked) except select unnest(v_aside));
    end if;

    -- 4. The copy.
    execute cutover.copy_statement() into r.copied, v_placed, r.quarantined using v_locked;
    r.unchanged := v_placed - r.copied;

    -- 5. A second look. A mark can come without the row's lock (a workspace that appears above others, a repair), and
    -- may even have been delivered while we wrote what was true before it. Then it is delivered once more.
    insert into cutover.mark as m (memory_id, rev, origin, writer)
    select i.id, nextval('cutover.rev_seq'), 'backfill', 'cutover' from unnest(v_locked) as i (id)
    where exists (select from cutover.mark m where m.memory_id = i.id)
       or i.id in (select d.memory_id from cutover.delivery_log d
                   where d.xid >= pg_snapshot_xmin(v_snapshot) and not pg_visible_in_snapshot(d.xid, v_snapshot)
                     and d.xid <> pg_current_xact_id())
    order by i.id
    on conflict (memory_id) do update set rev = excluded.rev;

    r.handed_over := r.handed_over + cardinality(v_aside);
    r.already := r.scanned - v_placed - r.quarantined - r.handed_over;
    update cutover.backfill_cursor c set
        last_id = coalesce(v_last, c.last_id), done = r.done, scanned = c.scanned + r.scanned,
        marked = c.marked + r.handed_over, copied = c.copied + v_placed, updated_at = clock_timestamp()
    where c.scope = p_scope;
    return r;
end $$;

-- White space as the contract path counts it (Python's str.strip), whatever the database's collation thinks.
create function cutover.white_space() returns text
language sql immutable as $$
    select E'\t\n\x0b\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007'
            '\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
$$;

-- The statement that copies the rows $1, which are locked and unmarked: one row (written, placed, quarantined). Placed
-- rows that were there already, exactly so, are not written. An older copy of what cannot be placed goes. `propagation`
-- is what domain/propagation.pack makes; written out here, because a function costs more than the rest of the row.
create function cutover.copy_statement() returns text
language plpgsql stable as $f$
declare
    v_target text;  -- the type of memory_plugin.memory_records.embedding
    v_vector text;
    v_space  text := cutover.white_space();
begin
    select format('%I.%I', n.nspname, t.typname) into v_target
    from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace n on n.oid = t.typnamespace
    where a.attrelid = to_regclass('memory_plugin.memory_records') and a.attname = 'embedding' and not a.attisdropped;
    v_vector := case when cutover.legacy_embedding_type() is null then 'e.embedding::' || v_target
                     else format('coalesce(a.embedding::%s, e.embedding::%s)', v_target, v_target) end;
    return format($q$
        with source as materialized (
            select a.id, a.workspace_id, a.scope::text as scope, w.parent_id, a.content, t.created_at,
                   case when e.propagation is null or e.propagation = 'null' then jsonb_build_object('cutover', o.ours)
                        when jsonb_typeof(e.propagation) = 'object' and e.propagation <> '{}' and not e.propagation ? 'cutover'
                            then e.propagation || jsonb_build_object('cutover', o.ours)
                        else jsonb_build_object('cutover', o.ours || jsonb_build_object('opaque', e.propagation))
                   end as propagation,
                   coalesce(e.source, 'agent') as source, coalesce(e.pin, false) as pin, %1$s as embedding,
                   case when a.workspace_id is null then 'no_workspace'
                        when w.id is null then 'workspace_gone'
                        -- The first character tells nearly always.
                        when a.content = '' or strpos(%2$L, left(a.content, 1)) > 0 and btrim(a.content, %2$L) = ''
                            then 'empty_content' end as reason
            from public.agent_memories a
            left join public.workspaces w on w.id = a.workspace_id
            left join cutover.extra e on e.memory_id = a.id
            cross join lateral (select cutover.sane(a.created_at) as created_at, cutover.sane(a.updated_at) as updated_at) t
            cross join lateral (select jsonb_build_object(
                'workspace_id', a.workspace_id, 'scope', a.scope, 'namespace', a.namespace,
                'created_at', to_char(t.created_at at time zone 'UTC', %3$L),
                'updated_at', to_char(t.updated_at at time zone 'UTC', %3$L)) as ours) o
            where a.id = any ($1)
        ), root as materialized (
            select g.workspace_id, cutover.root_of(g.workspace_id) as id
            from (select distinct s.workspace_id from source s where s.reason is null and s.scope = 'GLOBAL') g
        ), placed as (
            select s.*,
                   case s.scope when 'LOCAL' then 'workspace:' || s.workspace_id
                                when 'TEAM' then 'team:' || coalesce(s.parent_id, s.workspace_id)
                                else 'org:' || o.id end as namespace
            from source s left join root o on o.workspace_id = s.workspace_id and s.scope = 'GLOBAL'
            where s.reason is null
        ), spaces as (
            insert into memory_plugin.memory_namespaces (name, kind, expires_at, metadata)
            select p.namespace, coalesce(n.kind, split_part(p.namespace, ':', 1)), n.expires_at, coalesce(n.metadata, '{}')
            from (select distinct namespace from placed) p left join cutover.namespace n on n.name = p.namespace
            order by p.namespace
            on conflict (name) do nothing
        ), written as (
            insert into memory_plugin.memory_records as r
                (id, namespace, content, kind, source, expires_at, propagation, pin, embedding, created_at)
            select p.id, p.namespace, p.content, 'fact', p.source, null, p.propagation, p.pin, p.embedding,
                   -- Unknown to legacy: the plugin's own first commit gives the time, and keeps it.
                   coalesce(p.created_at,
                            case when p.created_at is null
                                 then (select x.created_at from memory_plugin.memory_records x where x.id = p.id) end,
                            now())
            from placed p order by p.id
            on conflict (id) do update set
                namespace = excluded.namespace, content = excluded.content, kind = excluded.kind,
                source = excluded.source, expires_at = excluded.expires_at, propagation = excluded.propagation,
                pin = excluded.pin, embedding = excluded.embedding, created_at = excluded.created_at
            where (r.namespace, r.content, r.kind, r.source, r.expires_at, r.propagation, r.pin, r.created_at)
                  is distinct from
                  (excluded.namespace, excluded.content, excluded.kind, excluded.source, excluded.expires_at,
                   excluded.propagation, excluded.pin, excluded.created_at)
               -- As bytes: the operators of the vector type may lie outside the search path.
               or row(r.embedding)::record *<> row(excluded.embedding)::record
            returning 1
        ), jailed as (
            insert into cutover.quarantine as q (memory_id, workspace_id, reason, rev)
            select s.id, s.workspace_id, s.reason, nextval('cutover.rev_seq') from source s
            where s.reason is not null order by s.id
            on conflict (memory_id) do update set
                workspace_id = excluded.workspace_id, reason = excluded.reason, detail = '', rev = excluded.rev, last_seen = now()
            returning q.memory_id
        ), forgotten as (
            delete from memory_plugin.memory_records r using source s where r.id = s.id and s.reason is not null
        ), freed as (
            delete from cutover.quarantine q using placed p where q.memory_id = p.id
        )
        select (select count(*) from written), (select count(*) from placed), (select count(*) from jailed)
    $q$, v_vector, v_space, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
end $f$;
