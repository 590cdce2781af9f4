-- The control plane's own tables (architecture §3, §8). Everything cutover keeps lives in this schema and nowhere
-- else, so `retire` is one DROP SCHEMA. No column holds a secret; no table holds a vector.
create schema if not exists cutover;

-- One number per change of any memory, on either side. Compare-and-clear and incremental sweeps hang on it.
create sequence cutover.rev_seq;
-- One number per permission to send. A lease that was granted again has another number, so a late holder of the
-- old one can neither clear nor release what it no longer owns.
create sequence cutover.lease_seq;

create table cutover.phase_state (
    id         smallint primary key default 1 check (id = 1),
    phase      text not null check (phase in ('A0', 'A1', 'A2', 'A3', 'A4')),
    epoch      bigint not null check (epoch >= 1),
    generation integer not null default 0 check (generation >= 0),
    strays_pending boolean not null default false,
    entered_at timestamptz not null default now()
);
comment on table cutover.phase_state is 'The one phase row; changed by compare-and-set on epoch only.';
comment on column cutover.phase_state.generation is 'How many times A1 was entered; voids backfill cursors of earlier times.';
comment on column cutover.phase_state.strays_pending is 'A1 was entered, and the plugin has not been searched yet for what legacy lost meanwhile.';
insert into cutover.phase_state (phase, epoch) values ('A0', 1);

create table cutover.phase_event (
    seq           bigint generated always as identity primary key,
    epoch         bigint not null unique,
    from_phase    text,
    to_phase      text not null,
    actor         text not null check (actor <> '' and length(actor) <= 200),
    reason        text not null check (length(reason) <= 2000),
    at            timestamptz not null default clock_timestamp(),
    certificate   bytea unique,
    override      text check (override <> ''),
    loosened      text[] not null default '{}',
    approvers     text[],
    previous_hash bytea not null,
    hash          bytea not null,
    check (certificate is not null or (override is null and loosened = '{}' and approvers is null))
);
comment on table cutover.phase_event is 'Append-only and hash-chained: every change of phase, by whom and why.';
comment on column cutover.phase_event.certificate is 'No secret: the hash of the certificate that the step consumed (migration 011): each is consumed once. A way back has none.';
comment on column cutover.phase_event.override is 'Why the step was taken although its gate was closed; copied from the certificate.';
comment on column cutover.phase_event.approvers is 'No secret: names of ops tokens: who had approved the certificate when it was consumed.';
comment on column cutover.phase_event.loosened is 'No secret: the thresholds that asked for less than their defaults; copied from the certificate.';

create table cutover.mark (
    memory_id   uuid primary key,
    rev         bigint not null,
    held_in     text[] not null default '{}',
    due_at      timestamptz not null default now(),
    lease_id    bigint,
    lease_owner uuid,
    sent_at     timestamptz,
    ambiguous   boolean not null default false,
    attempts    integer not null default 0,
    last_error  text,
    origin      text not null check (origin in ('write', 'bypass', 'backfill', 'repair', 'reparent', 'truncate', 'purge', 'journal', 'kv')),
    writer      text not null default '',
    marked_at   timestamptz not null default now(),
    check (ambiguous = (lease_id is not null))
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
comment on table cutover.mark is 'A memory that must be (re-)delivered. Stores may differ only where there is one (architecture §3).';
comment on column cutover.mark.due_at is 'Nobody sends before this. While a request is, or may be, under way it lies T_z past its last moment.';
comment on column cutover.mark.ambiguous is 'A request was sent (or was about to be) and its outcome is not recorded: the plugin may still apply it.';
-- Live marks go before the backfill's, so two partial indexes rather than a sort.
create index mark_due_live on cutover.mark (due_at) where origin <> 'backfill';
create index mark_due_backfill on cutover.mark (due_at) where origin = 'backfill';

-- One row per mark that was cleared: this memory may have changed on either side since it was last looked at.
-- xid, not a sequence, says how far a reader has come: below the oldest running transaction nothing appears any more,
-- whereas a sequence number can become visible after a later one was read.
create table cutover.delivery_log (
    xid       xid8 not null default pg_current_xact_id(),
    memory_id uuid not null,
    origin    text not null,
    writer    text not null,
    at        timestamptz not null default clock_timestamp()
);
comment on table cutover.delivery_log is 'Cleared marks: what incremental sweeps look at, and who wrote what; pruned by age once swept.';
create index delivery_log_xid on cutover.delivery_log (xid);
create index delivery_log_memory on cutover.delivery_log (memory_id, xid);

create table cutover.tombstone (
    memory_id  uuid primary key,
    rev        bigint not null,
    held_in    text[] not null default '{}',
    deleted_at timestamptz not null default now()
);
comment on table cutover.tombstone is 'Acknowledged deletes; outlives soak, backfill and archive restore.';

create table cutover.quarantine (
    memory_id       uuid primary key,
    workspace_id    uuid,
    reason          text not null check (reason in ('no_workspace', 'workspace_gone', 'empty_content', 'refused_by_plugin', 'id_taken')),
    detail          text not null default '',
    rev             bigint not null,
    first_seen      timestamptz not null default now(),
    last_seen       timestamptz not null default now(),
    acknowledged_by text,
    acknowledged_at timestamptz,
    why             text,
    check ((acknowledged_by is null) = (acknowledged_at is null) and (acknowledged_by is null) = (why is null)),
    check (acknowledged_by <> '' and why <> '')
);
comment on table cutover.quarantine is 'What cannot be placed in the plugin, with its reason; never dropped (domain §4.12).';
comment on column cutover.quarantine.reason is 'id_taken speaks of a K/V row whose id a memory has; the memory itself is well.';

create table cutover.journal (
    seq          bigint generated always as identity primary key,
    memory_id    uuid not null,
    rev          bigint not null,
    epoch        bigint not null,
    op           text not null check (op in ('upsert', 'forget')),
    state        text not null check (state in ('intent', 'applied', 'withdrawn', 'replayed')),
    native       boolean not null,
    namespace    text not null,
    workspace_id uuid,
    scope        text check (scope in ('LOCAL', 'TEAM', 'GLOBAL')),
    label        text not null default 'general',
    content      text,
    kind         text check (kind in ('fact', 'summary', 'checkpoint')),
    source       text check (source in ('agent', 'runtime', 'user')),
    expires_at   timestamptz,
    pin          boolean not null default false,
    propagation  jsonb,
    embedding    real[],
    created_at   timestamptz,
    updated_at   timestamptz,
    writer       text not null default 'cutover',
    begun_at     timestamptz not null default clock_timestamp(),
    settled_at   timestamptz,
    replaced     jsonb,
    check ((op = 'upsert') = (content is not null)),
    -- What is to be replayed into legacy must have a place there.
    check (native or op = 'forget' or (scope is not null and workspace_id is not null))
);
comment on table cutover.journal is 'Intents of writes that legacy does not hold (all of A3; natives from A1): witness for sweeps, source for rollback.';
comment on column cutover.journal.native is 'Has no v1 form: left out of parity and of the replay into legacy.';
create index journal_memory on cutover.journal (memory_id, seq desc);
create index journal_workspace on cutover.journal (workspace_id);
create index journal_intent on cutover.journal (begun_at) where state = 'intent';

create table cutover.native (
    memory_id   uuid primary key,
    namespace   text not null,
    content     text not null,
    kind        text not null,
    source      text not null,
    expires_at  timestamptz,
    pin         boolean not null default false,
    propagation jsonb,
    created_at  timestamptz not null,
    content_tsv tsvector generated always as (to_tsvector('english', content)) stored
);
comment on table cutover.native is 'Plugin-only memories as acknowledged: what searches in A1 and A2 merge in.';
create index native_namespace on cutover.native (namespace);
create index native_content on cutover.native using gin (content_tsv);

create table cutover.extra (
    memory_id   uuid primary key,
    source      text not null default 'agent',
    pin         boolean not null default false,
    propagation jsonb,
    embedding   real[]
);
comment on table cutover.extra is 'What a contract client gave for a legacy-backed fact and agent_memories has no column for.';

create table cutover.namespace (
    name         text primary key check (length(name) <= 256),
    kind         text not null check (kind in ('workspace', 'team', 'org', 'custom')),
    expires_at   timestamptz,
    metadata     jsonb,
    created_at   timestamptz not null default now(),
    closed_until timestamptz,
    delete_may_land_until timestamptz
);
comment on table cutover.namespace is 'Namespace definitions clients have PUT, so that they can be put again exactly.';
comment on column cutover.namespace.closed_until is 'Writes are refused until then: the namespace is being emptied and deleted.';
comment on column cutover.namespace.delete_may_land_until is 'A bulk delete was sent and its outcome is not known: closed, and no second one is sent, until it cannot land any more.';

create table cutover.idempotency (
    memory_id   uuid primary key,
    fingerprint bytea not null check (length(fingerprint) = 32),
    created_at  timestamptz not null default now()
);
comment on table cutover.idempotency is 'Idempotency-Key creates: id is uuid5(workspace, key), fingerprint the sha256 of the body.';
create index idempotency_age on cutover.idempotency (created_at);

create table cutover.backfill_cursor (
    scope       text primary key,
    generation  integer not null,
    last_id     uuid,
    done        boolean not null default false,
    scanned     bigint not null default 0,
    marked      bigint not null default 0,
    copied      bigint not null default 0,
    total       bigint not null default 0,
    started_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
comment on table cutover.backfill_cursor is 'How far the backfill has come: rows up to last_id (or all, when done) are reached. scope is tenant or workspace:<id>.';

create table cutover.bypass_write (
    seq       bigint generated always as identity primary key,
    at        timestamptz not null default clock_timestamp(),
    writer    text not null,
    operation text not null
);
comment on table cutover.bypass_write is 'One row per write past the daemon; insert-only so that a foreign transaction never waits for another. Folded into bypass_writer.';
create table cutover.bypass_writer (
    writer     text not null,
    operation  text not null check (operation in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'CASCADE')),
    writes     bigint not null,
    first_seen timestamptz not null,
    last_seen  timestamptz not null,
    primary key (writer, operation)
);
comment on table cutover.bypass_writer is 'Writers of agent_memories other than the daemon, by application name and role.';
comment on column cutover.bypass_writer.operation is 'CASCADE: the foreign key of a deleted workspace did it. Its writer does not know the table, and works without it.';

create table cutover.task_run (
    id          uuid primary key default gen_random_uuid(),
    kind        text not null check (kind in ('sweep.count', 'sweep.digest', 'sweep.recall', 'verify', 'backfill', 'phase',
                                             'archive', 'rehearsal', 'drop', 'scream')),
    state       text not null check (state in ('running', 'finished', 'failed', 'interrupted')),
    requested_by text not null default 'schedule',
    parameters  jsonb not null default '{}',
    outcome     jsonb,
    started_at  timestamptz not null default now(),
    finished_at timestamptz
);
comment on table cutover.task_run is 'Every sweep, backfill and phase change, with what it came to.';
create index task_run_recent on cutover.task_run (kind, started_at desc);

create table cutover.task_checkpoint (
    seq    bigint generated always as identity primary key,
    run_id uuid not null,
    at     timestamptz not null default clock_timestamp(),
    data   jsonb not null
);
comment on table cutover.task_checkpoint is 'Append-only progress of a task run.';
comment on column cutover.task_checkpoint.run_id is 'A task_run: seen to by a trigger (migration 010), because a foreign key locks rows, which takes the right to update them.';
create index task_checkpoint_run on cutover.task_checkpoint (run_id, seq desc);

create function cutover.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'cutover.% is append-only: % is not allowed', tg_table_name, tg_op using errcode = 'CU002';
end $$;

-- Somebody answers for a memory as it was then. It is another one with every rev, whoever writes the row.
create function cutover.unacknowledge() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    new.acknowledged_by := null; new.acknowledged_at := null; new.why := null;
    return new;
end $$;
create trigger unacknowledge before update on cutover.quarantine
    for each row when (new.rev <> old.rev) execute function cutover.unacknowledge();

create trigger append_only before update or delete on cutover.phase_event
    for each row execute function cutover.refuse_change();
create trigger append_only_truncate before truncate on cutover.phase_event
    for each statement execute function cutover.refuse_change();
create trigger append_only before update or delete on cutover.task_checkpoint
    for each row execute function cutover.refuse_change();
create trigger append_only_truncate before truncate on cutover.task_checkpoint
    for each statement execute function cutover.refuse_change();
alter table cutover.phase_event enable always trigger append_only;
alter table cutover.phase_event enable always trigger append_only_truncate;
alter table cutover.task_checkpoint enable always trigger append_only;
alter table cutover.task_checkpoint enable always trigger append_only_truncate;
