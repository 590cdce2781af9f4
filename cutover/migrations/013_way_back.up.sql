-- The way back: rehearsals of it, the thaw after it; and the soak clock (architecture §6).
select;
