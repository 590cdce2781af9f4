-- Rows of the stray public.memory_records.
SELECT count(*) FROM public.memory_records;
