-- Whether the plugin has put the namespace $1 where sweeps look.
SELECT EXISTS (SELECT FROM memory_plugin.memory_namespaces WHERE name = $1);
