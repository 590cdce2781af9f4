-- For how long sweeps have found nothing since A1 was entered. $1: the plugin is contract-only, so digest sweeps are
-- what there is, else count sweeps; $2: seconds without a sweep after which the time between two counts for nothing.
-- A digest sweep that found something ends the time of count sweeps as well. Failed and partial counts saw nothing:
-- they are as good as missing.
WITH looks AS (
    SELECT r.started_at, r.finished_at, r.outcome ->> 'outcome' AS outcome
    FROM cutover.phase_state s
    JOIN cutover.task_run r ON r.started_at >= s.entered_at AND r.state = 'finished'
    WHERE r.kind = CASE WHEN $1 THEN 'sweep.digest' ELSE 'sweep.count' END
), dirty AS (
    SELECT max(r.finished_at) AS at
    FROM cutover.phase_state s
    JOIN cutover.task_run r ON r.started_at >= s.entered_at AND r.state = 'finished'
    WHERE r.kind IN ('sweep.count', 'sweep.digest') AND r.outcome ->> 'outcome' IN ('drift', 'divergent')
), steps AS (
    SELECT l.finished_at, l.finished_at - lag(l.finished_at) OVER chain AS step,
           l.started_at - lag(l.finished_at) OVER chain AS idle
    FROM looks l, dirty d
    WHERE (l.outcome = 'clean' OR ($1 AND l.outcome = 'partial')) AND (d.at IS NULL OR l.started_at >= d.at)
    WINDOW chain AS (ORDER BY l.finished_at, l.started_at)
), since AS (
    SELECT clock_timestamp() - max(finished_at) AS last FROM steps
)
SELECT count(*)::int AS sweeps,
       coalesce(extract(epoch FROM sum(step) FILTER (WHERE idle <= make_interval(secs => $2))), 0)::float8
           AS clean_seconds,
       (coalesce(extract(epoch FROM sum(step) FILTER (WHERE idle > make_interval(secs => $2))), 0)
        + coalesce((SELECT extract(epoch FROM last) FROM since WHERE last > make_interval(secs => $2)), 0))::float8
           AS missing_seconds,
       (SELECT extract(epoch FROM clock_timestamp() - at) FROM dirty)::float8 AS dirty_seconds_ago
FROM steps;
