do $$ begin
    if to_regproc('cutover.remove_kv_capture') is not null then
        perform cutover.remove_kv_capture();
    end if;
end $$;
delete from cutover.backfill_cursor where scope = 'kv';
alter table cutover.backfill_cursor drop column if exists last_key;
drop function if exists cutover.kv_backfill_chunk(bigint, integer), cutover.open_kv_backfill(bigint),
    cutover.kv_tidied(), cutover.kv_tidy(integer), cutover.switch_kv(boolean), cutover.kv_capture_state(),
    cutover.remove_kv_capture(),
    cutover.install_kv_capture(), cutover.kv_lacks(), cutover.capture_kv_truncate(), cutover.kv_forget(uuid[], boolean, text),
    cutover.capture_kv(), cutover.kv_touch(uuid, text, boolean, text), cutover.is_memory(uuid, boolean),
    cutover.kv_quarantine(uuid[], boolean, boolean), cutover.kv_freed(uuid[]), cutover.holds_kv(text), cutover.kv_must_wait(uuid), cutover.is_kv_in(uuid, text),
    cutover.uuid5(uuid, text);
drop table if exists cutover.kv_waiting, cutover.kv_capture, cutover.kv;
