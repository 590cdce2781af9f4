-- Live K/V rows without a mapping although the K/V backfill has reached every row: none, unless a writer got past the
-- capture or a mapping was lost. At most $1.
SELECT v.workspace_id, v.key FROM public.workspace_memory v
WHERE v.workspace_id IS NOT NULL AND v.key IS NOT NULL AND (v.expires_at IS NULL OR v.expires_at > now())
  AND EXISTS (SELECT FROM cutover.backfill_cursor c JOIN cutover.phase_state s ON s.generation = c.generation
              WHERE c.scope = 'kv' AND c.done)
  AND NOT EXISTS (SELECT FROM cutover.kv k WHERE k.workspace_id = v.workspace_id AND k.key = v.key)
LIMIT $1
