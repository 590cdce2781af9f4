-- Certificates and approvals: what a promotion consumes (architecture §6, decision 0018). The rules are in
-- domain/certificate.py; what must hold even if that code were wrong is here once more.

create table cutover.certificate (
    hash         bytea primary key,
    target       text not null check (target in ('A1', 'A2', 'A3', 'A4')),
    from_phase   text not null check (from_phase in ('A0', 'A1', 'A2', 'A3')),
    epoch        bigint not null check (epoch >= 1),
    override     text check (override <> '' and length(override) <= 1000),
    loosened     text[] not null,
    requested_by text not null check (requested_by <> '' and length(requested_by) <= 200),
    issued_at    timestamptz not null,
    expires_at   timestamptz not null check (expires_at > issued_at),
    body         text not null,
    check (hash = sha256(convert_to(body, 'UTF8'))),
    check (not cutover.json_looks_secret(body::jsonb)),
    -- What the functions below judge by is what the body says.
    check (target = body::jsonb ->> 'target' and from_phase = body::jsonb ->> 'phase'
           and epoch = (body::jsonb ->> 'epoch')::bigint and requested_by = body::jsonb ->> 'requested_by'
           and override is not distinct from body::jsonb ->> 'override'
           and to_jsonb(loosened) = body::jsonb -> 'loosened')
);
comment on table cutover.certificate is 'Append-only: what was known when a gate was judged. A promotion consumes one (phase_event.certificate).';
comment on column cutover.certificate.hash is 'No secret: sha256 of body: approvals are bound to every word of it.';
comment on column cutover.certificate.override is 'No secret, body is looked at: why the step may be taken although its gate is closed.';
comment on column cutover.certificate.loosened is 'No secret: the thresholds that asked for less than their defaults.';
comment on column cutover.certificate.requested_by is 'No secret: the name of the ops token that asked for it.';
comment on column cutover.certificate.body is 'No secret, it is looked at: canonical JSON (domain/certificate.py): text, because jsonb would not keep its bytes.';
create index certificate_recent on cutover.certificate (issued_at desc);

create table cutover.approval (
    seq         bigint generated always as identity primary key,
    certificate bytea not null,
    approver    text not null check (approver <> '' and length(approver) <= 200 and not cutover.looks_secret(approver)),
    at          timestamptz not null default clock_timestamp(),
    unique (certificate, approver)
);
comment on table cutover.approval is 'Append-only: who stands for a certificate, each person once, never its requester.';
comment on column cutover.approval.certificate is 'No secret: its hash. No foreign key, because certificates are append-only (010): check_approval sees to it.';
comment on column cutover.approval.approver is 'The name of the ops token that the approval came with.';

alter table cutover.phase_event
    add constraint phase_event_override_no_secret check (not cutover.looks_secret(override));

-- An approval expires with its certificate, and none can be given to one that can no longer be used. The shared token
-- ('admin') may be anybody's: with it nobody approves, and what it asked for nobody approves, who may have asked himself.
create function cutover.check_approval() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    c cutover.certificate;
begin
    select * into c from cutover.certificate x where x.hash = new.certificate;
    new.at := clock_timestamp();
    if not found or new.at >= c.expires_at or new.approver = c.requested_by
       or 'admin' in (c.requested_by, new.approver)
       or c.epoch is distinct from (select s.epoch from cutover.phase_state s) then
        raise exception 'this certificate cannot be approved by that person now' using errcode = 'CU005';
    end if;
    return new;
end $$;
create trigger check_approval before insert on cutover.approval
    for each row execute function cutover.check_approval();

-- What the last sweep of each kind came to: only the facts that a certificate is bound to. A recall sweep's overlap is
-- another number every time; the gate's own check says how low it may be.
create function cutover.newest_sweeps() returns table (kind text, id uuid, found jsonb)
language sql stable set search_path = pg_catalog, pg_temp as $$
SELECT 'count' AS kind, r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'unexplained', r.outcome -> 'unexplained') AS found
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.count' AND state = 'finished' ORDER BY started_at DESC LIMIT 1) r
UNION ALL
SELECT 'digest', r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'trusted', r.outcome -> 'trusted',
                                          'coverage', r.outcome -> 'coverage')
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.digest' AND state = 'finished' AND (outcome ->> 'full')::boolean AND outcome ? 'epoch'
      ORDER BY started_at DESC LIMIT 1) r
UNION ALL
SELECT 'recall', r.id, jsonb_build_object('outcome', r.outcome -> 'outcome', 'visibility', r.outcome -> 'visibility')
FROM (SELECT id, outcome FROM cutover.task_run
      WHERE kind = 'sweep.recall' AND state = 'finished' AND outcome ->> 'outcome' <> 'not_applicable'
      ORDER BY started_at DESC LIMIT 1) r
$$;

-- In the transaction of the step: raises unless the certificate is good for exactly this step.
create function cutover.consume_certificate(
    p_hash bytea, p_from text, p_to text, p_epoch bigint, out override text, out loosened text[], out approvers text[]
) language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    c cutover.certificate;
begin
    select * into c from cutover.certificate x where x.hash = p_hash;
    if not found or (c.from_phase, c.target, c.epoch) is distinct from (p_from, p_to, p_epoch) then
        raise exception 'the certificate is for another step' using errcode = 'CU005';
    end if;
    if clock_timestamp() >= c.expires_at then
        raise exception 'the certificate has expired' using errcode = 'CU005';
    end if;
    -- What ended while writes were held back has been judged by nobody.
    if exists (
        select from cutover.newest_sweeps() n
        full join jsonb_to_recordset(c.body::jsonb -> 'sweeps') as s (kind text, found jsonb) using (kind)
        where n.found is distinct from s.found) then
        raise exception 'a newer sweep found something else' using errcode = 'CU005';
    end if;
    approvers := array(select a.approver from cutover.approval a where a.certificate = p_hash order by a.seq);
    if cardinality(approvers) < 2 and (c.override is not null or c.target in ('A3', 'A4')) then
        raise exception 'the certificate lacks approvals' using errcode = 'CU005';
    end if;
    override := c.override;
    loosened := c.loosened;
end $$;

-- No step forward without a certificate, whoever writes the event. What it was taken by is hashed with it ("certified"
-- fires before "chain").
create function cutover.certify_event() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if new.certificate is not null then
        select c.override, c.loosened, c.approvers into new.override, new.loosened, new.approvers
        from cutover.consume_certificate(new.certificate, new.from_phase, new.to_phase, new.epoch - 1) c;
    elsif new.to_phase > coalesce(new.from_phase, '') and not cutover.bare_steps() then
        raise exception 'a step forward needs a certificate' using errcode = 'CU005';
    end if;
    return new;
end $$;
create trigger certified before insert on cutover.phase_event for each row execute function cutover.certify_event();
alter table cutover.phase_event enable always trigger certified;

select cutover.make_append_only(t::regclass) from unnest(array['cutover.certificate', 'cutover.approval']) t;
alter table cutover.approval enable always trigger check_approval;
