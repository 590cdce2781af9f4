-- What digest sweeps keep: what was found, how far each bucket agreed, and the faults
-- that are planted so that a sweep can prove it would have seen real ones (architecture §4).

create table cutover.divergence (
    memory_id       uuid not null,
    class           text not null check (class in ('missing_in_plugin', 'missing_in_legacy', 'content', 'namespace',
                                                   'resurrected', 'embedding', 'created_at', 'provenance')),
    state           text not null check (state in ('suspect', 'confirmed', 'repaired', 'accepted')),
    source          text not null default 'memory' check (source in ('memory', 'native', 'kv')),
    namespace       text,
    namespace_kind  text not null check (namespace_kind in ('workspace', 'team', 'org', 'custom', 'none')),
    workspace_id    uuid,
    writer          text not null default 'unknown',
    first_run       uuid not null,
    last_run        uuid not null,
    first_seen      timestamptz not null default now(),
    last_seen       timestamptz not null default now(),
    looked_at       timestamptz not null default now(),
    snapshot        text not null,
    confirmed_at    timestamptz,
    onset_after     timestamptz,
    onset_before    timestamptz not null default now(),
    expected_hash   bytea,
    plugin_hash     bytea,
    expected_length integer,
    plugin_length   integer,
    accepted_by     text,
    accepted_at     timestamptz,
    why             text,
    repair_by       text,
    repair_at       timestamptz,
    closed_at       timestamptz,
    closed_by       text,
    primary key (memory_id, class),
    check ((state = 'accepted') = (accepted_by is not null and accepted_at is not null and why is not null)),
    check (state <> 'confirmed' or (confirmed_at is not null and closed_at is null)),
    check ((closed_at is null) = (closed_by is null)),
    -- Never content: a keyed hash under a salt that is kept nowhere.
    check (octet_length(expected_hash) = 32 and octet_length(plugin_hash) = 32)
);
comment on table cutover.divergence is 'Every memory that was found to differ, by class; hashes and lengths, never content.';
comment on column cutover.divergence.state is 'suspect: one look; confirmed: two looks T_z apart, nothing delivered in between; repaired: repaired, or gone by itself (closed_by says); accepted: somebody answers for it.';
comment on column cutover.divergence.onset_after is 'It still agreed then (the last look at its bucket, or its last delivery); null: never looked at before.';
create index divergence_open on cutover.divergence (state, class, memory_id) where closed_at is null;
create index divergence_open_memory on cutover.divergence (memory_id) where closed_at is null;

create table cutover.sweep_bucket (
    run_id        uuid not null,
    bucket        integer not null check (bucket between 0 and 4095),
    looked_at     timestamptz not null,
    expected_rows bigint not null,
    plugin_rows   bigint not null,
    differing     bigint not null,
    primary key (run_id, bucket)
);
comment on table cutover.sweep_bucket is 'Per full sweep and bucket (the first 12 bits of the id): when it was looked at and how many rows differed. Says when a divergence began.';
create index sweep_bucket_history on cutover.sweep_bucket (bucket, looked_at desc);

create table cutover.canary (
    memory_id  uuid primary key,
    fault      text not null check (fault in ('missing', 'changed', 'extra', 'resurrected', 'intact')),
    namespace  text not null,
    content    text not null,
    planted_at timestamptz not null default now(),
    planted_by uuid not null
);
comment on table cutover.canary is 'Faults planted on purpose, and intact rows between them: a sweep that does not report exactly these is not trusted.';

-- One name per likely cause: class × namespace kind × writer × the hour in which the sweep began that found it first.
-- Not the findings' own intervals: those of one cause differ, because each memory was last known to agree at a time
-- of its own. A sweep's findings are never torn apart by the turn of an hour.
create function cutover.finding_group(p_class text, p_namespace_kind text, p_writer text, p_hour timestamptz) returns text
language sql immutable as $$
    select left(encode(sha256(convert_to(jsonb_build_array(
        p_class, p_namespace_kind, p_writer, extract(epoch from p_hour))::text, 'UTF8')), 'hex'), 12)
$$;

create view cutover.finding as
select d.*, date_trunc('hour', coalesce(r.started_at, d.onset_before), 'UTC') as onset_hour
from cutover.divergence d left join cutover.task_run r on r.id = d.first_run;
comment on view cutover.finding is 'Divergences with the hour that groups them.';

-- The findings that match everything that is given; null: whatever it is.
create function cutover.findings(
    p_ids uuid[], p_states text[], p_classes text[], p_source text, p_namespace_kind text, p_workspace uuid,
    p_group text, p_closed boolean
) returns setof cutover.finding
language sql stable as $$
    select f.* from cutover.finding f
    where (p_closed or f.closed_at is null)
      and (p_ids is null or f.memory_id = any (p_ids))
      and (p_states is null or f.state = any (p_states))
      and (p_classes is null or f.class = any (p_classes))
      and (p_source is null or f.source = p_source)
      and (p_namespace_kind is null or f.namespace_kind = p_namespace_kind)
      and (p_workspace is null or f.workspace_id = p_workspace)
      -- A name is worked out per group, not per row: there are many more of these.
      and (p_group is null or (f.class, f.namespace_kind, f.writer, f.onset_hour) in (
          select g.class, g.namespace_kind, g.writer, g.onset_hour
          from (select distinct x.class, x.namespace_kind, x.writer, x.onset_hour from cutover.finding x) g
          where cutover.finding_group(g.class, g.namespace_kind, g.writer, g.onset_hour) = p_group))
$$;

-- Have memories delivered once more: their present state, whatever it is by then, under the same lease rules as any
-- other mark. p_held: where the plugin may hold each (null: nowhere but where it belongs), because a forget has to
-- know. Never for what nobody knows of: its state is "not there", and delivering that would delete it.
create function cutover.mark_for_repair(p_epoch bigint, p_ids uuid[], p_held text[]) returns integer
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A1', 'A2', 'A3', 'A4']);
    v_count integer;
begin
    with wanted as (
        select t.id, coalesce(array_agg(distinct t.held) filter (where t.held is not null), '{}') as held
        from unnest(p_ids, p_held) as t (id, held)
        where not exists (select from cutover.divergence d where d.memory_id = t.id
                          and d.class = 'missing_in_legacy' and d.closed_at is null)
        group by t.id
    ), marked as (
        insert into cutover.mark as m (memory_id, rev, held_in, origin, writer)
        select w.id, nextval('cutover.rev_seq'), w.held, 'repair', 'cutover' from wanted w order by w.id
        on conflict (memory_id) do update set
            rev = excluded.rev, held_in = m.held_in || excluded.held_in,
            origin = case when m.origin = 'backfill' then excluded.origin else m.origin end,
            -- A request is, or may be, under way: then not before T_z.
            attempts = 0, due_at = case when m.ambiguous then m.due_at else excluded.due_at end
        returning 1
    ) select count(*) into v_count from marked;
    return v_count;
end $$;

-- What the last verification found: the same as cutover.divergence, but of one run, in which whatever the backfill has
-- not copied counts as missing. No evidence for anything later, so it is emptied when the next one begins.
create table cutover.verify_finding (like cutover.divergence including all);
comment on table cutover.verify_finding is 'Mismatches of the last `backfill --verify`, by id and class; no content.';
