drop function if exists cutover.copy_chunk, cutover.copy_statement, cutover.copy_namespaces;
drop type if exists cutover.copied_chunk;
