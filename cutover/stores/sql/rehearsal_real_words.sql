-- What must be in legacy of the memories that the real journal speaks of, where the plugin cannot be asked: written anew,
-- with a window instead of the replay's own way. $1: memories whose expectation is already known from the plugin.
WITH word AS (
    SELECT j.*, row_number() OVER (PARTITION BY j.memory_id ORDER BY j.seq DESC) AS place
    FROM cutover_rehearsal.journal j WHERE j.namespace <> 'rehearsal' AND NOT j.memory_id = ANY ($1::uuid[])
), newest AS (
    SELECT * FROM word WHERE place = 1
), gone AS (
    DELETE FROM cutover_rehearsal.expected e USING newest n
    WHERE n.memory_id = e.id AND (n.native OR n.op = 'forget')
), said AS (
    SELECT n.* FROM newest n
    WHERE NOT n.native AND n.op = 'upsert' AND EXISTS (SELECT FROM public.workspaces w WHERE w.id = n.workspace_id)
)
INSERT INTO cutover_rehearsal.expected AS e (id, workspace_id, content, scope, label, created_at, updated_at, embedding)
SELECT s.memory_id, s.workspace_id, s.content, s.scope, s.label, s.created_at, s.updated_at, {spoken}
FROM said s
ON CONFLICT (id) DO UPDATE SET
    workspace_id = excluded.workspace_id, content = excluded.content, scope = excluded.scope, label = excluded.label,
    created_at = coalesce(excluded.created_at, e.created_at), updated_at = coalesce(excluded.updated_at, e.updated_at),
    embedding = excluded.embedding
