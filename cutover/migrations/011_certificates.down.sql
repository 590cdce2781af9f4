-- Undoes 011_certificates.
alter table if exists cutover.phase_event drop constraint if exists phase_event_override_no_secret;
drop trigger if exists certified on cutover.phase_event;
drop table if exists cutover.approval, cutover.certificate;
drop function if exists cutover.newest_sweeps(), cutover.certify_event(), cutover.consume_certificate(bytea, text, text, bigint), cutover.check_approval();
