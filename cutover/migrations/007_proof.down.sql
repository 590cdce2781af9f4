drop function if exists cutover.mark_for_repair(bigint, uuid[], text[]);
drop function if exists cutover.findings(uuid[], text[], text[], text, text, uuid, text, boolean);
drop view if exists cutover.finding;
drop function if exists cutover.finding_group(text, text, text, timestamptz);
drop table if exists cutover.verify_finding, cutover.canary, cutover.sweep_bucket, cutover.divergence;
