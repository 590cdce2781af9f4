-- Whether it is on record already that release $3 offered version $1 while $2 was in force.
SELECT EXISTS (
    SELECT FROM cutover.memory_procedure_event e
    WHERE e.what = 'kept' AND e.version_id = $1 AND e.previous_id = $2 AND e.package = $3)
