-- Rows of the stray public.memory_namespaces.
SELECT count(*) FROM public.memory_namespaces;
