drop function if exists cutover.copy_chunk, cutover.copy_statement, cutover.copy_namespaces, cutover.packed, cutover.rfc3339, cutover.is_blank;
drop type if exists cutover.copied_chunk;
