drop function if exists cutover.namespace_delete_ended(text, boolean),
    cutover.sending_namespace_delete(text, float8), cutover.close_namespace(bigint, text, float8),
    cutover.delete_namespace(bigint, text, uuid, text);
