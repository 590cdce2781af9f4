"""Every series of the daemon with its name, its words and its labels, in a registry of its own."""

import asyncio
import platform
from collections.abc import Sequence
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from cutover.domain.recall import DEPTH

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


class Metrics:
    """Every series of the daemon, in a registry of its own."""

    def __init__(self, version: str) -> None:
        # `_created` doubles the series and says what Prometheus knows already.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        self._labels: dict[str, tuple[str, ...]] = {}

        self.build_info = self._gauge("cutover_build_info", "Always 1; what runs here.", "version", "python")
        self.build_info.labels(version, platform.python_version()).set(1)

        self.phase = self._gauge("cutover_phase", "1 for the tenant's phase, else 0.", "tenant", "phase")
        self.phase_index = self._gauge("cutover_phase_index", "The tenant's phase: 0 for A0 to 4 for A4.", "tenant")
        self.phase_epoch = self._gauge("cutover_phase_epoch", "Grows by one at every phase change.", "tenant")
        self.phase_entered = self._gauge(
            "cutover_phase_entered_timestamp_seconds", "When the phase was entered, by the database's clock.", "tenant"
        )

        self.phase_change_started = self._gauge(
            "cutover_phase_change_started_timestamp_seconds",
            "When the change of phase under way here began; 0: none.",
            "tenant",
        )
        self.certificate_expires = self._gauge(
            "cutover_certificate_expires_timestamp_seconds",
            "When the newest certificate for that phase expires; 0: none that could be used.",
            "tenant",
            "target",
        )
        self.approvals_missing = self._gauge(
            "cutover_certificate_approvals_missing", "How many more people must approve it.", "tenant", "target"
        )
        self.audit_intact = self._gauge(
            "cutover_audit_intact", "1 while the record of phase changes verifies; looked at every hour.", "tenant"
        )
        self.ready = self._gauge("cutover_ready", "1 while /readyz says that the tenant is served.", "tenant")
        self.database_answered = self._gauge(
            "cutover_database_last_answer_timestamp_seconds",
            "When the tenant's database last answered; what comes from it is no newer.",
            "tenant",
        )
        self.daemons = self._gauge(
            "cutover_daemons", "Daemons of this tenant that were heard of in the last minute.", "tenant"
        )
        self.config_info = self._gauge(
            "cutover_config_info", "Always 1; the hash of the settings in force.", "tenant", "hash"
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

        self.held_requests = self._gauge(
            "cutover_held_requests", "Writes that wait for a change of phase now.", "tenant"
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
            "cutover_marks_oldest_timestamp_seconds",
            "Since when the oldest mark that is to be delivered has waited; 0: none.",
            "tenant",
        )
        self.deliveries = self._counter(
            "cutover_deliveries", "Deliveries to the plugin by what came of them.", "tenant", "path", "outcome"
        )
        self.quarantined = self._gauge(
            "cutover_quarantined", "Memories that cannot be placed, with their reason in the database.", "tenant"
        )
        self.quarantine_blocking = self._gauge(
            "cutover_quarantine_blocking", "Memories that cannot be placed and that nobody has acknowledged.", "tenant"
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

        self.rows = self._gauge(
            "cutover_rows", "Rows at the last count sweep; absent where nothing was counted.", "tenant", "store", "kind"
        )
        self.kv_switch = self._gauge(
            "cutover_kv_switch", "1 where this daemon copies workspace_memory (CUTOVER_KV=on).", "tenant"
        )
        self.drift_rows = self._gauge(
            "cutover_drift_rows",
            "Rows by which the stores differ, by cause; absent where nothing was counted.",
            "tenant",
            "cause",
        )
        self.sweeps = self._counter("cutover_sweeps", "Sweeps that ended.", "tenant", "kind", "outcome")
        self.sweep_duration = self._histogram(
            "cutover_sweep_duration_seconds", "How long a sweep took.", SWEEP_BUCKETS, "tenant", "kind"
        )
        self.sweep_success = self._gauge(
            "cutover_sweep_last_success_timestamp_seconds",
            "When a sweep last ended with a result, clean or not; 0: never, or it could count nothing.",
            "tenant",
            "kind",
        )
        self.sweep_interval = self._gauge(
            "cutover_sweep_interval_seconds",
            "How often a sweep is due in this phase; 0: never, or it could see nothing.",
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
            "Share of the faults planted for the last digest sweep that it caught, by kind; absent before the first.",
            "tenant",
            "fault",
        )
        self.sweep_trusted = self._gauge(
            "cutover_sweep_trusted",
            "1 when the last digest sweep caught all planted faults and reported no intact row; absent before one.",
            "tenant",
        )

        self.backfill_rows = self._counter(
            "cutover_backfill_rows", "Rows the backfill has taken up.", "tenant", "outcome"
        )
        self.backfill_remaining = self._gauge(
            "cutover_backfill_remaining_rows",
            "Rows still to take up by the run under way, or the newest on record; 0 when it ended.",
            "tenant",
        )
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
        self._labels[name] = labels
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        self._labels[name] = labels
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self._labels[name] = labels
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def labels_of(self, name: str) -> tuple[str, ...]:
        """The label names of a family of ours; `name` without `_total`. Raises `KeyError` for a stranger."""
        return self._labels[name]

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
