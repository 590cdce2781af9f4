"""Metrics: the engine's events as Prometheus series (observability §2; catalogue in docs/metrics.md).

`Metrics` owns a registry of its own, so several can live in one process. `MetricsObserver` turns events into series.
Labels are bounded: tenants come from the configuration, everything else from the lists below; what is not on a list
is counted as `other`. Every known label set starts at 0, so a rate exists before the first event does.

On the hot path an event costs a dictionary look-up and an increment: labelled children are kept.
"""

import asyncio
import platform
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from cutover.domain import events
from cutover.domain.breaker import BreakerState
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.domain.recall import DEPTH
from cutover.metric_labels import (
    BACKFILL_OUTCOMES,
    BREAKER_STATES,
    CAUSES,
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
    STORE_OUTCOMES,
    STORES,
    SWEEP_OUTCOMES,
    SWEEPS,
    THRESHOLDS,
    THROTTLES,
    VISIBILITY,
)

REQUEST_BUCKETS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
    *(0.5, 1.0, 1.2, 1.8, 2.0, 5.0, 10.0),
)
"""Seconds. On a boundary: the hold (0.5), a delivery (1.2), the plugin face's answer (1.8), callers' patience (2)."""
SWEEP_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
OVERLAP_WINDOW: Final = 1000
"""Shadow reads whose mean overlap is shown."""

_OPEN: Final = "application/openmetrics-text"
F = TypeVar("F", Counter, Gauge, Histogram)
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class Metrics:
    """Every series of the daemon, in a registry of its own."""

    def __init__(self, version: str) -> None:
        # `_created` doubles the series and says what Prometheus knows already.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self.families: list[Counter | Gauge | Histogram] = []

        self.build_info = self._gauge("cutover_build_info", "Always 1; what runs here.", "version", "python")
        self.build_info.labels(version, platform.python_version()).set(1)

        self.phase = self._gauge("cutover_phase", "1 for the tenant's phase, else 0.", "tenant", "phase")
        self.phase_index = self._gauge("cutover_phase_index", "The tenant's phase: 0 for A0 to 4 for A4.", "tenant")
        self.phase_epoch = self._gauge("cutover_phase_epoch", "Grows by one at every phase change.", "tenant")
        self.phase_entered = self._gauge(
            "cutover_phase_entered_timestamp_seconds", "When the phase was entered, by the database's clock.", "tenant"
        )

        self.requests = self._counter(
            "cutover_requests", "Requests answered.", "tenant", "face", "operation", "outcome"
        )
        self.request_duration = self._histogram(
            "cutover_request_duration_seconds",
            "From the request's head to its answer.",
            REQUEST_BUCKETS,
            "tenant",
            "face",
            "operation",
        )
        self.refused = self._counter(
            "cutover_refused", "Requests refused with nothing written to either store.", "tenant", "reason"
        )

        self.store_writes = self._counter(
            "cutover_store_writes", "Writes by store and what came of them.", "tenant", "store", "outcome"
        )
        self.store_duration = self._histogram(
            "cutover_store_duration_seconds", "One call of a store.", REQUEST_BUCKETS, "tenant", "store", "operation"
        )

        self.plugin_up = self._gauge("cutover_plugin_up", "1 while the plugin's last probe was good.", "tenant")
        self.plugin_probe = self._histogram(
            "cutover_plugin_probe_duration_seconds", "One probe of the plugin's health.", REQUEST_BUCKETS, "tenant"
        )
        self.breaker_state = self._gauge(
            "cutover_breaker_state", "1 for the breaker's state, else 0.", "tenant", "state"
        )
        self.breaker_transitions = self._counter(
            "cutover_breaker_transitions", "Changes of the breaker's state.", "tenant", "to"
        )
        self.plugin_restarts = self._counter(
            "cutover_plugin_restarts", "Times the plugin's child process was started again.", "tenant"
        )

        self.marks = self._gauge("cutover_marks", "Memories that must be re-delivered.", "tenant", "origin")
        self.marks_oldest = self._gauge(
            "cutover_marks_oldest_timestamp_seconds", "When the oldest mark was made; 0 without marks.", "tenant"
        )
        self.deliveries = self._counter(
            "cutover_deliveries", "Deliveries to the plugin by what came of them.", "tenant", "path", "outcome"
        )
        self.quarantined = self._gauge(
            "cutover_quarantined", "Memories that cannot be placed, with their reason in the database.", "tenant"
        )
        self.bypass_writes = self._counter(
            "cutover_bypass_writes", "Rows that other writers changed in agent_memories.", "tenant", "writer"
        )
        self.foreign_reads = self._gauge(
            "cutover_legacy_foreign_reads", "Scans of agent_memories by others since the cutover.", "tenant"
        )
        self.foreign_writes = self._gauge(
            "cutover_legacy_foreign_writes", "Rows of agent_memories changed by others since A1 was entered.", "tenant"
        )
        self.frozen_refused = self._counter(
            "cutover_frozen_writes_refused",
            "Statements of other writers that the freeze of agent_memories refused.",
            "tenant",
            "writer",
        )
        self.freeze_intact = self._gauge(
            "cutover_freeze_intact",
            "1 while the freeze is as the phase asks for (also where it asks for none).",
            "tenant",
        )
        self.writes_held = self._histogram(
            "cutover_writes_held_seconds",
            "How long a try at a change of phase held new writes.",
            REQUEST_BUCKETS,
            "tenant",
            "to",
            "made",
        )

        self.rows = self._gauge("cutover_rows", "Rows at the last count sweep.", "tenant", "store", "kind")
        self.kv_switch = self._gauge(
            "cutover_kv_switch", "1 where this daemon copies workspace_memory (CUTOVER_KV=on).", "tenant"
        )
        self.drift_rows = self._gauge(
            "cutover_drift_rows", "Rows by which the stores differ, by cause.", "tenant", "cause"
        )
        self.sweeps = self._counter("cutover_sweeps", "Sweeps that ended.", "tenant", "kind", "outcome")
        self.sweep_duration = self._histogram(
            "cutover_sweep_duration_seconds", "How long a sweep took.", SWEEP_BUCKETS, "tenant", "kind"
        )
        self.sweep_success = self._gauge(
            "cutover_sweep_last_success_timestamp_seconds",
            "When a sweep last ended with a result, clean or not; 0 before the first.",
            "tenant",
            "kind",
        )
        self.sweep_coverage = self._gauge(
            "cutover_sweep_coverage_ratio", "Share of the rows the last sweep could look at.", "tenant", "kind"
        )

        self.divergent_rows = self._gauge(
            "cutover_divergent_rows", "Confirmed differences that are open, by class.", "tenant", "class"
        )
        self.divergence_first_seen = self._gauge(
            "cutover_divergence_first_seen_timestamp_seconds",
            "When the oldest confirmed and open difference was first seen; 0 without one.",
            "tenant",
        )
        self.findings_settled = self._counter(
            "cutover_findings_settled", "Findings that operators settled.", "tenant", "action"
        )
        self.sweep_canary = self._gauge(
            "cutover_sweep_canary_caught",
            "Share of the faults planted for the last digest sweep that it caught, by kind; below 1 it is not trusted.",
            "tenant",
            "fault",
        )
        self.sweep_trusted = self._gauge(
            "cutover_sweep_trusted",
            "1 when the last digest sweep caught every planted fault and reported no intact row.",
            "tenant",
        )

        self.backfill_rows = self._counter(
            "cutover_backfill_rows", "Rows the backfill has taken up.", "tenant", "outcome"
        )
        self.backfill_remaining = self._gauge("cutover_backfill_remaining_rows", "Rows still to take up.", "tenant")
        self.backfill_rate = self._gauge(
            "cutover_backfill_rate_rows_per_second", "The backfill's pace; 0 while it rests.", "tenant"
        )
        self.backfill_eta = self._gauge(
            "cutover_backfill_eta_seconds", "Time left at this pace; 0 when done or unknown.", "tenant"
        )
        self.gate_check = self._gauge(
            "cutover_gate_check", "1 while a check of the phase's gate passes, else 0.", "tenant", "phase", "check"
        )
        self.threshold_loosened = self._gauge(
            "cutover_gate_threshold_loosened",
            "1 where a gate asks for less than by default, else 0.",
            "tenant",
            "threshold",
        )
        self.backfill_throttled = self._gauge(
            "cutover_backfill_throttled", "1 for what holds the backfill back, else 0.", "tenant", "reason"
        )
        self.task_checkpoint = self._gauge(
            "cutover_task_last_checkpoint_timestamp_seconds", "When a task last made a checkpoint.", "tenant", "task"
        )

        self.journal_rows = self._gauge("cutover_journal_rows", "Rows in the journal of A3.", "tenant")
        self.rehearsal_at = self._gauge(
            "cutover_rollback_last_rehearsal_timestamp_seconds", "When the way back was last rehearsed well.", "tenant"
        )
        self.rehearsal_seconds = self._gauge(
            "cutover_rollback_last_rehearsal_duration_seconds", "How long the replay took in it.", "tenant"
        )
        self.rehearsal_ok = self._gauge(
            "cutover_rollback_last_rehearsal_ok", "1 when the last rehearsal of the way back went well.", "tenant"
        )
        self.soak_green = self._gauge(
            "cutover_soak_green_seconds", "How long A3 has been green by the soak clock; 0 outside of A3.", "tenant"
        )
        self.soak_required = self._gauge(
            "cutover_soak_required_seconds", "How long A3 must be green before A4.", "tenant"
        )
        self.drop_left = self._gauge("cutover_drop_hold_remaining_seconds", "Time left of the hold; 0: none.", "tenant")
        self.drop_blocked = self._gauge("cutover_drop_blocked", "1 while it is held beyond its hold, else 0.", "tenant")
        self.soak_resets = self._counter("cutover_soak_resets", "Times the soak clock went back to zero.", "tenant")
        self.shadow_reads = self._counter(
            "cutover_shadow_reads", "Sampled reads repeated on the plugin.", "tenant", "outcome"
        )
        self.recall_overlap = self._gauge(
            "cutover_recall_overlap_ratio",
            f"How alike both stores answer: {OVERLAP_WINDOW} shadow reads, or overlap@{DEPTH} of the last sweep.",
            "tenant",
            "source",
        )
        self.recall_agreement = self._gauge(
            "cutover_recall_rank_agreement", "Mean Kendall's tau-b of the last recall sweep, -1 to 1.", "tenant"
        )
        self.recall_visibility = self._gauge(
            "cutover_recall_visibility_differences",
            "Memories that one store shows to a reader and the other does not, at the last recall sweep.",
            "tenant",
            "direction",
        )

        self.event_loop_lag = self._histogram(
            "cutover_event_loop_lag_seconds", "How late the event loop was for a timer.", LAG_BUCKETS
        )
        self.task_failures = self._counter(
            "cutover_task_failures", "Errors that a background task went on from.", "tenant", "task"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._kept(Counter(name, text, labels, registry=self.registry))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._kept(Gauge(name, text, labels, registry=self.registry))

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return self._kept(Histogram(name, text, labels, registry=self.registry, buckets=buckets))

    def _kept(self, family: F) -> F:
        self.families.append(family)
        return family

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body of `/metrics`: OpenMetrics (with exemplars) for who accepts it, else plain text."""
        # Only fixed strings reach the library: it trips over versions that are no versions.
        encode, content_type = choose_encoder(_OPEN if _OPEN in accept.lower() else "text/plain")
        return content_type, encode(self.registry)

    async def watch_loop(self, *, interval: float = 0.5) -> None:
        """Measure for ever how late the event loop is for a timer of `interval` seconds: a task of the daemon's."""
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(interval)
            self.event_loop_lag.observe(max(0.0, loop.time() - before - interval))


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
            events.KvSwitched: lambda event: self._child(metrics.kv_switch, event.tenant).set(event.on),
            events.SoakTold: self._soak,
            events.SoakReset: lambda event: self._child(metrics.soak_resets, event.tenant).inc(),
            events.Rehearsed: self._rehearsed,
            events.DropLooked: self._drop,
            events.TaskFailed: lambda event: self._child(metrics.task_failures, event.tenant, event.task).inc(),
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

    def _start_at_zero(self, tenant: str) -> None:
        """Every label set that is known beforehand, so that it exists before the first event."""
        for family, labels in _known_label_sets(self._metrics, (*sorted(self._writers), OTHER)):
            self._child(family, tenant, *labels)
        self._child(self._metrics.breaker_state, tenant, BreakerState.CLOSED.value).set(1)

    # -- the hot path

    def _request(self, event: events.RequestFinished) -> None:
        m = self._metrics
        operation = event.operation if event.operation in OPERATIONS.get(event.face, ()) else OTHER
        face = event.face if event.face in OPERATIONS else OTHER
        self._child(m.requests, event.tenant, face, operation, _bound(event.outcome, REQUEST_OUTCOMES)).inc()
        trace = event.trace_id
        exemplar = {"trace_id": trace} if trace and _TRACE_ID.fullmatch(trace) else None
        self._child(m.request_duration, event.tenant, face, operation).observe(event.seconds, exemplar)

    def _refused(self, event: events.RequestRefused) -> None:
        self._child(self._metrics.refused, event.tenant, _bound(event.reason, REFUSALS)).inc()

    def _called(self, event: events.StoreCalled) -> None:
        self._child(self._metrics.store_duration, event.tenant, event.store, event.operation).observe(event.seconds)

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
        oldest = self._clock() - event.oldest_seconds if any(counted.values()) else 0.0
        self._child(m.marks_oldest, event.tenant).set(oldest)
        self._child(m.quarantined, event.tenant).set(event.quarantined)
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
        m = self._metrics
        for fault in FAULTS:
            planted = event.planted.get(fault, 0)
            self._child(m.sweep_canary, event.tenant, fault).set(event.caught.get(fault, 0) / planted if planted else 0)
        self._child(m.sweep_trusted, event.tenant).set(event.trusted)

    def _sweep(self, event: events.SweepFinished) -> None:
        m = self._metrics
        self._child(m.sweeps, event.tenant, event.kind, _bound(event.outcome, SWEEP_OUTCOMES)).inc()
        self._child(m.sweep_duration, event.tenant, event.kind).observe(event.seconds)
        self._child(m.sweep_coverage, event.tenant, event.kind).set(event.coverage)
        if event.outcome not in ("failed", "untrusted", "not_applicable"):
            self._child(m.sweep_success, event.tenant, event.kind).set(self._clock())
        if event.ledger is None:
            return
        for cause, rows in event.ledger.causes().items():
            self._child(m.drift_rows, event.tenant, cause).set(rows)
        counted = {(store, kind): 0 for store in ROW_STORES for kind in (*ROW_KINDS, OTHER)}
        for (store, kind), rows in event.ledger.rows.items():
            if store in ROW_STORES:
                counted[store, _bound(kind, ROW_KINDS)] += rows
        for (store, kind), rows in counted.items():
            self._child(m.rows, event.tenant, store, kind).set(rows)

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

    def _one_of(self, family: Gauge, tenant: str, values: Iterable[str], current: str) -> None:
        """One series per value: 1 for the current one, 0 for the rest."""
        for value in values:
            self._child(family, tenant, value).set(int(value == current))


def _bound(value: str, known: Sequence[str]) -> str:
    return value if value in known else OTHER


def _known_label_sets(
    m: Metrics, writers: Sequence[str]
) -> Iterator[tuple[Counter | Gauge | Histogram, tuple[str, ...]]]:
    """Every family with the label sets (after the tenant) that are known beforehand."""
    for face, operations in OPERATIONS.items():
        for operation in (*operations, OTHER):
            yield m.request_duration, (face, operation)
            yield from ((m.requests, (face, operation, outcome)) for outcome in REQUEST_OUTCOMES)
    yield from ((m.store_writes, (store, outcome)) for store in STORES for outcome in STORE_OUTCOMES)
    yield from ((m.deliveries, (path, outcome)) for path in DELIVERY_PATHS for outcome in DELIVERY_OUTCOMES)
    yield from ((m.rows, (store, kind)) for store in ROW_STORES for kind in (*ROW_KINDS, OTHER))
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
        (m.drift_rows, CAUSES),
        (m.divergent_rows, DIVERGENCES),
        (m.findings_settled, SETTLING),
        (m.sweep_duration, SWEEPS),
        (m.sweep_success, SWEEPS),
        (m.sweep_coverage, SWEEPS),
        (m.sweep_canary, FAULTS),
        (m.backfill_rows, BACKFILL_OUTCOMES),
        (m.backfill_throttled, (*THROTTLES, OTHER)),
        (m.threshold_loosened, THRESHOLDS),
        (m.task_checkpoint, ("backfill",)),
        (m.shadow_reads, SHADOW_OUTCOMES),
        (m.recall_visibility, VISIBILITY),
    )
    for family, values in single:
        yield from ((family, (value,)) for value in values)
    for family in (
        *(m.phase_index, m.phase_epoch, m.phase_entered, m.plugin_up, m.plugin_probe, m.plugin_restarts),
        *(m.marks_oldest, m.quarantined, m.backfill_remaining, m.backfill_rate, m.backfill_eta),
        *(m.journal_rows, m.divergence_first_seen, m.sweep_trusted, m.foreign_reads, m.foreign_writes),
        *(m.soak_green, m.soak_required, m.soak_resets, m.freeze_intact),
        *(m.rehearsal_at, m.rehearsal_seconds, m.rehearsal_ok, m.drop_left, m.drop_blocked),
    ):
        yield family, ()
