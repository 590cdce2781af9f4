"""Gates are pure: every check is driven to its fail and back, and every fail says why and what to run."""

from dataclasses import replace
from typing import Any

import pytest

from cutover.domain.check import Status, report, worst
from cutover.domain.evidence import DigestEvidence, Evidence
from cutover.domain.gate import every_check, gate, invariants, readiness_for, serving
from cutover.domain.phase import Phase

GOOD = Evidence(
    phase=Phase.A0,
    database_reachable=True,
    schema_version=3,
    schema_expected=3,
    plugin_up=True,
    plugin_version="1.4.2",
    plugin_capabilities=frozenset({"fts", "ttl"}),
    plugin_database_reachable=True,
    plugin_schema_known=True,
    stray_rows=0,
    canary_ok=True,
    marks=0,
    unexplained=0,
    sweep_age_seconds=30.0,
    backfill_complete=True,
    backfill_remaining=0,
    quarantined=0,
    digest=DigestEvidence("clean", True, 1.0, 60.0),
    recall_overlap=0.9995,
    recall_visibility=0,
    recall_live=40,
    recall_age_seconds=300.0,
)
FAULTS = {
    "database": {"database_reachable": False, "database_why": "connection refused"},
    "schema": {"schema_version": 2},
    "plugin": {"plugin_up": False, "plugin_why": "connection refused"},
    "plugin_version": {"plugin_version": "2.0.0"},
    "plugin_capabilities": {"plugin_capabilities": frozenset({"ttl"})},
    "plugin_schema": {"plugin_schema_known": False},
    "strays": {"stray_rows": 4},
    "canary": {"canary_ok": False, "canary_why": "not found after the write"},
    "marks": {"marks": 5, "oldest_mark_seconds": 90.0},
    "unexplained_drift": {"unexplained": -2},
    "sweep_fresh": {"sweep_age_seconds": 999.0},
    "backfill": {"backfill_complete": False, "backfill_remaining": 12},
    "quarantine": {"quarantined": 3, "quarantine_acknowledged": 2},
    "digest": {"digest": DigestEvidence("divergent", True, 1.0, 60.0)},
    "recall": {"recall_overlap": 0.9989},
}
UNKNOWN = {
    "schema": {"schema_version": None},
    "plugin_version": {"plugin_version": None},
    "canary": {"canary_ok": None},
    "strays": {"stray_rows": None},
    "marks": {"marks": None},
    "unexplained_drift": {"unexplained": None},
    "sweep_fresh": {"sweep_age_seconds": None},
    "backfill": {"backfill_complete": False, "backfill_remaining": None},
    "quarantine": {"quarantined": None},
    "digest": {"digest": None},
    "recall": {"recall_overlap": None},
}
GATE_CHECKS = {
    Phase.A1: {
        "database",
        "schema",
        "plugin",
        "plugin_version",
        "plugin_capabilities",
        "plugin_schema",
        "strays",
        "canary",
    },
    Phase.A2: {"database", "schema", "plugin", "marks", "unexplained_drift", "sweep_fresh"},
    Phase.A3: {
        "database",
        "schema",
        "plugin",
        "backfill",
        "quarantine",
        "unexplained_drift",
        "sweep_fresh",
        "marks",
        "digest",
        "recall",
    },
}
BEFORE = {Phase.A1: Phase.A0, Phase.A2: Phase.A1, Phase.A3: Phase.A2}


@pytest.mark.parametrize("target", GATE_CHECKS)
def test_gate_opens_on_good_evidence(target: Phase) -> None:
    checks = gate(target, replace(GOOD, phase=BEFORE[target]))
    assert {check.id for check in checks} == GATE_CHECKS[target]
    assert worst(check.status for check in checks) is Status.PASS
    assert all(check.next == "" for check in checks)


@pytest.mark.parametrize("faults", [FAULTS, UNKNOWN], ids=["bad", "unknown"])
@pytest.mark.parametrize("target", GATE_CHECKS)
def test_every_fault_closes_exactly_its_own_check(target: Phase, faults: dict[str, dict[str, object]]) -> None:
    for name, fault in faults.items():
        checks = {check.id: check for check in gate(target, replace(GOOD, phase=BEFORE[target], **fault))}  # type: ignore[arg-type]
        failed = {check.id for check in checks.values() if check.status is Status.FAIL}
        assert failed == ({name} & GATE_CHECKS[target])
        for check_id in failed:
            assert checks[check_id].output
            assert checks[check_id].next
            assert checks[check_id].threshold


def test_a_contract_only_plugin_warns_but_does_not_close_the_gate() -> None:
    evidence = replace(GOOD, plugin_database_reachable=False, plugin_schema_known=None, stray_rows=None)
    verdict = report("acme", Phase.A0, Phase.A1, gate(Phase.A1, evidence))
    assert verdict.status is Status.WARN
    assert verdict.http_status == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"recall_visibility": 1},
        {"recall_visibility": None},
        {"recall_age_seconds": 2701.0},
        {"recall_age_seconds": None},
    ],
)
def test_a_leak_or_an_old_recall_sweep_closes_the_gate(fault: dict[str, Any]) -> None:
    checks = {c.id: c for c in gate(Phase.A3, replace(GOOD, phase=Phase.A2, **fault))}
    assert checks["recall"].status is Status.FAIL
    assert checks["recall"].next == "cutover sweep run --kind recall"


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (DigestEvidence("clean", False, 1.0, 60.0), "missed planted faults"),
        (DigestEvidence("clean", True, 0.999, 60.0), "99.9%"),
        (DigestEvidence("clean", True, 1.0, 129_601.0), "36.0 h ago"),
        (DigestEvidence("partial", True, 1.0, 60.0), "was partial"),
        (DigestEvidence("untrusted", False, 1.0, 60.0), "missed planted faults"),
        (DigestEvidence("clean", True, 1.0, 60.0, open_findings=1), "1 findings are open"),
        (DigestEvidence("divergent", True, 1.0, 60.0), "was divergent"),
    ],
)
def test_only_a_whole_clean_trusted_recent_digest_sweep_is_evidence(evidence: DigestEvidence, word: str) -> None:
    check = {c.id: c for c in gate(Phase.A3, replace(GOOD, phase=Phase.A2, digest=evidence))}["digest"]
    assert check.status is Status.FAIL
    assert word in check.output


def test_recall_without_live_queries_warns() -> None:
    checks = {c.id: c for c in gate(Phase.A3, replace(GOOD, phase=Phase.A2, recall_live=0))}
    assert (checks["recall"].status, checks["recall"].next) == (Status.WARN, "")


def test_young_marks_of_live_traffic_do_not_close_a_gate() -> None:
    checks = {c.id: c for c in gate(Phase.A2, replace(GOOD, phase=Phase.A1, marks=40, oldest_mark_seconds=0.4))}
    assert checks["marks"].status is Status.PASS


@pytest.mark.parametrize(
    ("phase", "target"),
    [(Phase.A0, Phase.A2), (Phase.A0, Phase.A3), (Phase.A1, Phase.A3)],
)
def test_a_phase_two_steps_away_names_the_one_in_between(phase: Phase, target: Phase) -> None:
    checks = gate(target, replace(GOOD, phase=phase))
    assert checks[0].id == "step"
    assert checks[0].status is Status.FAIL
    assert checks[0].next == f"cutover phase promote A{phase.order + 1}"


def test_unconfirmed_phase_closes_every_gate() -> None:
    for target in GATE_CHECKS:
        assert worst(c.status for c in gate(target, replace(GOOD, phase=None))) is Status.FAIL


def test_dropping_is_not_offered() -> None:
    assert worst(c.status for c in gate(Phase.A4, replace(GOOD, phase=Phase.A3))) is Status.FAIL


def test_phases_at_or_below_the_current_one_show_their_invariants() -> None:
    evidence = replace(GOOD, phase=Phase.A2, backfill_complete=False, backfill_remaining=7)
    for phase in (Phase.A0, Phase.A1, Phase.A2):
        assert readiness_for(phase, evidence) == invariants(phase, evidence)
        assert worst(c.status for c in readiness_for(phase, evidence)) is Status.PASS
    assert worst(c.status for c in readiness_for(Phase.A3, evidence)) is Status.FAIL


def test_serving_is_not_red_for_a_closed_gate_but_is_for_refusal_draining_and_a_dead_plugin() -> None:
    closed_gate = replace(GOOD, phase=Phase.A1, unexplained=99, marks=9, oldest_mark_seconds=999.0)
    assert worst(c.status for c in serving(closed_gate)) is Status.PASS
    faults: tuple[dict[str, Any], ...] = (
        {"refusing": "breaker open"},
        {"draining": True},
        {"plugin_up": False},
        {"phase": None},
        {"database_reachable": False},
    )
    for fault in faults:
        assert worst(c.status for c in serving(replace(GOOD, **{"phase": Phase.A1, **fault}))) is Status.FAIL


def test_a_dead_plugin_leaves_a0_serving() -> None:
    assert worst(c.status for c in serving(replace(GOOD, phase=Phase.A0, plugin_up=False))) is Status.PASS


def test_health_json_has_the_promised_members() -> None:
    body = report("acme", Phase.A1, Phase.A2, gate(Phase.A2, replace(GOOD, phase=Phase.A1))).as_json(
        "2026-01-01T00:00:00Z"
    )
    assert body["status"] == "pass"
    assert (body["tenant"], body["phase"], body["target"]) == ("acme", "A1", "A2")
    for made in body["checks"].values():
        assert set(made[0]) == {"status", "observedValue", "observedUnit", "threshold", "time", "output", "next"}
    assert "target" not in report("acme", Phase.A1, None, ()).as_json("2026-01-01T00:00:00Z")


def test_every_check_is_addressable_by_its_id() -> None:
    known = every_check(GOOD)
    assert set(FAULTS) <= set(known)
    assert {"phase", "traffic", "draining"} <= set(known)
    assert all(known[check_id].id == check_id for check_id in known)
