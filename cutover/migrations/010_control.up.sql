-- The control plane's own record (architecture §8): procedures, what may never change, and what no text may hold.

-- Does a text hold something that looks like a secret? The shapes are those of domain/redaction.py, told so that every
-- match here is one of redact_note() there: what was redacted is never refused, so no write is lost. Each pattern is
-- one pass of PostgreSQL's automaton (no captures, no back references), therefore linear. What is between markers is
-- looked at by itself, as there.
create function cutover.looks_secret(p_text text) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select p_text is not null and exists (
        select from (select regexp_replace(p_text, '\[REDACTED:[A-Z0-9_]+\]', chr(1), 'g')) as t (shown)
        where t.shown ~ '(?i)[a-z0-9_]_(api_key|token|secret)[ \t]*=+[ \t]*["'']?[a-z0-9_]'
           or t.shown ~ 'Bearer[ \t]+[A-Za-z0-9_.~+/=-]'
           or t.shown ~ '(?i)bearer[ \t]+[a-z0-9_.~+/=-]{16}'
           or t.shown ~ '-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----[^\x01]*-----END ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----'
           or t.shown ~ '(?i)(postgres|postgresql|mysql|mongodb|redis|rediss|amqp|amqps)([+][a-z0-9_]+)?://[a-z0-9_.%-]*:[a-z0-9_.%!$&*+,;=:/?#~-]+@'
           or t.shown ~ '(^|[^A-Za-z0-9])(gh[posur]_|github_pat_|vc_|sk-)[A-Za-z0-9_-]{16}'
           or t.shown ~ '(^|[^A-Za-z0-9])(pplx-[A-Za-z0-9_-]{20}|ctx7_[A-Za-z0-9_-]|AKIA[0-9A-Z]{16})'
           -- Digests are lower case and paths have slashes: neither is called a blob.
           or exists (select from regexp_matches(t.shown, '[A-Za-z0-9+]{40,}', 'g') as m (run)
                      where m.run[1] ~ '[a-z]' and m.run[1] ~ '[A-Z]' and m.run[1] ~ '[0-9]'))
$$;
comment on function cutover.looks_secret(text) is 'For check constraints: refuses secret-shaped values (architecture §8).';

-- The same for every string in a JSON value, keys too. Not for the JSON as one text: its punctuation would join them.
create function cutover.json_looks_secret(p_json jsonb) returns boolean
language sql immutable parallel safe set search_path = pg_catalog, pg_temp as $$
    select p_json is not null and (
        exists (select from jsonb_path_query(p_json, 'strict $.**') as v (found)
                where jsonb_typeof(v.found) = 'string' and cutover.looks_secret(v.found #>> '{}'))
        or exists (select from jsonb_path_query(p_json, 'strict $.** ? (@.type() == "object").keyvalue().key') as k (found)
                   where cutover.looks_secret(k.found #>> '{}')))
$$;
comment on function cutover.json_looks_secret(jsonb) is 'As looks_secret, for every string and every key.';

alter table cutover.phase_event
    add constraint phase_event_no_secret check (not cutover.looks_secret(actor) and not cutover.looks_secret(reason));
alter table cutover.quarantine
    add constraint quarantine_no_secret check (not cutover.looks_secret(detail) and not cutover.looks_secret(why)
                                               and not cutover.looks_secret(acknowledged_by));
alter table cutover.divergence
    add constraint divergence_no_secret check (not cutover.looks_secret(why) and not cutover.looks_secret(accepted_by)
                                               and not cutover.looks_secret(repair_by) and not cutover.looks_secret(closed_by));
alter table cutover.verify_finding
    add constraint verify_finding_no_secret check (not cutover.looks_secret(why) and not cutover.looks_secret(accepted_by)
                                                   and not cutover.looks_secret(repair_by) and not cutover.looks_secret(closed_by));
alter table cutover.task_run
    add constraint task_run_no_secret check (not cutover.looks_secret(requested_by)
                                             and not cutover.json_looks_secret(parameters)
                                             and not cutover.json_looks_secret(outcome));
alter table cutover.task_checkpoint
    add constraint task_checkpoint_no_secret check (not cutover.json_looks_secret(data));

-- Rows of this table are written once. Refused by trigger for everybody, the owner, a superuser and a replication
-- session included, and before that by taking the right away from everybody who can be without it. A table like this
-- is not to be referenced by a foreign key, nor to reference rows that go: PostgreSQL would lock its rows for the check,
-- and that takes the right to update them.
create function cutover.make_append_only(p_table regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    v_role text;
begin
    execute format('drop trigger if exists append_only on %s', p_table);
    execute format('drop trigger if exists append_only_truncate on %s', p_table);
    execute format('create trigger append_only before update or delete on %s
                    for each row execute function cutover.refuse_change()', p_table);
    execute format('create trigger append_only_truncate before truncate on %s
                    for each statement execute function cutover.refuse_change()', p_table);
    execute format('alter table %s enable always trigger append_only', p_table);
    execute format('alter table %s enable always trigger append_only_truncate', p_table);
    for v_role in
        select 'public' union select quote_ident(pg_get_userbyid(c.relowner)) from pg_class c where c.oid = p_table
        union select quote_ident(pg_get_userbyid(g.grantee)) from pg_class c, aclexplode(c.relacl) g
        where c.oid = p_table and g.grantee <> 0
    loop
        execute format('revoke update, delete, truncate on %s from %s', p_table, v_role);
    end loop;
end $$;
comment on function cutover.make_append_only(regclass) is 'UPDATE, DELETE and TRUNCATE of a table are refused from now on.';

create type cutover.checkpoint_kind as enum ('progress', 'control', 'step', 'done');
comment on type cutover.checkpoint_kind is 'progress: how far it has come; control: what an operator did to it; step: a step that is about to be taken; done: that it was taken.';
alter table cutover.task_checkpoint add column kind cutover.checkpoint_kind not null default 'progress';

-- What a foreign key would see to (make_append_only says why there is none).
create function cutover.known_run() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform from cutover.task_run r where r.id = new.run_id for key share;
    if not found then
        raise exception 'there is no run %', new.run_id using errcode = 'foreign_key_violation', table = 'task_checkpoint';
    end if;
    return new;
end $$;
create trigger known_run before insert on cutover.task_checkpoint for each row execute function cutover.known_run();

create table cutover.memory_procedure (
    name       text primary key check (name ~ '^[a-z0-9-]{1,60}$'),
    title      text not null check (not cutover.looks_secret(title)),
    version_id bigint,
    package    text check (package ~ '^[0-9A-Za-z.+!-]{1,60}$'),
    changed_at timestamptz not null default clock_timestamp()
);
comment on table cutover.memory_procedure is 'The operators'' runbooks by name, each with the version that is in force.';
comment on column cutover.memory_procedure.package is 'No secret: the release whose daemon put that version in force. An older one does not undo it.';
comment on column cutover.memory_procedure.version_id is 'The memory_procedure_version in force; null only while the first one is being put down. No foreign key: versions are append-only.';

create table cutover.memory_procedure_version (
    id           bigint generated always as identity primary key,
    name         text not null references cutover.memory_procedure (name),
    number       integer not null check (number >= 1),
    content_hash bytea not null check (length(content_hash) = 32),
    body         text not null check (not cutover.looks_secret(body)),
    package      text not null check (package ~ '^[0-9A-Za-z.+!-]{1,60}$'),
    at           timestamptz not null default clock_timestamp(),
    unique (name, number),
    unique (name, content_hash)
);
comment on table cutover.memory_procedure_version is 'Append-only: every text of a runbook that a daemon of this tenant came with.';
comment on column cutover.memory_procedure_version.content_hash is 'sha256 of the body, no secret: what makes it another version.';

create table cutover.memory_procedure_event (
    seq         bigint generated always as identity primary key,
    name        text not null,
    what        text not null check (what in ('added', 'adopted', 'kept')),
    version_id  bigint not null,
    previous_id bigint,
    package     text not null check (package ~ '^[0-9A-Za-z.+!-]{1,60}$'),
    at          timestamptz not null default clock_timestamp()
);
comment on table cutover.memory_procedure_event is 'Append-only: how the runbook in force has changed, and when an older release came with another one.';
comment on column cutover.memory_procedure_event.name is 'No secret: a memory_procedure.';
comment on column cutover.memory_procedure_event.what is 'added: the first text; adopted: this version is in force from here on; kept: an older release offered this version, and the one in force stayed.';

alter table cutover.task_run add column procedure_version bigint;
comment on column cutover.task_run.procedure_version is 'The memory_procedure_version that the daemon which began it came with; null: begun before it was seeded.';

select cutover.make_append_only(t) from unnest(array[
    'cutover.phase_event', 'cutover.task_checkpoint', 'cutover.memory_procedure_version',
    'cutover.memory_procedure_event']::regclass[]) as t;

-- What the other texts hold, so that nobody has to guess where a secret could hide (a test reads these). On the hot path
-- nothing is checked by constraint: content is redacted before it gets there, names are PostgreSQL's or our own.
do $$
declare
    v_one text[];
begin
    foreach v_one slice 1 in array array[
        ['migration.name', 'No secret: from the file''s name.'],
        ['migration.checksum', 'No secret: sha256 of the file, hexadecimal.'],
        ['phase_event.from_phase', 'No secret: a phase.'],
        ['phase_event.to_phase', 'No secret: a phase.'],
        ['phase_event.previous_hash', 'No secret: the hash of the event before it; empty for the first.'],
        ['phase_event.hash', 'No secret: sha256 over every other column of the event.'],
        ['mark.last_error', 'No secret: a status and the plugin''s own code, redacted.'],
        ['mark.writer', 'No secret: application_name and role of whoever wrote, or cutover.'],
        ['mark.held_in', 'No secret: names of namespaces in which the plugin may still hold the memory: where a forget has to look.'],
        ['journal.replaced', 'Content: the legacy row (and its extras) that a native took the place of: comes back if the intent is withdrawn.'],
        ['divergence.snapshot', 'No secret: the snapshot of the look at looked_at: a delivery it did not see came after it.'],
        ['verify_finding.snapshot', 'No secret: as in divergence.'],
        ['delivery_log.origin', 'No secret: the mark''s.'],
        ['delivery_log.writer', 'No secret: the mark''s.'],
        ['tombstone.held_in', 'No secret: names of namespaces.'],
        ['journal.namespace', 'No secret: the name of a namespace.'],
        ['journal.label', 'No secret: v1''s label of a memory.'],
        ['journal.content', 'Content, redacted by the write path.'],
        ['journal.propagation', 'Content, from the contract''s client.'],
        ['journal.writer', 'No secret: application_name and role of whoever wrote, or cutover.'],
        ['native.namespace', 'No secret: the name of a namespace.'],
        ['native.content', 'Content, redacted by the write path.'],
        ['native.kind', 'No secret: one of the contract''s words.'],
        ['native.source', 'No secret: one of the contract''s words.'],
        ['native.propagation', 'Content, from the contract''s client.'],
        ['extra.source', 'No secret: one of the contract''s words.'],
        ['extra.propagation', 'Content, from the contract''s client.'],
        ['namespace.name', 'No secret: the name of a namespace.'],
        ['namespace.metadata', 'Content, from the contract''s client.'],
        ['idempotency.fingerprint', 'No secret: sha256 of a request''s body.'],
        ['backfill_cursor.scope', 'No secret: tenant, kv or workspace:<id>.'],
        ['backfill_cursor.last_key', 'No secret: a key of workspace_memory; its value is never here.'],
        ['bypass_write.writer', 'No secret: application_name and role. Never refused: it is written in a stranger''s transaction.'],
        ['bypass_write.operation', 'No secret: the SQL verb.'],
        ['bypass_writer.writer', 'No secret: application_name and role.'],
        ['canary.namespace', 'No secret: the reserved namespace.'],
        ['canary.content', 'No secret: made up by the daemon.'],
        ['kv.key', 'No secret: a key of workspace_memory; its value is never here.'],
        ['memory_procedure.name', 'No secret: the name of a packaged file.'],
        ['memory_procedure_version.name', 'No secret: a memory_procedure.'],
        ['memory_procedure_version.package', 'No secret: the release of cutover that brought it first.'],
        ['memory_procedure_event.package', 'No secret: the release of the daemon that did it.'],
        ['divergence.namespace', 'No secret: the name of a namespace.'],
        ['divergence.writer', 'No secret: the delivery''s.'],
        ['divergence.expected_hash', 'No secret: a keyed hash whose key is kept nowhere.'],
        ['divergence.plugin_hash', 'No secret: a keyed hash whose key is kept nowhere.'],
        ['verify_finding.namespace', 'No secret: the name of a namespace.'],
        ['verify_finding.writer', 'No secret: the delivery''s.'],
        ['verify_finding.expected_hash', 'No secret: a keyed hash whose key is kept nowhere.'],
        ['verify_finding.plugin_hash', 'No secret: a keyed hash whose key is kept nowhere.']
    ] loop
        execute format('comment on column cutover.%s is %L', v_one[1], v_one[2]);
    end loop;
end $$;
