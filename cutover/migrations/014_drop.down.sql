-- Undoes 014_drop.
select;
