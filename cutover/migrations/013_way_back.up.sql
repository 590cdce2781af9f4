-- The way back: rehearsals of it, the thaw after it; and the soak clock (architecture §6).

-- 1. A3 → A2: what was written since the cutover goes into legacy, exactly (decision 0021). Most of it goes ahead, in
-- chunks, while the tenant is still in A3: legacy is not asked there about a memory that the journal speaks of, so legacy
-- with the journal laid over it says the same before and after. Only what changed since goes while writes are held.
alter table cutover.journal add column in_legacy boolean not null default false;
comment on column cutover.journal.in_legacy is 'agent_memories says this already (or, for a native or a forget, holds nothing): nothing is left to replay.';
create index journal_unreplayed on cutover.journal (memory_id) where state in ('intent', 'applied') and not in_legacy;
create index journal_standing on cutover.journal (native, memory_id) where state in ('intent', 'applied');

-- A way back that is given up has changed the frozen table all the same: what was archived before is not all of it.
alter table cutover.phase_state add column legacy_changes bigint not null default 0;
comment on column cutover.phase_state.legacy_changes is 'How often the journal was written into agent_memories while the tenant was in A3: an archive from before does not hold every row.';

-- Put the newest word on each of these memories into legacy. p_final: while writes are held; else ahead of that, where
-- only a word that stands for good counts: an intent may still be withdrawn, and legacy must not have heard of it.
create function cutover.replay_words(p_ids uuid[], p_final boolean) returns table (upserted bigint, deleted bigint)
language plpgsql as $$
declare
    v_type text := cutover.legacy_embedding_type();
    v_word record;
begin
    perform cutover.write_as(null, 0, null);
    perform set_config('cutover.origin', 'replay', true);  -- the capture triggers take no notice, the freeze lets it pass
    -- A purge that is deleting one of these rows ends first, and what it journaled is seen below.
    perform from public.agent_memories a where a.id = any (p_ids) order by a.id for update;
    -- So does the purge of a workspace, or it waits: a row is not written into one that is going.
    perform from public.workspaces w
    where w.id in (select j.workspace_id from cutover.journal j
                   where j.memory_id = any (p_ids) and j.state in ('intent', 'applied') and not j.native)
    order by w.id for key share;
    create temporary table replay on commit drop as
        select distinct on (j.memory_id) j.* from cutover.journal j
        where j.memory_id = any (p_ids) and j.state in ('intent', 'applied') order by j.memory_id, j.seq desc;
    if p_final then
        -- The plugin may not have heard of these words, or be about to: they are delivered once more, as legacy has them.
        for v_word in select r.memory_id, array[r.namespace] as held from pg_temp.replay r where not r.native order by r.memory_id loop
            perform cutover.touch_mark(v_word.memory_id, v_word.held, 'write', 'cutover');
        end loop;
        -- A workspace that is gone took its memories along (its purge journaled that); this is for what slipped through.
        insert into cutover.quarantine as q (memory_id, workspace_id, reason, detail, rev)
        select r.memory_id, r.workspace_id, 'workspace_gone', 'at the replay of the journal', r.rev from pg_temp.replay r
        where not r.native and r.op = 'upsert' and not exists (select from public.workspaces w where w.id = r.workspace_id)
        on conflict (memory_id) do update set
            reason = excluded.reason, detail = excluded.detail, rev = excluded.rev, last_seen = now();
        update cutover.journal j set state = 'replayed' from pg_temp.replay r
        where j.memory_id = r.memory_id and j.state in ('intent', 'applied')
          and (not r.native or j.seq < r.seq);
    else
        delete from pg_temp.replay r where r.state <> 'applied';
        -- Older words have no say any more. (An older intent is left to whoever settles it.)
        update cutover.journal j set state = 'replayed' from pg_temp.replay r
        where j.memory_id = r.memory_id and j.state = 'applied' and j.seq < r.seq;
    end if;
    delete from pg_temp.replay r
    where not r.native and r.op = 'upsert' and not exists (select from public.workspaces w where w.id = r.workspace_id);
    select count(*) filter (where not r.native and r.op = 'upsert'), count(*) filter (where not r.native and r.op = 'forget')
    into upserted, deleted from pg_temp.replay r;
    -- A native has left legacy too, where legacy held an earlier form of it.
    delete from public.agent_memories a using pg_temp.replay r
    where a.id = r.memory_id and (r.op = 'forget' or r.native);
    -- Callers go on while this goes ahead: what was deleted after the words above were read stays deleted.
    delete from cutover.tombstone t using pg_temp.replay r
    where t.memory_id = r.memory_id and r.op = 'upsert' and t.rev < r.rev;
    insert into cutover.tombstone (memory_id, rev, held_in)
    select r.memory_id, r.rev, array_remove(array[nullif(r.namespace, '')], null) from pg_temp.replay r
    where r.op = 'forget' and not r.native order by r.memory_id
    on conflict (memory_id) do nothing;
    insert into public.agent_memories as a (id, workspace_id, content, scope, namespace, created_at, updated_at)
    select r.memory_id, r.workspace_id, r.content, r.scope, r.label, r.created_at, r.updated_at
    from pg_temp.replay r where not r.native and r.op = 'upsert' order by r.memory_id
    on conflict (id) do update set
        workspace_id = excluded.workspace_id, content = excluded.content, scope = excluded.scope,
        namespace = excluded.namespace,
        -- Unknown to the journal: never known, or one that only PostgreSQL can hold (cutover.sane). Either way it stays.
        created_at = coalesce(excluded.created_at, a.created_at),
        updated_at = coalesce(excluded.updated_at, a.updated_at);
    delete from cutover.extra e using pg_temp.replay r where e.memory_id = r.memory_id;
    insert into cutover.extra (memory_id, source, pin, propagation, embedding)
    select r.memory_id, coalesce(r.source, 'agent'), r.pin, r.propagation, case when v_type is null then r.embedding end
    from pg_temp.replay r where not r.native and r.op = 'upsert'
      and (r.source <> 'agent' or r.pin or r.propagation is not null or (v_type is null and r.embedding is not null));
    if v_type is not null then
        execute format(
            'update public.agent_memories a set embedding = translate(r.embedding::text, ''{}'', ''[]'')::%s
             from pg_temp.replay r where a.id = r.memory_id and not r.native and r.op = ''upsert''
               and (r.embedding is not null or a.embedding is not null)', v_type);
    end if;
    -- And what became a native since is one: locked first, so that the words below are read after any change of it.
    perform from cutover.native n where n.memory_id = any (p_ids) order by n.memory_id for update;
    delete from cutover.native n using pg_temp.replay r
    where n.memory_id = r.memory_id and not r.native
      and not exists (select from cutover.journal j
                      where j.memory_id = r.memory_id and j.seq > r.seq and j.native and j.state in ('intent', 'applied'));
    update cutover.journal j set in_legacy = true from pg_temp.replay r where j.seq = r.seq;
    drop table pg_temp.replay;
    return next;
end $$;

-- One chunk ahead of the way back, in A3, in id order. seen 0: there is no more behind p_after.
create function cutover.replay_ahead(p_epoch bigint, p_after uuid, p_limit integer)
returns table (seen integer, moved bigint, last_id uuid)
language plpgsql as $$
declare
    v_phase text := cutover.enter(p_epoch, array['A3']);
    v_ids   uuid[];
    v_words record;
begin
    v_ids := array(
        select distinct j.memory_id from cutover.journal j
        where j.state in ('intent', 'applied') and not j.in_legacy
          and j.memory_id > coalesce(p_after, '00000000-0000-0000-0000-000000000000')
        order by j.memory_id limit p_limit);
    seen := cardinality(v_ids);
    last_id := v_ids[seen];
    select * into v_words from cutover.replay_words(v_ids, false);
    moved := v_words.upserted + v_words.deleted;
    if v_words.upserted > 0 then
        update cutover.phase_state s set legacy_changes = s.legacy_changes + 1;
    end if;
    return next;
end $$;

-- What is left, while writes are held. `left_over`: how many memories that were.
create function cutover.replay_journal() returns table (left_over bigint, upserted bigint, deleted bigint)
language plpgsql as $$
declare
    v_ids uuid[] := array(
        select distinct j.memory_id from cutover.journal j
        where j.state in ('intent', 'applied') and not j.in_legacy order by j.memory_id);
begin
    left_over := cardinality(v_ids);
    select r.upserted, r.deleted into upserted, deleted from cutover.replay_words(v_ids, true) r;
    return next;
end $$;

-- After the way back: what went ahead still stands in the journal. It was said before legacy's last word, so it is put
-- aside, some at a time; 0: nothing left. In A3 nothing is.
create function cutover.silence_chunk(p_limit integer) returns integer
language plpgsql as $$
declare
    v_count integer;
begin
    perform pg_advisory_xact_lock_shared(cutover.phase_lock_key());
    update cutover.journal j set state = 'replayed'
    where j.seq in (select x.seq from cutover.journal x
                    where x.state in ('intent', 'applied') and not x.native limit p_limit)
      and (select s.phase from cutover.phase_state s) in ('A0', 'A1', 'A2');
    get diagnostics v_count = row_count;
    return v_count;
end $$;

-- A2 → A3: from here on the journal is asked before legacy. What it still says of memories that legacy holds was said
-- before legacy's last word (a native that became a fact, a foreign write that straddled an earlier rollback).
create function cutover.silence_journal() returns void
language sql as $$
    update cutover.journal j set state = 'replayed' where j.state in ('intent', 'applied') and not j.native;
    update cutover.journal j set state = 'replayed'
    where j.state in ('intent', 'applied') and j.native
      and exists (select from public.agent_memories a where a.id = j.memory_id)
$$;

-- What became of a stay in A3 that is over: memories by what legacy was told of them.
create function cutover.replayed(p_epoch bigint) returns table (upserted bigint, deleted bigint)
language sql stable as $$
    select count(*) filter (where w.op = 'upsert'), count(*) filter (where w.op = 'forget')
    from (select distinct on (j.memory_id) j.op, j.native from cutover.journal j
          where j.epoch = p_epoch and j.in_legacy order by j.memory_id, j.seq desc) w
    where not w.native
$$;

-- 2. The soak clock.

-- The soak clock's one row, of one stay in A3. Folded from sweeps by domain/soak_clock.py.
create table cutover.soak (
    id            smallint primary key default 1 check (id = 1),
    epoch         bigint not null,
    green_seconds double precision not null default 0 check (green_seconds >= 0),
    credited_to   timestamptz,
    count_since   timestamptz,
    count_until   timestamptz,
    digest_since  timestamptz,
    digest_until  timestamptz,
    full_since    timestamptz,
    full_until    timestamptz,
    resets        integer not null default 0,
    last_reset_at timestamptz,
    last_reset_why text not null default '',
    updated_at    timestamptz not null default clock_timestamp(),
    check ((count_since is null) = (count_until is null) and (digest_since is null) = (digest_until is null)
           and (full_since is null) = (full_until is null) and (last_reset_at is null) = (resets = 0))
);
comment on table cutover.soak is 'How long this stay in A3 has been green, by the database''s clock.';
comment on column cutover.soak.epoch is 'The epoch of the stay; in any other epoch this row says nothing.';
comment on column cutover.soak.credited_to is 'Whatever lies before this is settled, green or not.';
comment on column cutover.soak.count_since is 'Clean count sweeps followed each other from here to count_until; digest_ and full_ likewise.';

-- Sweeps that ended in A3 and that the clock has not heard of. Whoever moves the clock takes them away in the same
-- transaction: so each counts once, whatever daemon made it and however often daemons die.
create table cutover.soak_feed (
    seq     bigint generated always as identity primary key,
    run_id  uuid not null,
    epoch   bigint not null,
    kind    text not null check (kind in ('sweep.count', 'sweep.digest')),
    outcome jsonb not null,
    ended_at timestamptz not null
);
comment on column cutover.soak.last_reset_why is 'No secret: a sentence of the daemon''s.';
comment on table cutover.soak_feed is 'Sweeps of A3 that the soak clock has yet to take in; emptied by it.';

create table cutover.soak_event (
    seq    bigint generated always as identity primary key,
    epoch  bigint not null,
    event  text not null check (event in ('began', 'reset')),
    green_seconds double precision not null,
    why    text not null default '',
    run_id uuid,
    at     timestamptz not null default clock_timestamp()
);
comment on column cutover.soak_feed.outcome is 'No secret: as in task_run, where it was looked at.';
comment on column cutover.soak_event.why is 'No secret: a sentence of the daemon''s.';
comment on table cutover.soak_event is 'Append-only: when the soak clock began and when it went back to zero, from what and why.';
comment on column cutover.soak_event.green_seconds is 'What the clock had come to before.';
select cutover.make_append_only('cutover.soak_event');

-- The stay in which a run began, by number: a time would be wrong for a day when the clock was, as the phase was entered.
create function cutover.present_epoch() returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$ select s.epoch from cutover.phase_state s $$;
alter table cutover.task_run add column epoch bigint;
alter table cutover.task_run alter column epoch set default cutover.present_epoch();
comment on column cutover.task_run.epoch is 'The epoch in which it began; null: before this was recorded.';

-- A sweep counts for the stay in which it began and ended. The time is this database's, whatever the outcome says.
create function cutover.feed_soak() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into cutover.soak_feed (run_id, epoch, kind, outcome, ended_at)
    select new.id, s.epoch, new.kind, coalesce(new.outcome, '{}'), new.finished_at
    from cutover.phase_state s where s.phase = 'A3' and new.epoch = s.epoch;
    return null;
end $$;
create trigger feed_soak after update of state on cutover.task_run for each row
    when (old.state = 'running' and new.state <> 'running' and new.finished_at is not null
          and new.kind in ('sweep.count', 'sweep.digest'))
    execute function cutover.feed_soak();

-- 3. Rehearsals of the way back.
create table cutover.rehearsal (
    run_id        uuid primary key,
    ok            boolean not null,
    phase         text not null,
    began_at      timestamptz not null,
    ended_at      timestamptz not null default clock_timestamp(),
    seconds       double precision not null,
    held_seconds  double precision not null,
    rows          bigint not null,
    whole         boolean not null,
    words         bigint not null,
    invented      bigint not null,
    mismatches    bigint not null,
    why           text not null default '',
    check (ok = (why = ''))
);
comment on column cutover.rehearsal.phase is 'No secret: the phase that it was rehearsed in.';
comment on column cutover.rehearsal.why is 'No secret: one of the daemon''s sentences.';
comment on table cutover.rehearsal is 'Every rehearsal of the way back, on a copy, and what it came to.';
comment on column cutover.rehearsal.seconds is 'How long the replay took, all of it; held_seconds: the part for which writes would have been held.';
comment on column cutover.rehearsal.whole is 'All rows of agent_memories were copied; false: a part, as large as is allowed.';
comment on column cutover.rehearsal.words is 'Words of the journal that were replayed; invented: those that the rehearsal made up.';
comment on column cutover.rehearsal.mismatches is 'Rows that were not, in every column, what was expected.';
create index rehearsal_newest on cutover.rehearsal (ended_at desc);

-- 4. The thaw. Let everybody write again, where the way back is over: false when nothing thaws. Never in A3 or A4, whoever
-- flipped meanwhile: a change of phase waits for this, or is seen.
create function cutover.thaw(p_actor text) returns boolean
language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(cutover.phase_lock_key());
    if (select s.phase from cutover.phase_state s) in ('A3', 'A4')
       or not exists (select from cutover.freeze f where f.mode = 'thawing') then
        return false;
    end if;
    perform cutover.ease_freeze('open', p_actor);
    return true;
end $$;
