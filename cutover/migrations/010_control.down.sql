-- Undoes 010_control.
select;
