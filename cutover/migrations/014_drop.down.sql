-- Undoes 014_drop. (The runner goes down in A0 only, where nothing is set aside and nothing was taken over.)
drop function cutover.legacy_dependants(), cutover.drop_legacy(text), cutover.take_legacy_back(text, text),
    cutover.set_legacy_aside(float8, text, text), cutover.legacy_knows_more(), cutover.release_held_rows(), cutover.look_past_legacy(),
    cutover.legacy_relation(), cutover.disown(bigint, integer), cutover.adopt_chunk(bigint, uuid, integer);
drop view cutover.drop_state;
drop function cutover.look_at_hold();
drop table cutover.drop_hold;
drop table cutover.drop_event;
drop sequence cutover.adoption_seq;
drop index cutover.journal_adopted;
alter table cutover.journal drop column adopted;
