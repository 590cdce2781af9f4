-- Undoes 013_way_back.
select;
