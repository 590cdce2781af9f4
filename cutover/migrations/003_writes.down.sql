drop function if exists cutover.project_native(uuid, bigint),
    cutover.settle(uuid[], bigint[], bigint[], bigint[], text[], float8[], text[]),
    cutover.replace_memory(bigint, uuid, float8, bigint, uuid, text, uuid, text, text, text, text, boolean, text),
    cutover.delete_memory(bigint, uuid, float8, bigint, uuid, uuid, text),
    cutover.edit_memory(bigint, uuid, float8, bigint, uuid, uuid, text, text),
    cutover.legacy_result(uuid),
    cutover.create_memories(bigint, uuid, float8, uuid[], uuid[], text[], text[], text[], text[], text[], text[], boolean[], text[], bytea[]),
    cutover.log_global(uuid, text, uuid, text, text), cutover.set_embedding(uuid, text),
    cutover.legacy_embedding_type(), cutover.write_as(uuid, float8, bigint), cutover.own_origin(), cutover.prove_own(), cutover.enter(bigint, text[]),
    cutover.phase_lock_key();
drop type if exists cutover.write_result;
drop table if exists cutover.own_transaction;
