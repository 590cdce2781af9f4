-- A live workspace token. $1 sha256 of the bearer token
SELECT t.workspace_id, t.token_hash FROM public.workspace_auth_tokens AS t
 WHERE t.token_hash = $1 AND t.revoked_at IS NULL
