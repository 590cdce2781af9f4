-- Whether pgvector was present when the tenant was migrated: the column can be absent (domain §2).
SELECT EXISTS (
    SELECT FROM pg_attribute
     WHERE attrelid = to_regclass('public.agent_memories') AND attname = 'embedding' AND NOT attisdropped
)
