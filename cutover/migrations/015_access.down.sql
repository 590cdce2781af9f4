-- Undoes 015_access.
select;
