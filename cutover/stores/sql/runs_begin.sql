-- Opens a run that follows the procedure with this text. kind, requested_by, parameters, procedure, hash of its text.
INSERT INTO cutover.task_run (kind, state, requested_by, parameters, procedure_version)
VALUES ($1, 'running', $2, $3::jsonb,
        (SELECT v.id FROM cutover.memory_procedure_version v WHERE v.name = $4 AND v.content_hash = $5))
RETURNING id
