-- Undoes 017_daemons.
drop table cutover.daemon;
