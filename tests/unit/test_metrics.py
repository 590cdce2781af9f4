"""Metrics: the catalogue and the exposition agree, labels are bounded, known sets start at 0 (observability §2)."""

import asyncio
import re
import uuid
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cutover.domain import events
from cutover.domain.drift import DriftLedger
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.domain.thresholds import THRESHOLDS
from cutover.http.mcp_tools import TOOLS
from cutover.metric_labels import MARK_ORIGINS, OPERATIONS, REFUSALS
from cutover.metrics import Metrics, MetricsObserver

CATALOGUE = Path(__file__).parents[2] / "docs" / "metrics.md"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.0.1")


@pytest.fixture
def observe(metrics: Metrics) -> MetricsObserver:
    return MetricsObserver(metrics, ["acme", "globex"], known_writers=["psql"], clock=lambda: 1000.0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def documented() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Type, labels in their order, and words of every row of the page."""
    rows = re.findall(r"^\| `(cutover_\w+)` \| (\w+) \| ([^|]+) \| (.+) \|$", CATALOGUE.read_text(), re.MULTILINE)
    assert len({name for name, *_ in rows}) == len(rows), "a row twice"
    return {
        name: (kind, () if labels == "–" else tuple(label.strip() for label in labels.split(",")), words)
        for name, kind, labels, words in rows
    }


def exposed(metrics: Metrics) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """The same of what is served; that the series have no other labels is seen on the way."""
    found = {}
    for family in text_string_to_metric_families(metrics.render()[1].decode()):
        if not family.name.startswith("cutover_"):
            continue
        declared = metrics.labels_of(family.name)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(declared), sample
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = (family.type, declared, family.documentation)
    return found


def test_the_catalogue_and_the_exposition_agree_both_ways(metrics: Metrics, observe: MetricsObserver) -> None:
    """Names, types, labels and words."""
    for event in every_event():
        observe(event)
    metrics.event_loop_lag.observe(0.01)
    assert exposed(metrics) == documented()


def test_names_and_help_follow_the_conventions(metrics: Metrics) -> None:
    for family in text_string_to_metric_families(metrics.render()[1].decode()):
        assert family.documentation, family.name
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_ratio"))


def every_event() -> list[events.Event]:
    t = "acme"
    return [
        events.RequestFinished(t, "memories", "create_memory", "ok", 0.3, TRACE),
        events.RequestRefused(t, "breaker_open"),
        events.StoreCalled(t, "plugin", "commit", "ok", 0.01),
        events.StoreWritten(t, "plugin", "ok", 3),
        events.DeliverySettled(t, "request", "delivered", uuid.uuid4(), 1),
        events.BypassWrites(t, "psql", 2),
        events.ForeignAccess(t, 4, 3, ("psql/me",)),
        events.FrozenWritesRefused(t, "psql", 3),
        events.FreezeLooked(t, wanted=True, intact=False, why="trigger cutover_freeze is gone"),
        events.WritesHeld(t, Phase.A2, Phase.A3, 0.2, made=True),
        events.RequestsHeld(t, 3),
        events.ReadinessTold(t, ready=True),
        events.PhaseChanging(t, 88.0),
        events.CertificatesLooked(t, {Phase.A3: (99.0, 1)}),
        events.AuditLooked(t, intact=True),
        events.ConfigTold(t, "0123456789ab"),
        events.SweepsScheduled(t, {"count": 30.0, "recall": 0.0}),
        events.SweepsRecorded(
            t, {"digest": events.RecordedSweep(66.0, 0.5)}, events.RecordedCanary({"changed": 2}, {"changed": 2}, True)
        ),
        events.DatabaseAnswered(t),
        events.DaemonsCounted(t, 2),
        events.MarkCounts(t, {"write": 2, "backfill": 5}, 40.0, 7, 3, 9),
        events.PluginProbed(t, up=True, seconds=0.1),
        events.BreakerChanged(t, "closed", "open", "5 failures"),
        events.PluginRestarted(t, 1, "exit code 1"),
        events.PhaseChanged(t, Phase.A1, Phase.A2, 3, 77.0),
        events.ShadowReadCompared(t, "match", 1.0),
        events.RecallCompared(t, 0.75, -0.5, 12, {"plugin_shows_more": 2}),
        events.SweepFinished(t, "count", "drift", 0.1, 1.0, DriftLedger(9, 5, 1, 1, 1, 1, {("legacy", "team"): 4})),
        events.DivergencesCounted(t, {"content": 7}, 12.0),
        events.FindingsSettled(t, "repair", 7, "alice"),
        events.SweepCanary(t, "digest", {"missing": 2, "extra": 2}, {"missing": 1, "extra": 2}, False),
        events.BackfillRests(t, 99),
        events.BackfillAdvanced(t, 500, 300, 40, 20, 1, 4500, 1000.0, 4.5, "queue", True),
        events.GateJudged(t, Phase.A0, {"database": True, "schema": False}),
        events.ThresholdsTold(t, {name: name == "soak" for name in THRESHOLDS}),
        events.KvSwitched(t, on=True, did="installed"),
        events.SoakTold(t, 60.0, 3600.0),
        events.DropLooked(t, 3600.0, True),
        events.SoakReset(t, "a sweep was divergent", 60.0),
        events.Rehearsed(t, True, 1.5, 77.0, "", False),
        events.TaskFailed(t, "reconciler.claim", "PluginTimeout", "no answer in time"),
    ]


def test_every_event_moves_its_series(metrics: Metrics, observe: MetricsObserver) -> None:
    kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}
    assert {type(event) for event in every_event()} == kinds - {events.Event}
    for event in every_event():
        observe(event)
    t = {"tenant": "acme"}
    expected = [
        ("cutover_requests_total", {"face": "memories", "operation": "create_memory", "outcome": "ok"}, 1),
        ("cutover_request_duration_seconds_count", {"face": "memories", "operation": "create_memory"}, 1),
        ("cutover_refused_total", {"reason": "breaker_open"}, 1),
        ("cutover_store_duration_seconds_count", {"store": "plugin", "operation": "commit"}, 1),
        ("cutover_store_writes_total", {"store": "plugin", "outcome": "ok"}, 3),
        ("cutover_deliveries_total", {"path": "request", "outcome": "delivered"}, 1),
        ("cutover_bypass_writes_total", {"writer": "psql"}, 2),
        ("cutover_legacy_foreign_reads", {}, 4),
        ("cutover_legacy_foreign_writes", {}, 3),
        ("cutover_frozen_writes_refused_total", {"writer": "psql"}, 3),
        ("cutover_freeze_intact", {}, 0),
        ("cutover_writes_held_seconds_count", {"to": "A3", "made": "true"}, 1),
        ("cutover_held_requests", {}, 3),
        ("cutover_ready", {}, 1),
        ("cutover_phase_change_started_timestamp_seconds", {}, 88),
        ("cutover_certificate_expires_timestamp_seconds", {"target": "A3"}, 99),
        ("cutover_certificate_expires_timestamp_seconds", {"target": "A4"}, 0),
        ("cutover_certificate_approvals_missing", {"target": "A3"}, 1),
        ("cutover_audit_intact", {}, 1),
        ("cutover_config_info", {"hash": "0123456789ab"}, 1),
        ("cutover_sweep_interval_seconds", {"kind": "count"}, 30),
        ("cutover_sweep_interval_seconds", {"kind": "digest"}, 0),
        ("cutover_sweep_last_success_timestamp_seconds", {"kind": "digest"}, 66),
        ("cutover_sweep_coverage_ratio", {"kind": "digest"}, 0.5),
        ("cutover_database_last_answer_timestamp_seconds", {}, 1000),
        ("cutover_daemons", {}, 2),
        ("cutover_marks", {"origin": "backfill"}, 5),
        ("cutover_marks_oldest_timestamp_seconds", {}, 960),
        ("cutover_quarantined", {}, 7),
        ("cutover_quarantine_blocking", {}, 3),
        ("cutover_journal_rows", {}, 9),
        ("cutover_plugin_up", {}, 1),
        ("cutover_plugin_probe_duration_seconds_count", {}, 1),
        ("cutover_breaker_state", {"state": "open"}, 1),
        ("cutover_breaker_state", {"state": "closed"}, 0),
        ("cutover_breaker_transitions_total", {"to": "open"}, 1),
        ("cutover_plugin_restarts_total", {}, 1),
        ("cutover_phase", {"phase": "A2"}, 1),
        ("cutover_phase", {"phase": "A1"}, 0),
        ("cutover_phase_index", {}, 2),
        ("cutover_phase_epoch", {}, 3),
        ("cutover_phase_entered_timestamp_seconds", {}, 77),
        ("cutover_shadow_reads_total", {"outcome": "match"}, 1),
        ("cutover_recall_overlap_ratio", {"source": "shadow"}, 1),
        ("cutover_recall_overlap_ratio", {"source": "sweep"}, 0.75),
        ("cutover_recall_rank_agreement", {}, -0.5),
        ("cutover_recall_visibility_differences", {"direction": "plugin_shows_more"}, 2),
        ("cutover_recall_visibility_differences", {"direction": "plugin_shows_less"}, 0),
        ("cutover_sweeps_total", {"kind": "count", "outcome": "drift"}, 1),
        ("cutover_sweep_duration_seconds_count", {"kind": "count"}, 1),
        ("cutover_sweep_last_success_timestamp_seconds", {"kind": "count"}, 1000),
        ("cutover_sweep_coverage_ratio", {"kind": "count"}, 1),
        ("cutover_sweep_canary_caught", {"fault": "missing"}, 0.5),
        ("cutover_sweep_canary_caught", {"fault": "extra"}, 1),
        ("cutover_sweep_trusted", {}, 0),
        ("cutover_drift_rows", {"cause": "unexplained"}, 2),
        ("cutover_rows", {"store": "legacy", "kind": "team"}, 4),
        ("cutover_divergent_rows", {"class": "content"}, 7),
        ("cutover_divergent_rows", {"class": "namespace"}, 0),
        ("cutover_divergence_first_seen_timestamp_seconds", {}, 12),
        ("cutover_findings_settled_total", {"action": "repair"}, 7),
        ("cutover_backfill_rows_total", {"outcome": "already"}, 20),
        ("cutover_backfill_rows_total", {"outcome": "copied"}, 300),
        ("cutover_backfill_rows_total", {"outcome": "unchanged"}, 40),
        ("cutover_backfill_remaining_rows", {}, 4500),
        ("cutover_backfill_rate_rows_per_second", {}, 1000),
        ("cutover_backfill_eta_seconds", {}, 4.5),
        ("cutover_backfill_throttled", {"reason": "queue"}, 1),
        ("cutover_task_last_checkpoint_timestamp_seconds", {"task": "backfill"}, 1000),
        ("cutover_gate_check", {"phase": "A0", "check": "database"}, 1),
        ("cutover_gate_check", {"phase": "A0", "check": "schema"}, 0),
        ("cutover_kv_switch", {}, 1),
        ("cutover_soak_green_seconds", {}, 60),
        ("cutover_soak_required_seconds", {}, 3600),
        ("cutover_soak_resets_total", {}, 1),
        ("cutover_rollback_last_rehearsal_timestamp_seconds", {}, 77),
        ("cutover_rollback_last_rehearsal_duration_seconds", {}, 1.5),
        ("cutover_rollback_last_rehearsal_ok", {}, 1),
        ("cutover_task_failures_total", {"task": "reconciler.claim"}, 1),
    ]
    for name, labels, wanted in expected:
        assert value(metrics, name, **t, **labels) == wanted, (name, labels)


def test_known_label_sets_start_at_zero(metrics: Metrics, observe: MetricsObserver) -> None:
    zero = [
        ("cutover_requests_total", {"face": "plugin", "operation": "commit", "outcome": "refused"}),
        ("cutover_refused_total", {"reason": "plugin_unhealthy"}),
        ("cutover_bypass_writes_total", {"writer": "other"}),
        ("cutover_marks", {"origin": "write"}),
        ("cutover_phase", {"phase": "A3"}),
        ("cutover_store_writes_total", {"store": "plugin", "outcome": "ambiguous"}),
    ]
    for tenant in ("acme", "globex"):
        for name, labels in zero:
            assert value(metrics, name, tenant=tenant, **labels) == 0, (name, labels)
        assert value(metrics, "cutover_breaker_state", tenant=tenant, state="closed") == 1


def test_openmetrics_is_negotiated_and_only_there_are_exemplars(metrics: Metrics, observe: MetricsObserver) -> None:
    observe(events.RequestFinished("acme", "plugin", "commit", "ok", 0.1, TRACE))
    observe(events.RequestFinished("acme", "plugin", "commit", "ok", 5.0, "not-a-trace-id\n" * 20))
    observe(events.StoreCalled("acme", "plugin", "commit", "ok", 0.1, TRACE))
    plain_type, plain = metrics.render("text/plain")
    open_type, rich = metrics.render("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert plain_type.startswith("text/plain")
    assert TRACE not in plain.decode()
    assert open_type.startswith("application/openmetrics-text")
    marked = [line for line in rich.decode().splitlines() if f'# {{trace_id="{TRACE}"}}' in line]
    assert {line.partition("_bucket")[0] for line in marked} == {
        "cutover_request_duration_seconds",
        "cutover_store_duration_seconds",
    }
    assert "not-a-trace-id" not in rich.decode()
    assert rich.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=x", "text/plain;version=..", "\0"]
)
def test_any_accept_header_gets_an_answer(metrics: Metrics, observe: MetricsObserver, accept: str) -> None:
    content_type, body = metrics.render(accept)
    assert content_type
    assert b"cutover_build_info" in body


def test_drift_and_rows_forget_what_the_last_sweep_did_not_see(metrics: Metrics, observe: MetricsObserver) -> None:
    for rows in ({("plugin", "team"): 4, ("plugin", "exotic"): 1}, {}):
        observe(events.SweepFinished("acme", "count", "clean", 0.1, 1.0, DriftLedger(0, 0, 0, 0, 0, 0, rows)))
    assert value(metrics, "cutover_rows", tenant="acme", store="plugin", kind="team") == 0
    assert value(metrics, "cutover_rows", tenant="acme", store="plugin", kind="other") == 0


COUNTED = DriftLedger(9, 5, 1, 1, 1, 1, {("legacy", "team"): 4})


def counted(metrics: Metrics) -> tuple[float | None, float | None, float | None]:
    """Unexplained rows, rows of a store, and when a count sweep last had a result."""
    return (
        value(metrics, "cutover_drift_rows", tenant="acme", cause="unexplained"),
        value(metrics, "cutover_rows", tenant="acme", store="legacy", kind="team"),
        value(metrics, "cutover_sweep_last_success_timestamp_seconds", tenant="acme", kind="count"),
    )


def test_nobody_is_told_that_nothing_is_unexplained_before_anything_was_counted(
    metrics: Metrics, observe: MetricsObserver
) -> None:
    assert counted(metrics) == (None, None, 0)
    observe(events.SweepFinished("acme", "count", "drift", 0.1, 1.0, COUNTED))
    assert counted(metrics) == (2, 4, 1000)
    assert value(metrics, "cutover_drift_rows", tenant="globex", cause="unexplained") is None


def test_where_nothing_can_be_counted_no_number_stands_and_the_sweep_is_no_success(
    metrics: Metrics, observe: MetricsObserver
) -> None:
    """A plugin behind its contract alone: the sweep ends well, with a coverage of 0."""
    observe(events.SweepFinished("acme", "count", "partial", 0.1, 0.0, None))
    assert counted(metrics) == (None, None, 0)
    observe(events.SweepFinished("acme", "count", "drift", 0.1, 1.0, COUNTED))
    observe(events.SweepFinished("acme", "count", "partial", 0.1, 0.0, None))
    assert counted(metrics) == (None, None, 1000)
    assert value(metrics, "cutover_sweep_coverage_ratio", tenant="acme", kind="count") == 0
    observe(events.SweepFinished("acme", "count", "drift", 0.1, 1.0, COUNTED))
    assert counted(metrics) == (2, 4, 1000), "they come back"


def test_a_count_sweep_that_failed_leaves_the_numbers_of_the_last_one(
    metrics: Metrics, observe: MetricsObserver
) -> None:
    """Decision 0025: old values stay, their age is a metric."""
    observe(events.SweepFinished("acme", "count", "drift", 0.1, 1.0, COUNTED))
    observe(events.SweepFinished("acme", "count", "failed", 0.1, 0.0, None))
    assert counted(metrics) == (2, 4, 1000)


def test_another_daemons_count_is_told_from_the_record_and_not_counted_as_a_sweep(
    metrics: Metrics, observe: MetricsObserver
) -> None:
    observe(events.SweepsRecorded("acme", {"count": events.RecordedSweep(66.0, 1.0)}, None, COUNTED))
    assert counted(metrics) == (2, 4, 66)
    assert value(metrics, "cutover_sweeps_total", tenant="acme", kind="count", outcome="drift") == 0
    assert value(metrics, "cutover_sweep_duration_seconds_count", tenant="acme", kind="count") == 0
    observe(events.SweepsRecorded("acme", {}, None))
    assert counted(metrics) == (2, 4, 66), "a record that says nothing takes nothing back"
    observe(events.SweepsRecorded("acme", {}, None, uncounted=True))
    assert counted(metrics) == (None, None, 66)


def test_whether_a_digest_sweep_is_trusted_is_told_from_the_first_one_on(
    metrics: Metrics, observe: MetricsObserver
) -> None:
    def told() -> tuple[float | None, float | None]:
        return (
            value(metrics, "cutover_sweep_trusted", tenant="acme"),
            value(metrics, "cutover_sweep_canary_caught", tenant="acme", fault="missing"),
        )

    assert told() == (None, None)
    observe(events.SweepsRecorded("acme", {}, events.RecordedCanary({"missing": 2}, {"missing": 1}, False)))
    assert told() == (0, 0.5)
    observe(events.SweepsRecorded("acme", {}, events.RecordedCanary({"missing": 2}, {"missing": 2}, True)))
    assert told() == (1, 1)


def test_marks_that_nobody_is_to_deliver_now_have_no_age(metrics: Metrics, observe: MetricsObserver) -> None:
    observe(events.MarkCounts("acme", {"backfill": 5}, 40.0, 0, 0, 0))
    assert value(metrics, "cutover_marks_oldest_timestamp_seconds", tenant="acme") == 960
    observe(events.MarkCounts("acme", {"backfill": 5}, None, 0, 0, 0))
    assert value(metrics, "cutover_marks_oldest_timestamp_seconds", tenant="acme") == 0
    assert value(metrics, "cutover_marks", tenant="acme", origin="backfill") == 5


def test_a_failed_sweep_is_no_success(metrics: Metrics, observe: MetricsObserver) -> None:
    observe(events.SweepFinished("acme", "count", "failed", 0.1, 0.0, None))
    assert value(metrics, "cutover_sweep_last_success_timestamp_seconds", tenant="acme", kind="count") == 0


def test_two_registries_do_not_mix(metrics: Metrics, observe: MetricsObserver) -> None:
    other = Metrics("0.0.1")
    MetricsObserver(other, ["acme"])(events.RequestRefused("acme", "backlog"))
    assert value(metrics, "cutover_refused_total", tenant="acme", reason="backlog") == 0


async def test_the_loop_is_watched(metrics: Metrics) -> None:
    count = "cutover_event_loop_lag_seconds_count"
    assert value(metrics, count) == 0
    with pytest.raises(TimeoutError):  # it never ends by itself
        async with asyncio.timeout(0.2):
            await metrics.watch_loop(interval=0.001)
    assert (value(metrics, count) or 0) >= 1


def sources(*patterns: str) -> str:
    package = Path(__file__).parents[2] / "cutover"
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(package.glob(pattern)))


def test_every_operation_of_a_face_has_its_own_series() -> None:
    def operations(file: str) -> set[str]:
        return set(re.findall(r'Route\(\s*"[A-Z]+",\s*[^,]+(?:\{[^}]*\}[^,]*)?,\s*"(\w+)"', sources(f"http/{file}.py")))

    assert operations("plugin_face") == set(OPERATIONS["plugin"])
    assert operations("memories_face") | {"pass_through"} == set(OPERATIONS["memories"])
    assert operations("mcp") | set(TOOLS) == set(OPERATIONS["mcp"])


def test_every_reason_for_a_refusal_has_its_own_series() -> None:
    used = set(re.findall(r'Refused\(\s*"(\w+)"', sources("domain/*.py", "stores/*.py", "engine/*.py", "http/*.py")))
    assert used
    assert used <= set(REFUSALS)


def test_every_origin_of_a_mark_has_its_own_series() -> None:
    checks = re.findall(r"origin +text not null check \(origin in \(([^)]*)\)", sources("migrations/*.up.sql"))
    assert checks
    assert {origin.strip(" '") for origin in checks[-1].split(",")} == set(MARK_ORIGINS)


def test_loosened_thresholds_are_told_one_by_one_and_every_check_of_every_gate_is_known() -> None:
    metrics = Metrics("1")
    observer = MetricsObserver(metrics, ["t"])
    value = metrics.registry.get_sample_value
    assert value("cutover_gate_threshold_loosened", {"tenant": "t", "threshold": "soak"}) == 0
    observer(events.ThresholdsTold("t", {name: name == "soak" for name in THRESHOLDS}))
    for name in THRESHOLDS:
        seen = value("cutover_gate_threshold_loosened", {"tenant": "t", "threshold": name})
        assert seen == int(name == "soak")
    for phase in Phase:
        for check in check_ids(phase):
            assert value("cutover_gate_check", {"tenant": "t", "phase": phase.value, "check": check}) == 0
        observer(events.GateJudged("t", phase, dict.fromkeys(check_ids(phase), True)))
        for check in check_ids(phase):
            assert value("cutover_gate_check", {"tenant": "t", "phase": phase.value, "check": check}) == 1
    assert "archive" in check_ids(Phase.A4)
