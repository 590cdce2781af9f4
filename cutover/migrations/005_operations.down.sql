drop function if exists cutover.fold_bypass_writes(integer), cutover.mark_strays(uuid[], text[]), cutover.mark_tombstones(),
    cutover.open_backfill(bigint, text, uuid), cutover.backfill_chunk(bigint, text, uuid, integer),
    cutover.set_phase(bigint, text, text, text, bytea);
drop trigger if exists chain on cutover.phase_event;
drop trigger if exists phase_has_event on cutover.phase_state;
drop function if exists cutover.check_phase_change(), cutover.bare_steps(), cutover.chain_event(), cutover.phase_event_text(cutover.phase_event);
