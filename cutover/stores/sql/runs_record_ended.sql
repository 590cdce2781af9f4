-- Puts down a run that is over. kind, requested_by, parameters, procedure, hash of its text, state, outcome, seconds.
INSERT INTO cutover.task_run
    (kind, state, requested_by, parameters, procedure_version, outcome, started_at, finished_at)
VALUES ($1, $6, $2, $3::jsonb,
        (SELECT v.id FROM cutover.memory_procedure_version v WHERE v.name = $4 AND v.content_hash = $5),
        $7::jsonb, clock_timestamp() - make_interval(secs => $8), clock_timestamp())
RETURNING id
