-- Who else reads agent_memories (architecture §6, the gate of A4; decision 0024). PostgreSQL counts scans of a table and
-- not their readers: so the daemon counts its own, and what is left over is somebody else's. Only in A3 and A4: before,
-- everybody reads the table and is meant to.

-- Our own scans. Sequences, because nothing else in PostgreSQL keeps a count that a rollback does not take back, and the
-- statistics count the scans of transactions that failed, too. Three digits to the base of 64, so that a large number
-- costs few calls. Unlogged, because a crash takes the statistics away with them.
create unlogged sequence cutover.own_scan as bigint minvalue 0 start with 1;
create unlogged sequence cutover.own_scan_x64 as bigint increment by 64 minvalue 0 start with 64;
create unlogged sequence cutover.own_scan_x4096 as bigint increment by 4096 minvalue 0 start with 4096;
-- Statements of the daemon on the table, begun and ended. One that never ended took its number with it.
create unlogged sequence cutover.own_work_begun as bigint;
create unlogged sequence cutover.own_work_ended as bigint;

create unlogged table cutover.access_watch (
    id          smallint primary key default 1 check (id = 1),
    epoch       bigint not null,
    relation    oid not null,
    stats_reset timestamptz,
    base_scans  bigint not null,
    base_own    bigint not null,
    last_scans  bigint not null,
    counted     bigint not null default 0,
    lost        bigint not null,
    set_aside   bigint not null default 0,
    last_own    bigint not null,
    quiet_since timestamptz not null,
    since       timestamptz not null,
    looked_at   timestamptz not null,
    why         text not null
) with (fillfactor = 50);
comment on table cutover.access_watch is 'Where watching the readers stands. Unlogged: what a crash of PostgreSQL takes from the statistics it takes from here.';
comment on column cutover.access_watch.base_scans is 'The statistics'' scans of the table and its indexes when watching began; base_own: our own by then.';
comment on column cutover.access_watch.counted is 'Scans of others since then: the most that any look found, because our own may be counted before the statistics show them.';
comment on column cutover.access_watch.lost is 'Own statements that began and will never end: their daemon died.';
comment on column cutover.access_watch.set_aside is 'Scans that came to light together with such a statement, and are put down to it.';
comment on column cutover.access_watch.quiet_since is 'Since when the daemon has not touched the table: by then the statistics know all that it did.';
comment on column cutover.access_watch.since is 'From when on nothing is missed, a few seconds after watching began.';
comment on column cutover.access_watch.why is 'No secret: what that began with, one of the daemon''s sentences.';

create table cutover.foreign_reader (
    reader     text primary key,
    scans      bigint not null default 0,
    sightings  bigint not null default 0,
    first_seen timestamptz not null,
    last_seen  timestamptz not null
);
comment on table cutover.foreign_reader is 'Readers of agent_memories in A3 and A4 other than the daemon, by application name and role; unnamed: counted, and not seen.';
comment on column cutover.foreign_reader.reader is 'No secret: application_name and role, or unnamed.';
comment on column cutover.foreign_reader.scans is 'Scans that the statistics counted while this one, and no other, was seen.';
comment on column cutover.foreign_reader.sightings is 'Looks at which a session of it held a lock on the table or an index of it.';

create function cutover.access_lock_key() returns bigint language sql immutable as $$ select 7304916220481577231::bigint $$;
create function cutover.own_work_lock_key() returns bigint language sql immutable as $$ select 7304916220481577232::bigint $$;

-- The table, also while it is kept under another name before it is dropped. (The name is put together here, because
-- functions that have it in their text are moved to the stand-in then.)
create function cutover.watched_relation() returns oid
language plpgsql stable as $$
declare
    v_named oid := to_regclass(format('%I.%I', 'public', 'agent_memories'));
begin
    return coalesce(v_named, (select c.oid from cutover.access_watch w join pg_class c on c.oid = w.relation));
end $$;

-- Scans of the table and its indexes by this session that the statistics do not have yet. Only a difference of two
-- values of one transaction means something.
create function cutover.legacy_scans() returns bigint
language plpgsql as $$
declare
    v_relation oid := cutover.watched_relation();
begin
    if v_relation is null then
        return 0;
    end if;
    return coalesce(pg_stat_get_xact_numscans(v_relation), 0) + (
        select coalesce(sum(pg_stat_get_xact_numscans(i.indexrelid)), 0) from pg_catalog.pg_index i where i.indrelid = v_relation);
end $$;

-- The same where it matters, else null.
create function cutover.own_scans_from() returns bigint
language plpgsql as $$
begin
    if (select s.phase in ('A3', 'A4') from cutover.phase_state s) then
        return cutover.legacy_scans();
    end if;
    return null;
end $$;

-- What this transaction has scanned since p_from was taken is our own. Never noted in advance: what does not come then
-- (a statement that fails) would hide a reader.
create function cutover.note_own_scans(p_from bigint) returns void
language plpgsql as $$
declare
    v_scans bigint;
begin
    if p_from is null then
        return;
    end if;
    v_scans := cutover.legacy_scans() - p_from;
    if v_scans <= 0 then
        return;
    end if;
    -- Told with this transaction's end, not up to ten seconds later: so the two counts differ for a moment only.
    perform pg_stat_force_next_flush();
    perform nextval('cutover.own_scan') from generate_series(1, v_scans % 64);
    if v_scans >= 64 then
        perform nextval('cutover.own_scan_x64') from generate_series(1, v_scans / 64 % 64);
        perform nextval('cutover.own_scan_x4096') from generate_series(1, v_scans / 4096);
    end if;
end $$;

-- Scans of agent_memories that the deletion of one workspace leads to: one for each foreign key.
create function cutover.foreign_key_scans() returns bigint
language sql stable as $$
    select count(*) from pg_catalog.pg_constraint c
    where c.contype = 'f' and c.confrelid = to_regclass('public.workspaces') and c.conrelid = cutover.watched_relation()
$$;

-- They were made just now, by the foreign keys' own triggers.
create function cutover.note_foreign_key_scans() returns void
language plpgsql as $$
begin
    perform cutover.note_own_scans(cutover.own_scans_from() - cutover.foreign_key_scans());
end $$;

-- Around a statement of the daemon's that reads the table: the lock says that somebody will call the second one.
create function cutover.begin_own_work() returns bigint
language plpgsql as $$
begin
    perform pg_advisory_lock_shared(cutover.own_work_lock_key());
    perform nextval('cutover.own_work_begun');
    return cutover.legacy_scans();
end $$;
create function cutover.end_own_work(p_from bigint) returns void
language plpgsql as $$
begin
    perform cutover.note_own_scans(p_from);
    perform nextval('cutover.own_work_ended');
    perform pg_advisory_unlock_shared(cutover.own_work_lock_key());
end $$;

create function cutover.sequence_count(p_sequence regclass) returns bigint language sql as $$
    select coalesce(pg_sequence_last_value(p_sequence), 0)
$$;

-- One look, made about once a second by one daemon. In A3 and A4 it sees who holds locks on the table and how many scans
-- are not our own; gives back how many of others are new, null where somebody else is just looking. p_settle: seconds before it counts, in which the statistics may
-- still get to know what was right to do before watching began.
create function cutover.watch_access(p_settle float8) returns table (new_scans bigint, seen text[])
language plpgsql as $$
declare
    v_now      timestamptz := clock_timestamp();
    v_state    cutover.phase_state;
    v_watch    cutover.access_watch;
    v_relation oid;
    v_reset    timestamptz;
    v_scans    bigint;
    v_own      bigint;
    v_lost     bigint;
    v_begun    bigint;
    v_excess   bigint;
    v_why      text;
begin
    new_scans := 0; seen := '{}';
    if not pg_try_advisory_xact_lock(cutover.access_lock_key()) then
        new_scans := null;
        return next;
        return;
    end if;
    select * into strict v_state from cutover.phase_state;
    v_relation := cutover.watched_relation();
    if v_state.phase not in ('A3', 'A4') or v_relation is null then
        delete from cutover.access_watch;
        return next;
        return;
    end if;
    select * into v_watch from cutover.access_watch;

    -- Who has it open. A workspace that is deleted or moved brings our own triggers and the foreign key along: such a
    -- session says nothing.
    with held as (
        select distinct l.pid from pg_locks l
        where l.locktype = 'relation' and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and (l.relation = v_relation or l.relation in (select i.indexrelid from pg_index i where i.indrelid = v_relation))
          and l.mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
          and not exists (select from pg_locks w where w.pid = l.pid and w.locktype = 'relation' and w.database = l.database
                          and w.relation = to_regclass('public.workspaces') and w.mode = 'RowExclusiveLock')
    ), sighted as (
        select distinct left(coalesce(nullif(a.application_name, ''), 'unnamed'), 64) || '/' || coalesce(a.usename, '?') as reader
        from held h join pg_stat_activity a on a.pid = h.pid
        where a.backend_type in ('client backend', 'parallel worker') and a.application_name !~ '^cutover(-|$)'
    ), kept as (
        insert into cutover.foreign_reader as r (reader, sightings, first_seen, last_seen)
        select s.reader, 1, v_now, v_now from sighted s order by s.reader
        on conflict (reader) do update set sightings = r.sightings + 1, last_seen = excluded.last_seen
        returning r.reader
    )
    select coalesce(array_agg(k.reader order by k.reader), '{}') into watch_access.seen from kept k;

    -- The statistics first and our own count after it: what is ours has been counted by then.
    v_begun := cutover.sequence_count('cutover.own_work_begun');
    v_scans := pg_stat_get_numscans(v_relation)
        + (select coalesce(sum(pg_stat_get_numscans(i.indexrelid)), 0) from pg_index i where i.indrelid = v_relation);
    v_reset := (select d.stats_reset from pg_stat_database d where d.datname = current_database());
    v_lost := v_begun - (
        select count(*) from pg_locks l
        where l.locktype = 'advisory' and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and l.objsubid = 1 and (l.classid::bigint << 32) | l.objid::bigint = cutover.own_work_lock_key());
    v_own := cutover.sequence_count('cutover.own_scan') + cutover.sequence_count('cutover.own_scan_x64')
        + cutover.sequence_count('cutover.own_scan_x4096');
    v_lost := v_lost - cutover.sequence_count('cutover.own_work_ended');

    if v_watch.id is null then
        v_why := 'the cutover, or a crash of PostgreSQL since';
    elsif v_watch.epoch <> v_state.epoch and not (v_state.phase = 'A4' and v_watch.epoch = v_state.epoch - 1) then
        v_why := 'another cutover';
    elsif v_watch.relation <> v_relation then
        v_why := 'the table was replaced';
    elsif v_watch.stats_reset is distinct from v_reset then
        v_why := 'the statistics were reset';
    elsif v_scans < v_watch.last_scans or v_own < v_watch.last_own then
        v_why := 'the statistics went back';
    end if;
    if v_why is not null then
        insert into cutover.access_watch
            (epoch, relation, stats_reset, base_scans, base_own, last_scans, lost, last_own, quiet_since, since, looked_at, why)
        values (v_state.epoch, v_relation, v_reset, v_scans, v_own, v_scans, v_lost, v_own, v_now,
                v_now + make_interval(secs => p_settle), v_now, v_why)
        on conflict (id) do update set
            epoch = excluded.epoch, relation = excluded.relation, stats_reset = excluded.stats_reset,
            base_scans = excluded.base_scans, base_own = excluded.base_own,
            last_scans = excluded.last_scans, counted = 0, lost = excluded.lost,
            last_own = excluded.last_own, quiet_since = excluded.quiet_since, since = excluded.since,
            looked_at = excluded.looked_at, why = excluded.why;
        return next;
        return;
    end if;

    v_excess := (v_scans - v_watch.base_scans) - (v_own - v_watch.base_own);
    if v_own <> v_watch.last_own or v_begun <> cutover.sequence_count('cutover.own_work_ended') + v_lost then
        v_watch.quiet_since := v_now;
    elsif v_excess < v_watch.counted and v_now - v_watch.quiet_since > interval '75 seconds' then
        -- The statistics know everything of ours by now (they are told within a minute): something was noted that did
        -- not come. It must not hide a reader for ever.
        v_watch.counted := v_excess;
    end if;
    if v_excess > v_watch.counted then
        if v_now < v_watch.since then
            null;
        elsif v_lost > v_watch.lost then
            v_watch.set_aside := v_watch.set_aside + v_excess - v_watch.counted;
        else
            new_scans := v_excess - v_watch.counted;
            insert into cutover.foreign_reader as r (reader, scans, first_seen, last_seen)
            select case when count(*) = 1 then min(s.reader) else 'unnamed' end, watch_access.new_scans, v_now, v_now
            from cutover.foreign_reader s where s.sightings > 0 and s.last_seen > v_now - interval '15 seconds'
            on conflict (reader) do update set scans = r.scans + excluded.scans, last_seen = excluded.last_seen;
        end if;
        v_watch.counted := v_excess;
    end if;
    update cutover.access_watch w set
        epoch = v_state.epoch, counted = v_watch.counted, lost = greatest(v_lost, w.lost), set_aside = v_watch.set_aside,
        last_scans = v_scans, last_own = v_own, quiet_since = v_watch.quiet_since, looked_at = v_now;
    return next;
end $$;

-- Capture is what the time without foreign writers is judged by: while one of its triggers was away, it says nothing.
create table cutover.capture_gap (
    id      smallint primary key default 1 check (id = 1),
    seen_at timestamptz not null,
    missing text[] not null
);
comment on table cutover.capture_gap is 'When capture was last seen with a trigger missing, disabled or not ours, and which.';
comment on column cutover.capture_gap.missing is 'No secret: names of triggers.';

-- Which capture triggers are not as they should be, now; noted when there are any. Nothing in A0. The table may have
-- another name, or be gone: then only the triggers of workspaces matter.
create function cutover.look_at_capture() returns text[]
language plpgsql as $$
declare
    v_table   text := cutover.legacy_relation();
    v_missing text[];
begin
    if (select s.phase = 'A0' from cutover.phase_state s) then
        return '{}';
    end if;
    select coalesce(array_agg(c.name order by c.name), '{}') into v_missing
    from cutover.capture_state() c
    where not c.intact and not (c.name in ('cutover_capture_row', 'cutover_capture_truncate') and (v_table is null or exists (
        select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
        where t.tgrelid = to_regclass(v_table) and t.tgname = c.name and t.tgenabled = 'A' and not t.tgisinternal
          and p.pronamespace = 'cutover'::regnamespace)));
    if v_missing <> '{}' then
        insert into cutover.capture_gap (seen_at, missing) values (clock_timestamp(), v_missing)
        on conflict (id) do update set seen_at = excluded.seen_at, missing = excluded.missing;
    end if;
    return v_missing;
end $$;
