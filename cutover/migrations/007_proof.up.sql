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
    horizon         xid8 not null,
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
comment on column cutover.divergence.horizon is 'Deliveries of transactions from here on came after the look at looked_at.';
comment on column cutover.divergence.onset_after is 'It still agreed then (the last look at its bucket, or its last delivery); null: never looked at before.';
create index divergence_open on cutover.divergence (state, class, memory_id) where closed_at is null;

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
