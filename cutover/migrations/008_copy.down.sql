drop function if exists cutover.copy_chunk, cutover.copy_statement, cutover.copy_namespaces, cutover.white_space;
drop type if exists cutover.copied_chunk;
