drop function if exists cutover.close_namespace(bigint, text, float8),
    cutover.delete_namespace(bigint, text, uuid, text);
