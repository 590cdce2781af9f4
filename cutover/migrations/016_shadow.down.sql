-- Undoes 016_shadow.
drop table cutover.write_tally;
