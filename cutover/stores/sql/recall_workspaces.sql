-- Some workspaces at random, and how many there are. $1 how many
SELECT w.id, count(*) OVER () AS of_all FROM public.workspaces AS w ORDER BY random() LIMIT $1
