-- The way back: rehearsals of it, the thaw after it; and the soak clock (architecture §6).

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
create trigger append_only before update or delete on cutover.soak_event
    for each row execute function cutover.refuse_change();
create trigger append_only_truncate before truncate on cutover.soak_event
    for each statement execute function cutover.refuse_change();
alter table cutover.soak_event enable always trigger append_only;
alter table cutover.soak_event enable always trigger append_only_truncate;

-- A sweep counts for the stay in which it began and ended. The time is this database's, whatever the outcome says.
create function cutover.feed_soak() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into cutover.soak_feed (run_id, epoch, kind, outcome, ended_at)
    select new.id, s.epoch, new.kind, coalesce(new.outcome, '{}'), new.finished_at
    from cutover.phase_state s where s.phase = 'A3' and new.started_at >= s.entered_at;
    return null;
end $$;
create trigger feed_soak after update of state on cutover.task_run for each row
    when (old.state = 'running' and new.state <> 'running' and new.finished_at is not null
          and new.kind in ('sweep.count', 'sweep.digest'))
    execute function cutover.feed_soak();
