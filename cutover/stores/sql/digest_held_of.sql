-- Ids of what the plugin holds as one workspace's: by its provenance ($1) or in its own namespace ($2).
SELECT h.id FROM memory_plugin.memory_records h
WHERE h.propagation -> 'cutover' ->> 'workspace_id' = $1 OR h.namespace = $2
