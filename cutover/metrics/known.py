"""The label sets that are known before the first event: they start at 0, so that a rate exists from the beginning."""

from collections.abc import Iterator, Sequence

from prometheus_client import Counter, Gauge, Histogram

from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.metric_labels import (
    BACKFILL_OUTCOMES,
    BREAKER_STATES,
    CERTIFIED,
    DELIVERY_OUTCOMES,
    DELIVERY_PATHS,
    DIVERGENCES,
    MARK_ORIGINS,
    OPERATIONS,
    OTHER,
    REFUSALS,
    REQUEST_OUTCOMES,
    SETTLING,
    SHADOW_OUTCOMES,
    STORE_OPERATIONS,
    STORE_OUTCOMES,
    STORES,
    SWEEP_OUTCOMES,
    SWEEPS,
    TASKS,
    THRESHOLDS,
    THROTTLES,
    VISIBILITY,
)
from cutover.metrics.families import Metrics


def known_label_sets(
    m: Metrics, writers: Sequence[str]
) -> Iterator[tuple[Counter | Gauge | Histogram, tuple[str, ...]]]:
    """Every family with the label sets (after the tenant) that are known beforehand."""
    # What is no memory traffic (the ops face) counts as `other` of `other`.
    for face, operations in (*OPERATIONS.items(), (OTHER, ())):
        for operation in (*operations, OTHER):
            yield m.request_duration, (face, operation)
            yield from ((m.requests, (face, operation, outcome)) for outcome in REQUEST_OUTCOMES)
    yield from ((m.store_duration, (store, each)) for store, names in STORE_OPERATIONS.items() for each in names)
    yield from ((m.store_writes, (store, outcome)) for store in STORES for outcome in STORE_OUTCOMES)
    yield from ((m.deliveries, (path, outcome)) for path in DELIVERY_PATHS for outcome in DELIVERY_OUTCOMES)
    yield from ((m.gate_check, (phase.value, check)) for phase in Phase for check in check_ids(phase))
    yield from ((m.sweeps, (kind, outcome)) for kind in SWEEPS for outcome in SWEEP_OUTCOMES)
    yield from ((m.writes_held, (phase.value, made)) for phase in Phase for made in ("true", "false"))
    single: tuple[tuple[Counter | Gauge | Histogram, Sequence[str]], ...] = (
        (m.phase, [phase.value for phase in Phase]),
        (m.refused, (*REFUSALS, OTHER)),
        (m.breaker_state, (*BREAKER_STATES, OTHER)),
        (m.breaker_transitions, (*BREAKER_STATES, OTHER)),
        (m.marks, (*MARK_ORIGINS, OTHER)),
        (m.bypass_writes, writers),
        (m.frozen_refused, writers),
        (m.divergent_rows, DIVERGENCES),
        (m.findings_settled, SETTLING),
        (m.sweep_duration, SWEEPS),
        (m.sweep_success, SWEEPS),
        (m.sweep_coverage, SWEEPS),
        (m.sweep_interval, SWEEPS),
        (m.certificate_expires, CERTIFIED),
        (m.approvals_missing, CERTIFIED),
        (m.backfill_rows, BACKFILL_OUTCOMES),
        (m.backfill_throttled, (*THROTTLES, OTHER)),
        (m.threshold_loosened, THRESHOLDS),
        (m.task_checkpoint, ("backfill",)),
        (m.task_failures, TASKS),
        (m.shadow_reads, SHADOW_OUTCOMES),
        (m.recall_visibility, VISIBILITY),
    )
    for family, values in single:
        yield from ((family, (value,)) for value in values)
    for family in (
        *(m.phase_index, m.phase_epoch, m.phase_entered, m.plugin_up, m.plugin_probe, m.plugin_restarts),
        *(m.marks_oldest, m.quarantined, m.quarantine_blocking),
        *(m.backfill_remaining, m.backfill_rate, m.backfill_eta),
        *(m.journal_rows, m.divergence_first_seen),
        *(m.soak_green, m.soak_required, m.soak_resets),
        *(m.held_requests, m.ready, m.kv_switch, m.database_answered, m.daemons, m.phase_change_started),
        *(m.rehearsal_at, m.rehearsal_seconds, m.rehearsal_ok, m.drop_left, m.drop_blocked),
    ):
        yield family, ()
