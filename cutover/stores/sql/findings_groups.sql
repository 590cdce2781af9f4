-- One row per likely cause (see cutover.finding_group), largest first. `latest_after`, `earliest_before` and
-- `latest_before` bound the moment at which it began (domain/findings.py: onset).
WITH grouped AS (
    SELECT f.class, f.namespace_kind, f.writer, f.onset_hour,
           count(*) AS rows,
           count(*) FILTER (WHERE f.state = 'suspect') AS suspect,
           count(*) FILTER (WHERE f.state = 'confirmed') AS confirmed,
           count(*) FILTER (WHERE f.state = 'repaired') AS repaired,
           count(*) FILTER (WHERE f.state = 'accepted') AS accepted,
           min(f.first_seen) AS first_seen, max(f.last_seen) AS last_seen,
           max(f.onset_after) AS latest_after,
           min(f.onset_before) AS earliest_before, max(f.onset_before) AS latest_before,
           array_agg(DISTINCT f.source ORDER BY f.source) AS sources,
           count(DISTINCT f.workspace_id) AS workspaces,
           (array_agg(f.memory_id ORDER BY f.memory_id))[1:3] AS examples
    FROM cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8) f
    GROUP BY f.class, f.namespace_kind, f.writer, f.onset_hour
)
SELECT cutover.finding_group(g.class, g.namespace_kind, g.writer, g.onset_hour) AS group_id, g.*,
       count(*) OVER () AS groups
FROM grouped g
ORDER BY g.rows DESC, g.first_seen, g.class, g.namespace_kind, g.writer, g.onset_hour
LIMIT $9
