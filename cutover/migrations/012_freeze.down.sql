-- Undoes 012_freeze.
select;
