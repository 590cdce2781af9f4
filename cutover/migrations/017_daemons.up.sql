-- Who serves this tenant now: two daemons with different settings, or of different versions, are found by comparing.
create table cutover.daemon (
    id          uuid primary key,
    host        text not null check (length(host) <= 255 and not cutover.looks_secret(host)),
    pid         integer not null,
    version     text not null check (length(version) <= 64 and not cutover.looks_secret(version)),
    config_hash text not null check (config_hash ~ '^[0-9a-f]{12}$'),
    settings    jsonb not null check (not cutover.json_looks_secret(settings)),
    faces       jsonb not null check (not cutover.json_looks_secret(faces)),
    started_at  timestamptz not null default clock_timestamp(),
    last_seen   timestamptz not null default clock_timestamp()
);
comment on table cutover.daemon is 'The daemons that serve this tenant: each tells of itself every 10 s and takes its row away when it stops in good order. Rows of daemons that died go after an hour.';
comment on column cutover.daemon.id is 'Of the process, not of the machine: a daemon that starts again is another.';
comment on column cutover.daemon.host is 'The name that the machine or container gives itself.';
comment on column cutover.daemon.pid is 'The process id, on its host.';
comment on column cutover.daemon.version is 'Of the program.';
comment on column cutover.daemon.config_hash is 'No secret: the first 12 hex digits of the hash that certificates are bound to, over the settings in force for this tenant but what each daemon may have for itself.';
comment on column cutover.daemon.settings is 'What the hash is made of, by variable, to tell what differs. No secret: of a variable that may hold one there is only a fingerprint of its masked form.';
comment on column cutover.daemon.faces is 'Where each face listens. No secret: addresses only.';
comment on column cutover.daemon.started_at is 'When it first told of itself, by the database''s clock.';
comment on column cutover.daemon.last_seen is 'When it last did, by the database''s clock.';
