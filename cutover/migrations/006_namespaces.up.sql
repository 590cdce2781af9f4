-- Deleting a namespace (architecture §3): one mark per memory while legacy is the authority.

-- A0–A2. The plugin keeps an empty namespace, which nobody can see; its bulk delete could take a live write along.
create function cutover.delete_namespace(p_epoch bigint, p_name text, p_workspace uuid, p_scope text) returns boolean
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A0', 'A1', 'A2']);
    v_found boolean;
    v_gone  uuid[];
    n       record;
begin
    perform cutover.write_as(null, 0, null);
    delete from cutover.namespace x where x.name = p_name;
    v_found := found;
    if p_workspace is not null then
        with gone as (
            delete from public.agent_memories a
            where a.scope = p_scope and cutover.namespace_of(a.workspace_id, a.scope) = p_name
              and (p_scope = 'GLOBAL' or a.workspace_id = p_workspace
                   or a.workspace_id in (select w.id from public.workspaces w where w.parent_id = p_workspace))
            returning a.id
        ) select array_agg(g.id order by g.id) into v_gone from gone g;
        if v_phase = 'A0' then  -- no trigger does it
            perform cutover.bury(g.id, array[p_name]) from unnest(v_gone) as g (id);
        end if;
        v_found := v_found or v_gone is not null;
    end if;
    if v_phase <> 'A0' then
        for n in select x.memory_id, x.namespace from cutover.native x where x.namespace = p_name order by x.memory_id loop
            perform cutover.lock_memory(n.memory_id);
            insert into cutover.journal (memory_id, rev, epoch, op, state, native, namespace)
            values (n.memory_id, nextval('cutover.rev_seq'), p_epoch, 'forget', 'intent', true, p_name);
            perform cutover.touch_mark(n.memory_id, array[p_name], 'journal', 'cutover');
            perform cutover.bury(n.memory_id, array[p_name]);
            delete from cutover.native x where x.memory_id = n.memory_id;
            v_found := true;
        end loop;
    end if;
    return v_found;
end $$;

-- A3, A4. Writes into it are refused from here on; every memory known to be in it is forgotten one by one, so that
-- the journal knows what became of each. What is left for the bulk delete is what nobody but the plugin knows.
-- Gives known, unknown, or unresolved: an earlier bulk delete may still land, so nothing is sent.
create function cutover.close_namespace(p_epoch bigint, p_name text, p_seconds float8) returns text
language plpgsql as $$
declare
    v_phase     text := cutover.enter(p_epoch, array['A3', 'A4']);
    v_known     boolean;
    v_workspace uuid;
    v_scope     text := case split_part(p_name, ':', 1) when 'workspace' then 'LOCAL' when 'team' then 'TEAM' when 'org' then 'GLOBAL' end;
    m           record;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_name, 4208::bigint));
    if exists (select from cutover.namespace n where n.name = p_name and n.delete_may_land_until > clock_timestamp()) then
        return 'unresolved';
    end if;
    v_known := exists (select from cutover.namespace n where n.name = p_name);
    if v_scope is not null and split_part(p_name, ':', 2) ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        v_workspace := split_part(p_name, ':', 2)::uuid;
    end if;
    insert into cutover.namespace as n (name, kind, metadata, closed_until)
    values (p_name,
            case split_part(p_name, ':', 1) when 'workspace' then 'workspace' when 'team' then 'team' when 'org' then 'org' else 'custom' end,
            '{}', clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (name) do update set closed_until = excluded.closed_until;
    perform cutover.write_as(null, 0, null);
    for m in
        with newest as (
            select distinct on (j.memory_id) j.memory_id, j.op, j.native, j.namespace, j.workspace_id, j.scope, j.label
            from cutover.journal j where j.state in ('intent', 'applied') order by j.memory_id, j.seq desc
        )
        select n.memory_id, n.native, n.workspace_id, n.scope, n.label from newest n
        where n.op = 'upsert'
          and case when n.native then n.namespace else coalesce(cutover.namespace_of(n.workspace_id, n.scope), n.namespace) end = p_name
        union all
        select a.id, false, a.workspace_id, a.scope, a.namespace from public.agent_memories a
        where v_workspace is not null and a.scope = v_scope
          and (v_scope = 'GLOBAL' or a.workspace_id = v_workspace
               or a.workspace_id in (select w.id from public.workspaces w where w.parent_id = v_workspace))
          and cutover.namespace_of(a.workspace_id, a.scope) = p_name
          and not exists (select from newest n where n.memory_id = a.id)
        order by 1
    loop
        insert into cutover.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label)
        values (m.memory_id, nextval('cutover.rev_seq'), p_epoch, 'forget', 'intent', m.native, p_name, m.workspace_id, m.scope, m.label);
        perform cutover.touch_mark(m.memory_id, array[p_name], 'journal', 'cutover');
        perform cutover.bury(m.memory_id, array[p_name]);
        v_known := true;
    end loop;
    return case when v_known then 'known' else 'unknown' end;
end $$;

-- About to send the bulk delete: recorded first, so that a crash leaves the namespace closed for as long as it may land.
-- Refused where K/V rows have their memories: those are nobody's here to delete (decision 0014).
create function cutover.sending_namespace_delete(p_name text, p_seconds float8) returns boolean
language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended(p_name, 4208::bigint));
    update cutover.namespace n set delete_may_land_until = clock_timestamp() + make_interval(secs => p_seconds)
    where n.name = p_name and (n.delete_may_land_until is null or n.delete_may_land_until <= clock_timestamp())
      and not cutover.holds_kv(p_name);
    return found;
end $$;

-- The bulk delete ended for certain. Done: the namespace is no more. Not done: it is open again.
create function cutover.namespace_delete_ended(p_name text, p_done boolean) returns void
language plpgsql as $$
begin
    if p_done then
        delete from cutover.namespace n where n.name = p_name;
    else
        update cutover.namespace n set closed_until = null, delete_may_land_until = null where n.name = p_name;
    end if;
end $$;
