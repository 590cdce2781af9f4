drop table if exists cutover.task_checkpoint, cutover.task_run, cutover.bypass_writer, cutover.bypass_write,
    cutover.backfill_cursor, cutover.idempotency, cutover.namespace, cutover.extra, cutover.native, cutover.journal,
    cutover.quarantine, cutover.tombstone, cutover.delivery_log, cutover.mark, cutover.phase_event, cutover.phase_state;
drop function if exists cutover.refuse_change(), cutover.unacknowledge();
drop sequence if exists cutover.rev_seq, cutover.lease_seq;
