-- Ids of what the plugin holds in a range, without the namespaces that hold no memories.
SELECT h.id FROM memory_plugin.memory_records h WHERE h.id BETWEEN $1 AND $2 AND h.namespace <> ALL ($3::text[])
