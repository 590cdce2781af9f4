"""Turns the engine's events into series.

Labels are bounded: tenants come from the configuration, everything else from `cutover.metric_labels`; what is not on a
list is counted as `other`. On the hot path an event costs a dictionary look-up and an increment: labelled children are
kept.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from cutover.domain import events
from cutover.domain.breaker import BreakerState
from cutover.domain.drift import DriftLedger
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.metric_labels import (
    BACKFILL_OUTCOMES,
    BREAKER_STATES,
    CAUSES,
    CERTIFIED,
    DELIVERY_OUTCOMES,
    DELIVERY_PATHS,
    DIVERGENCES,
    FAULTS,
    MARK_ORIGINS,
    OPERATIONS,
    OTHER,
    REFUSALS,
    REQUEST_OUTCOMES,
    ROW_KINDS,
    ROW_STORES,
    SETTLING,
    SHADOW_OUTCOMES,
    STORE_OPERATIONS,
    STORE_OUTCOMES,
    SWEEP_OUTCOMES,
    SWEEPS,
    TASKS,
    THRESHOLDS,
    THROTTLES,
    VISIBILITY,
)
from cutover.metrics.families import OVERLAP_WINDOW, Metrics
from cutover.metrics.known import known_label_sets

_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class MetricsObserver:
    """Turns events into series. `known_writers`: application names that bypass writes are told apart by."""

    def __init__(
        self,
        metrics: Metrics,
        tenants: Iterable[str],
        *,
        known_writers: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = metrics
        self._writers = frozenset(known_writers)
        self._clock = clock
        self._children: dict[tuple[object, ...], Any] = {}
        self._overlaps: dict[str, deque[float]] = {}
        self._handlers: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestFinished: self._request,
            events.RequestRefused: self._refused,
            events.StoreCalled: self._called,
            events.StoreWritten: self._written,
            events.DeliverySettled: self._delivery,
            events.BypassWrites: self._bypass,
            events.ForeignAccess: self._foreign,
            events.FrozenWritesRefused: self._frozen,
            events.FreezeLooked: self._freeze,
            events.WritesHeld: self._held,
            events.MarkCounts: self._marks,
            events.PluginProbed: self._probed,
            events.BreakerChanged: self._breaker,
            events.PluginRestarted: self._restarted,
            events.PhaseChanged: self._phase,
            events.ShadowReadCompared: self._shadow,
            events.SweepFinished: self._sweep,
            events.DivergencesCounted: self._divergences,
            events.FindingsSettled: self._settled,
            events.SweepCanary: self._sweep_canary,
            events.RecallCompared: self._recall,
            events.GateJudged: self._gate,
            events.ThresholdsTold: self._thresholds,
            events.BackfillAdvanced: self._backfill,
            events.BackfillRests: self._backfill_rests,
            events.KvSwitched: lambda event: self._child(metrics.kv_switch, event.tenant).set(event.on),
            events.SoakTold: self._soak,
            events.SoakReset: lambda event: self._child(metrics.soak_resets, event.tenant).inc(),
            events.Rehearsed: self._rehearsed,
            events.DropLooked: self._drop,
            events.RequestsHeld: lambda event: self._child(metrics.held_requests, event.tenant).set(event.waiting),
            events.ReadinessTold: lambda event: self._child(metrics.ready, event.tenant).set(event.ready),
            events.PhaseChanging: self._changing,
            events.CertificatesLooked: self._certificates,
            events.AuditLooked: lambda event: self._child(metrics.audit_intact, event.tenant).set(event.intact),
            events.ConfigTold: lambda event: self._child(metrics.config_info, event.tenant, event.digest).set(1),
            events.SweepsScheduled: self._scheduled,
            events.SweepsRecorded: self._recorded,
            events.DatabaseAnswered: lambda event: self._child(metrics.database_answered, event.tenant).set(clock()),
            events.DaemonsCounted: lambda event: self._child(metrics.daemons, event.tenant).set(event.daemons),
            events.TaskFailed: self._failed,
        }
        for tenant in tenants:
            self._start_at_zero(tenant)

    def __call__(self, event: events.Event) -> None:
        """The observer itself."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _child(self, family: Counter | Gauge | Histogram, *labels: str) -> Any:
        """The labelled child, looked up in the library once."""
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = family.labels(*labels)
        return child

    def _forget(self, family: Gauge, *labels: str) -> None:
        """The series is gone until it has a value again."""
        if self._children.pop((family, *labels), None) is not None:
            family.remove(*labels)

    def _start_at_zero(self, tenant: str) -> None:
        """Every label set that is known beforehand, so that it exists before the first event."""
        for family, labels in known_label_sets(self._metrics, (*sorted(self._writers), OTHER)):
            self._child(family, tenant, *labels)
        self._child(self._metrics.breaker_state, tenant, BreakerState.CLOSED.value).set(1)

    # -- the hot path

    def _request(self, event: events.RequestFinished) -> None:
        m = self._metrics
        operation = event.operation if event.operation in OPERATIONS.get(event.face, ()) else OTHER
        face = event.face if event.face in OPERATIONS else OTHER
        self._child(m.requests, event.tenant, face, operation, _bound(event.outcome, REQUEST_OUTCOMES)).inc()
        self._child(m.request_duration, event.tenant, face, operation).observe(event.seconds, _exemplar(event.trace_id))

    def _refused(self, event: events.RequestRefused) -> None:
        self._child(self._metrics.refused, event.tenant, _bound(event.reason, REFUSALS)).inc()

    def _called(self, event: events.StoreCalled) -> None:
        store = event.store if event.store in STORE_OPERATIONS else OTHER
        operation = event.operation if event.operation in STORE_OPERATIONS.get(store, ()) else OTHER
        self._child(self._metrics.store_duration, event.tenant, store, operation).observe(
            event.seconds, _exemplar(event.trace_id)
        )

    def _written(self, event: events.StoreWritten) -> None:
        outcome = _bound(event.outcome, STORE_OUTCOMES)
        self._child(self._metrics.store_writes, event.tenant, event.store, outcome).inc(event.count)

    def _delivery(self, event: events.DeliverySettled) -> None:
        outcome = _bound(event.outcome, DELIVERY_OUTCOMES)
        self._child(self._metrics.deliveries, event.tenant, _bound(event.path, DELIVERY_PATHS), outcome).inc()

    # -- now and then

    def _bypass(self, event: events.BypassWrites) -> None:
        writer = event.writer if event.writer in self._writers else OTHER
        self._child(self._metrics.bypass_writes, event.tenant, writer).inc(event.count)

    def _foreign(self, event: events.ForeignAccess) -> None:
        self._child(self._metrics.foreign_reads, event.tenant).set(event.reads)
        self._child(self._metrics.foreign_writes, event.tenant).set(event.writes)

    def _frozen(self, event: events.FrozenWritesRefused) -> None:
        writer = event.writer if event.writer in self._writers else OTHER
        self._child(self._metrics.frozen_refused, event.tenant, writer).inc(event.count)

    def _freeze(self, event: events.FreezeLooked) -> None:
        self._child(self._metrics.freeze_intact, event.tenant).set(float(event.intact))

    def _held(self, event: events.WritesHeld) -> None:
        made = "true" if event.made else "false"
        self._child(self._metrics.writes_held, event.tenant, event.to_phase.value, made).observe(event.seconds)

    def _marks(self, event: events.MarkCounts) -> None:
        m = self._metrics
        counted = dict.fromkeys((*MARK_ORIGINS, OTHER), 0)
        for origin, count in event.by_origin.items():
            counted[_bound(origin, MARK_ORIGINS)] += count
        for origin, count in counted.items():
            self._child(m.marks, event.tenant, origin).set(count)
        oldest = 0.0 if event.oldest_seconds is None else self._clock() - event.oldest_seconds
        self._child(m.marks_oldest, event.tenant).set(oldest)
        self._child(m.quarantined, event.tenant).set(event.quarantined)
        self._child(m.quarantine_blocking, event.tenant).set(event.quarantine_blocking)
        self._child(m.journal_rows, event.tenant).set(event.journal_rows)

    def _probed(self, event: events.PluginProbed) -> None:
        self._child(self._metrics.plugin_up, event.tenant).set(int(event.up))
        self._child(self._metrics.plugin_probe, event.tenant).observe(event.seconds)

    def _breaker(self, event: events.BreakerChanged) -> None:
        state = _bound(event.to_state, BREAKER_STATES)
        self._one_of(self._metrics.breaker_state, event.tenant, (*BREAKER_STATES, OTHER), state)
        self._child(self._metrics.breaker_transitions, event.tenant, state).inc()

    def _restarted(self, event: events.PluginRestarted) -> None:
        self._child(self._metrics.plugin_restarts, event.tenant).inc()

    def _phase(self, event: events.PhaseChanged) -> None:
        m = self._metrics
        self._one_of(m.phase, event.tenant, [phase.value for phase in Phase], event.to_phase.value)
        self._child(m.phase_index, event.tenant).set(event.to_phase.order)
        self._child(m.phase_epoch, event.tenant).set(event.epoch)
        self._child(m.phase_entered, event.tenant).set(event.entered_at_unix)

    def _changing(self, event: events.PhaseChanging) -> None:
        self._child(self._metrics.phase_change_started, event.tenant).set(event.started_unix)

    def _certificates(self, event: events.CertificatesLooked) -> None:
        for target in CERTIFIED:
            expires, missing = event.by_target.get(Phase(target), (0.0, 0))
            self._child(self._metrics.certificate_expires, event.tenant, target).set(expires)
            self._child(self._metrics.approvals_missing, event.tenant, target).set(missing)

    def _scheduled(self, event: events.SweepsScheduled) -> None:
        for kind in SWEEPS:
            self._child(self._metrics.sweep_interval, event.tenant, kind).set(event.every.get(kind, 0.0))

    def _shadow(self, event: events.ShadowReadCompared) -> None:
        self._child(self._metrics.shadow_reads, event.tenant, _bound(event.outcome, SHADOW_OUTCOMES)).inc()
        if event.outcome in ("match", "mismatch"):
            seen = self._overlaps.setdefault(event.tenant, deque(maxlen=OVERLAP_WINDOW))
            seen.append(event.overlap)
            self._child(self._metrics.recall_overlap, event.tenant, "shadow").set(sum(seen) / len(seen))

    def _recall(self, event: events.RecallCompared) -> None:
        m = self._metrics
        if event.overlap is not None:
            self._child(m.recall_overlap, event.tenant, "sweep").set(event.overlap)
        if event.rank_agreement is not None:
            self._child(m.recall_agreement, event.tenant).set(event.rank_agreement)
        for direction in VISIBILITY:
            self._child(m.recall_visibility, event.tenant, direction).set(event.visibility.get(direction, 0))

    def _sweep_canary(self, event: events.SweepCanary) -> None:
        self._canary(event.tenant, event)

    def _canary(self, tenant: str, told: events.SweepCanary | events.RecordedCanary) -> None:
        m = self._metrics
        for fault in FAULTS:
            planted = told.planted.get(fault, 0)
            self._child(m.sweep_canary, tenant, fault).set(told.caught.get(fault, 0) / planted if planted else 0)
        self._child(m.sweep_trusted, tenant).set(told.trusted)

    def _recorded(self, event: events.SweepsRecorded) -> None:
        m = self._metrics
        for kind, sweep in event.by_kind.items():
            self._child(m.sweep_success, event.tenant, kind).set(sweep.ended_unix)
            self._child(m.sweep_coverage, event.tenant, kind).set(sweep.coverage)
        if event.canary is not None:
            self._canary(event.tenant, event.canary)
        if event.ledger is not None:
            self._ledger(event.tenant, event.ledger)
        elif event.uncounted:
            self._no_ledger(event.tenant)

    def _sweep(self, event: events.SweepFinished) -> None:
        m = self._metrics
        self._child(m.sweeps, event.tenant, event.kind, _bound(event.outcome, SWEEP_OUTCOMES)).inc()
        self._child(m.sweep_duration, event.tenant, event.kind).observe(event.seconds)
        self._child(m.sweep_coverage, event.tenant, event.kind).set(event.coverage)
        # A plugin behind its contract alone cannot be counted: such a sweep ends well and has seen nothing.
        uncounted = event.kind == "count" and event.outcome == "partial" and event.ledger is None
        if event.outcome not in ("failed", "untrusted", "not_applicable") and not uncounted:
            self._child(m.sweep_success, event.tenant, event.kind).set(self._clock())
        if event.ledger is not None:
            self._ledger(event.tenant, event.ledger)
        elif uncounted:
            self._no_ledger(event.tenant)

    def _ledger(self, tenant: str, ledger: DriftLedger) -> None:
        m = self._metrics
        for cause, rows in ledger.causes().items():
            self._child(m.drift_rows, tenant, cause).set(rows)
        counted = {(store, kind): 0 for store in ROW_STORES for kind in (*ROW_KINDS, OTHER)}
        for (store, kind), rows in ledger.rows.items():
            if store in ROW_STORES:
                counted[store, _bound(kind, ROW_KINDS)] += rows
        for (store, kind), rows in counted.items():
            self._child(m.rows, tenant, store, kind).set(rows)

    def _no_ledger(self, tenant: str) -> None:
        """Rows that nobody can count are not 0."""
        m = self._metrics
        for cause in CAUSES:
            self._forget(m.drift_rows, tenant, cause)
        for store in ROW_STORES:
            for kind in (*ROW_KINDS, OTHER):
                self._forget(m.rows, tenant, store, kind)

    def _divergences(self, event: events.DivergencesCounted) -> None:
        for cls in DIVERGENCES:
            self._child(self._metrics.divergent_rows, event.tenant, cls).set(event.confirmed.get(cls, 0))
        self._child(self._metrics.divergence_first_seen, event.tenant).set(event.oldest_first_seen_unix)

    def _settled(self, event: events.FindingsSettled) -> None:
        self._child(self._metrics.findings_settled, event.tenant, _bound(event.action, SETTLING)).inc(event.count)

    def _gate(self, event: events.GateJudged) -> None:
        for check in check_ids(event.target):
            self._child(self._metrics.gate_check, event.tenant, event.target.value, check).set(event.checks[check])

    def _thresholds(self, event: events.ThresholdsTold) -> None:
        for name in THRESHOLDS:
            self._child(self._metrics.threshold_loosened, event.tenant, name).set(event.loosened[name])

    def _backfill(self, event: events.BackfillAdvanced) -> None:
        m = self._metrics
        for outcome in BACKFILL_OUTCOMES:
            self._child(m.backfill_rows, event.tenant, outcome).inc(getattr(event, outcome))
        self._child(m.backfill_remaining, event.tenant).set(event.remaining)
        self._child(m.backfill_rate, event.tenant).set(event.rate)
        self._child(m.backfill_eta, event.tenant).set(event.eta_seconds)
        reason = _bound(event.throttled, THROTTLES) if event.throttled else ""
        self._one_of(m.backfill_throttled, event.tenant, (*THROTTLES, OTHER), reason)
        if event.checkpoint:
            self._child(m.task_checkpoint, event.tenant, "backfill").set(self._clock())

    def _backfill_rests(self, event: events.BackfillRests) -> None:
        m = self._metrics
        self._child(m.backfill_remaining, event.tenant).set(event.remaining)
        self._child(m.backfill_rate, event.tenant).set(0.0)
        self._child(m.backfill_eta, event.tenant).set(0.0)
        self._one_of(m.backfill_throttled, event.tenant, (*THROTTLES, OTHER), "")

    def _soak(self, event: events.SoakTold) -> None:
        self._child(self._metrics.soak_green, event.tenant).set(event.green_seconds)
        self._child(self._metrics.soak_required, event.tenant).set(event.required_seconds)

    def _rehearsed(self, event: events.Rehearsed) -> None:
        m = self._metrics
        self._child(m.rehearsal_ok, event.tenant).set(event.ok)
        if event.ok:
            self._child(m.rehearsal_at, event.tenant).set(event.ended_at_unix)
            self._child(m.rehearsal_seconds, event.tenant).set(event.seconds)

    def _drop(self, event: events.DropLooked) -> None:
        self._child(self._metrics.drop_left, event.tenant).set(event.remaining)
        self._child(self._metrics.drop_blocked, event.tenant).set(event.blocked)

    def _failed(self, event: events.TaskFailed) -> None:
        self._child(self._metrics.task_failures, event.tenant, _bound(event.task, TASKS)).inc()

    def _one_of(self, family: Gauge, tenant: str, values: Iterable[str], current: str) -> None:
        """One series per value: 1 for the current one, 0 for the rest."""
        for value in values:
            self._child(family, tenant, value).set(int(value == current))


def _exemplar(trace: str | None) -> dict[str, str] | None:
    return {"trace_id": trace} if trace and _TRACE_ID.fullmatch(trace) else None


def _bound(value: str, known: Sequence[str]) -> str:
    return value if value in known else OTHER
