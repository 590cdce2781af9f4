-- Undoes 013_way_back.
drop trigger if exists feed_soak on cutover.task_run;
drop function if exists cutover.feed_soak();
drop table if exists cutover.soak_event, cutover.soak_feed, cutover.soak;
