-- Undoes 013_way_back.
drop trigger if exists feed_soak on cutover.task_run;
drop function if exists cutover.feed_soak();
alter table cutover.task_run drop column if exists epoch;
drop function if exists cutover.present_epoch();
drop table if exists cutover.rehearsal, cutover.soak_event, cutover.soak_feed, cutover.soak;
drop function if exists cutover.thaw(text), cutover.replayed(bigint), cutover.silence_journal(), cutover.silence_chunk(integer),
    cutover.replay_journal(), cutover.replay_ahead(bigint, uuid, integer), cutover.replay_words(uuid[], boolean);
drop index if exists cutover.journal_standing, cutover.journal_unreplayed;
alter table if exists cutover.journal drop column if exists in_legacy;
alter table if exists cutover.phase_state drop column if exists legacy_changes;
