do $$ begin
    if to_regclass('public.agent_memories') is not null and to_regproc('cutover.remove_capture') is not null then
        perform cutover.remove_capture();
    end if;
end $$;
drop function if exists cutover.capture_state(), cutover.install_capture(), cutover.remove_capture(),
    cutover.capture_workspace_delete(), cutover.purge_once_more(), cutover.purge_journal(uuid, text), cutover.plugin_rules_for(text), cutover.note_workspace_delete(), cutover.capture_workspace_insert(), cutover.capture_reparent_at_commit(), cutover.capture_reparent(), cutover.capture_truncate(), cutover.capture_row(),
    cutover.journal_bypass(text, jsonb, text), cutover.bury(uuid, text[]), cutover.granted_lease(bigint), cutover.touch_mark(uuid, text[], text, text),
    cutover.current_writer(), cutover.namespace_of(uuid, text), cutover.root_of(uuid),
    cutover.tree_lock_key(), cutover.sane(timestamptz);
drop table if exists cutover.purge_again;
