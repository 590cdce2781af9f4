"""Which checks a gate is made of, what else the three questions of readiness answer, and how a report is written."""

from dataclasses import replace
from typing import Any

import pytest

from cutover.domain.check import Status, report, worst
from cutover.domain.evidence import FreezeEvidence
from cutover.domain.gate import check_ids, every_check, gate, invariants, notes, readiness_for, serving
from cutover.domain.phase import Phase
from tests.gate_scene import BEFORE, GOOD, on_the_way_to

GATES = {
    Phase.A0: {"database", "schema"},
    Phase.A1: {
        *("database", "schema", "plugin", "plugin_healthy", "plugin_version", "plugin_capabilities", "pgvector"),
        *("plugin_schema", "search_path", "strays", "canary", "plugin_home", "thresholds"),
    },
    Phase.A2: {
        *("database", "schema", "plugin", "shadow_clean", "unexplained_drift", "sweep_fresh", "findings", "marks"),
        *("write_errors", "capture", "thresholds"),
    },
    Phase.A3: {
        *("database", "schema", "plugin", "backfill", "quarantine", "marks", "unexplained_drift", "sweep_fresh"),
        *("digest", "recall", "bypass_writers", "rehearsal", "capture", "thresholds"),
    },
    Phase.A4: {
        *("database", "schema", "plugin", "freeze", "soak", "unexplained_drift", "sweep_fresh", "digest", "quarantine"),
        *("marks", "capture", "foreign_access", "dependants", "archive", "thresholds"),
    },
}


@pytest.mark.parametrize("target", list(Phase))
def test_a_gate_is_made_of_these_checks_each_once(target: Phase) -> None:
    assert len(check_ids(target)) == len(set(check_ids(target)))
    assert set(check_ids(target)) == GATES[target]


@pytest.mark.parametrize("target", BEFORE)
def test_gate_opens_on_good_evidence(target: Phase) -> None:
    checks = gate(target, on_the_way_to(target))
    assert tuple(check.id for check in checks) == check_ids(target)
    assert worst(check.status for check in checks) is Status.PASS
    assert all(check.next == "" for check in checks)


@pytest.mark.parametrize("target", BEFORE)
def test_a_contract_only_plugin_warns_where_nobody_can_look(target: Phase) -> None:
    """What closes A3 for it is a digest sweep that could not look at every memory."""
    evidence = replace(on_the_way_to(target), contract_only=True, tables=None, unexplained=None)
    checks = gate(target, evidence)
    assert worst(check.status for check in checks) is Status.WARN


@pytest.mark.parametrize(
    ("phase", "target"),
    [(Phase.A0, Phase.A2), (Phase.A0, Phase.A3), (Phase.A0, Phase.A4), (Phase.A1, Phase.A3), (Phase.A2, Phase.A4)],
)
def test_a_phase_two_steps_away_names_the_one_in_between(phase: Phase, target: Phase) -> None:
    checks = gate(target, replace(GOOD, phase=phase))
    assert checks[0].id == "step"
    assert checks[0].status is Status.FAIL
    assert checks[0].next == f"cutover phase check A{phase.order + 1}"


def test_unconfirmed_phase_closes_every_gate() -> None:
    for target in GATES:
        checks = gate(target, replace(GOOD, phase=None))
        assert {check.id for check in checks if check.status is Status.FAIL} == {"phase"}


@pytest.mark.parametrize("phase", list(Phase))
def test_phases_at_or_below_the_current_one_show_their_invariants(phase: Phase) -> None:
    closing: dict[str, Any] = {"plugin_healthy_seconds": None, "shadow": None, "backfill_complete": False, "soak": None}
    evidence = replace(GOOD, phase=phase, **closing)
    for target in Phase:
        if target.order <= phase.order:
            assert readiness_for(target, evidence) == invariants(target, evidence)
            assert worst(c.status for c in readiness_for(target, evidence)) is Status.PASS
        else:
            assert readiness_for(target, evidence) == gate(target, evidence)
            assert worst(c.status for c in readiness_for(target, evidence)) is Status.FAIL


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3, Phase.A4])
@pytest.mark.parametrize("freeze", [None, FreezeEvidence(True, False, "the trigger is gone")], ids=["unknown", "gone"])
def test_a_freeze_that_is_not_as_the_phase_asks_turns_its_invariants_red(
    phase: Phase, freeze: FreezeEvidence | None
) -> None:
    checks = {c.id: c for c in readiness_for(phase, replace(GOOD, phase=phase, freeze=freeze))}
    assert {check.id for check in checks.values() if check.status is Status.FAIL} == {"freeze"}


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
    made = report("acme", Phase.A1, Phase.A2, gate(Phase.A2, on_the_way_to(Phase.A2)))
    body = made.as_json("2026-01-01T00:00:00Z")
    assert body["status"] == "pass"
    assert (body["tenant"], body["phase"], body["target"]) == ("acme", "A1", "A2")
    for check in body["checks"].values():
        assert set(check[0]) == {"status", "observedValue", "observedUnit", "threshold", "time", "output", "next"}
    assert "target" not in report("acme", Phase.A1, None, ()).as_json("2026-01-01T00:00:00Z")
    assert "notes" not in body


@pytest.mark.parametrize("target", list(Phase))
def test_only_a3_and_a4_say_that_two_approvals_are_needed_as_well(target: Phase) -> None:
    made = report("acme", None, target, (), notes(target)).as_json("2026-01-01T00:00:00Z")
    if target in (Phase.A3, Phase.A4):
        assert len(made["notes"]) == 1
        assert made["notes"][0].startswith("two approvals by different people")
        assert made["notes"][0].endswith(f"cutover phase certify {target}")
    else:
        assert "notes" not in made


def test_every_check_is_addressable_by_its_id() -> None:
    known = every_check(GOOD)
    assert set(known) == {*(each for ids in GATES.values() for each in ids), "phase", "traffic", "draining", "drop"}
    assert all(known[check_id].id == check_id for check_id in known)
