-- Which of the ids $1 the plugin holds, in whatever namespace.
SELECT id FROM memory_plugin.memory_records WHERE id = ANY ($1::uuid[]);
