drop table if exists cutover.memory_procedure_event, cutover.memory_procedure_version, cutover.memory_procedure;
alter table cutover.task_run drop column if exists procedure_version, drop constraint if exists task_run_no_secret;
drop trigger if exists known_run on cutover.task_checkpoint;
alter table cutover.task_checkpoint drop column if exists kind, drop constraint if exists task_checkpoint_no_secret;
alter table cutover.verify_finding drop constraint if exists verify_finding_no_secret;
alter table cutover.divergence drop constraint if exists divergence_no_secret;
alter table cutover.quarantine drop constraint if exists quarantine_no_secret;
alter table cutover.phase_event drop constraint if exists phase_event_no_secret;
drop type if exists cutover.checkpoint_kind;
drop function if exists cutover.known_run(), cutover.make_append_only(regclass), cutover.json_looks_secret(jsonb),
    cutover.looks_secret(text);
