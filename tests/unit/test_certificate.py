"""Certificates: any single change voids one and says why; who may approve (decision 0018)."""

import itertools
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from cutover.domain.certificate import (
    APPROVALS,
    Certificate,
    CheckResult,
    Situation,
    SweepResult,
    approval_refused,
    approvals_missing,
    hash_of,
    parse,
    request_refused,
    void_reason,
)
from cutover.domain.check import Check, Status
from cutover.domain.phase import Phase
from tests.certificates import ISSUED, certificate

CHECKS = (
    Check("database", Status.PASS, True, "boolean", "true", "it answers"),
    Check("plugin", Status.WARN, 1.7, "seconds", "<= 2", "it is slow"),
)
NOW = Situation(
    tenant="acme",
    phase=Phase.A0,
    epoch=1,
    configuration="c0ffee",
    sweeps=(SweepResult("count", "run-2", {"outcome": "clean", "unexplained": 0}),),
    checks=CHECKS,
    thresholds={"soak": 60.0},
    now=ISSUED + timedelta(minutes=5),
)


def test_nothing_that_matters_changed_and_it_is_good() -> None:
    """A later sweep that found the same, and measured values that moved, void nothing."""
    assert void_reason(certificate(), NOW) is None


VOIDING: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"now": ISSUED + timedelta(hours=1)}, "expired at 2026-03-01T13:00:00"),
    "another tenant": ({"tenant": "globex"}, "globex"),
    "epoch": ({"epoch": 2}, "the phase changed"),
    "phase": ({"phase": Phase.A1}, "the phase changed"),
    "phase not confirmed": ({"phase": None, "epoch": None}, "not confirmed"),
    "configuration": ({"configuration": "decaf"}, "configuration changed"),
    "threshold": ({"thresholds": {"soak": 59.0}}, "thresholds changed since it was issued: soak"),
    "another threshold": ({"thresholds": {"soak": 60.0, "window": 1.0}}, "window"),
    "a threshold gone": ({"thresholds": {}}, "soak"),
    "sweep outcome": (
        {"sweeps": (SweepResult("count", "run-2", {"outcome": "drift", "unexplained": 3}),)},
        "a newer count sweep found something else: outcome drift, unexplained 3",
    ),
    "sweep detail": (
        {"sweeps": (SweepResult("count", "run-2", {"outcome": "clean", "unexplained": 1}),)},
        "unexplained 1, not outcome clean, unexplained 0",
    ),
    "sweep of another kind": (
        {"sweeps": (*NOW.sweeps, SweepResult("digest", "run-3", {"outcome": "clean"}))},
        "a digest sweep has ended since",
    ),
    "sweep gone": ({"sweeps": ()}, "no longer on record"),
    "a passed check fails": (
        {"checks": (replace(CHECKS[0], status=Status.FAIL, output="it does not answer"), CHECKS[1])},
        "the check database was pass and is fail now: it does not answer",
    ),
    "a passed check warns": ({"checks": (replace(CHECKS[0], status=Status.WARN), CHECKS[1])}, "was pass and is warn"),
    "a warning fails": ({"checks": (CHECKS[0], replace(CHECKS[1], status=Status.FAIL))}, "was warn and is fail"),
    "a new check": ({"checks": (*CHECKS, replace(CHECKS[0], id="new"))}, "a check that it does not speak of: new"),
    "a check gone": ({"checks": CHECKS[:1]}, "no longer has the check plugin"),
}


@pytest.mark.parametrize("change", sorted(VOIDING))
@pytest.mark.parametrize("override", [None, "because"])
def test_any_single_change_voids_it_with_the_reason(change: str, override: str | None) -> None:
    changed, words = VOIDING[change]
    reason = void_reason(certificate(override=override), replace(NOW, **changed))
    assert reason is not None
    assert words in reason


def test_it_is_used_once() -> None:
    reason = void_reason(certificate(), NOW, used_in=2)
    assert reason is not None
    assert "used already: it began epoch 2" in reason


@pytest.mark.parametrize(("then", "now"), list(itertools.product(Status, Status)))
def test_a_check_may_stay_or_get_better_and_nothing_else(then: Status, now: Status) -> None:
    """With an override, a check that failed when it was approved may fail still."""
    made = certificate(checks=(CheckResult("database", then, True, "boolean", "true"),), override="because")
    worse = [Status.PASS, Status.WARN, Status.FAIL].index(now) > [Status.PASS, Status.WARN, Status.FAIL].index(then)
    reason = void_reason(made, replace(NOW, checks=(replace(CHECKS[0], status=now),)))
    assert (reason is not None) == worse


@pytest.mark.parametrize(
    ("unit", "threshold", "then", "now", "good"),
    [
        ("rows", "= 0", 1, 1, True),
        ("rows", "= 0", 5, 1, True),
        ("rows", "= 0", 1, 2, False),
        ("rows", "= 0", 1, 5001, False),
        ("rows", "<= 100", 200, 150, True),
        ("rows", "<= 100", 200, 201, False),
        ("ratio", ">= 0.995", 0.9, 0.95, True),
        ("ratio", ">= 0.995", 0.9, 0.89, False),
        ("seconds", "<= 60", 100, 400.5, True),  # 300 s later, it is so much older
        ("seconds", "<= 60", 100, 402, False),
        ("seconds", ">= 60", 10, 9, False),
        ("outcome", "clean", "divergent", "divergent", True),
        ("outcome", "clean", "partial", "divergent", False),
        ("names", "none", ("a",), ("a",), True),
        ("names", "none", ("a",), ("a", "b"), False),
        ("rows", "= 0", None, 1, False),
        ("rows", "= 0", 1, None, False),
        ("rows", "no more than usual", 1, 0, False),
    ],
)
def test_a_check_that_failed_may_fail_at_most_as_badly(
    unit: str, threshold: str, then: Any, now: Any, good: bool
) -> None:
    """What the approvers of an override have seen is a number, not only that it was too high."""
    failed = Check("x", Status.FAIL, then, unit, threshold, "it fails")
    made = certificate(checks=(CheckResult.of(failed),), override="because")
    reason = void_reason(made, replace(NOW, checks=(replace(failed, observed_value=now),)))
    assert (reason is None) == good
    if reason is not None:
        assert "fails in another way than was approved" in reason


def test_it_expires_at_the_moment_it_says_and_not_before() -> None:
    made = certificate()
    assert void_reason(made, replace(NOW, now=made.expires_at - timedelta(microseconds=1))) is None
    assert void_reason(made, replace(NOW, now=made.expires_at)) is not None


# -- the text and its hash ---------------------------------------------------------------------------------------------


def test_the_hash_is_over_the_text_and_the_text_comes_back() -> None:
    for made in (certificate(), certificate(override="würde sonst warten"), certificate(sweeps=(), checks=())):
        assert made.hash == sha256(made.text().encode()).hexdigest() == hash_of(made.text())
        again = parse(made.text())
        assert again == made
        assert again.text() == made.text()


CHANGED: dict[str, Any] = {
    "tenant": "globex",
    "target": Phase.A2,
    "phase": Phase.A1,
    "epoch": 2,
    "configuration": "decaf",
    "sweeps": (),
    "checks": (),
    "thresholds": {},
    "loosened": (),
    "override": "because",
    "requested_by": "grace",
    "issued_at": ISSUED + timedelta(seconds=1),
    "expires_at": ISSUED + timedelta(hours=2),
}


def test_every_field_is_hashed() -> None:
    assert set(CHANGED) == set(Certificate.__slots__)
    hashes = {certificate(**{name: value}).hash for name, value in CHANGED.items()}
    assert len(hashes | {certificate().hash}) == len(CHANGED) + 1


@pytest.mark.parametrize(
    ("measured", "kept"),
    [
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, 2), [1, 2]),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (Phase.A1, "A1"),
        ({1: (2,)}, {"1": [2]}),
        (None, None),
        (True, True),
        (ISSUED, str(ISSUED)),
    ],
    ids=["set", "tuple", "infinite", "nan", "enum", "mapping", "none", "bool", "other"],
)
def test_whatever_a_check_measured_can_be_kept(measured: Any, kept: Any) -> None:
    result = CheckResult.of(Check("x", Status.PASS, measured, "unit", "threshold", "why"))
    assert result.measured == kept
    made = certificate(checks=(result,))
    assert parse(made.text()).checks == (result,)


# -- approvals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Phase.A1, Phase.A2, Phase.A3, Phase.A4])
@pytest.mark.parametrize("override", [None, "because"])
def test_a3_and_a4_and_every_override_need_two_approvals(target: Phase, override: str | None) -> None:
    made = certificate(target=target, override=override)
    needed = override is not None or target in (Phase.A3, Phase.A4)
    assert made.approvals_needed == (APPROVALS if needed else 0)
    assert (approval_refused(made, (), "grace") is None) == needed


PEOPLE = ("ada", "grace", "edsger")


@pytest.mark.parametrize("approvers", [p for n in range(4) for p in itertools.permutations(PEOPLE, n)], ids=str)
def test_approvals_are_by_two_people_other_than_the_requester(approvers: tuple[str, ...]) -> None:
    made = certificate(target=Phase.A3)  # by ada
    others = set(approvers) - {"ada"}
    assert approvals_missing(made, approvers) == max(0, 2 - len(others))
    for who in PEOPLE:
        refused = approval_refused(made, approvers, who)
        assert (refused is not None) == (who == "ada" or who in approvers), who
        if who == "ada":
            assert refused is not None
            assert "requester cannot approve" in refused
        elif who in approvers:
            assert refused is not None
            assert "has approved it already" in refused


def test_the_shared_token_is_nobody_who_could_approve() -> None:
    refused = approval_refused(certificate(target=Phase.A3), (), "admin")
    assert refused is not None
    assert "a person's own token" in refused


def test_nobody_counts_twice() -> None:
    assert approvals_missing(certificate(target=Phase.A3), ["grace", "grace"]) == 1


def test_what_failed_is_told() -> None:
    failing = CheckResult("digest", Status.FAIL, None, "", "")
    assert certificate(checks=(failing, CheckResult("plugin", Status.WARN, None, "", ""))).failed == ("digest",)


@pytest.mark.parametrize("target", [Phase.A1, Phase.A2, Phase.A3, Phase.A4])
@pytest.mark.parametrize("override", [None, "because"])
def test_who_asked_with_the_shared_token_cannot_approve_with_the_own_one(target: Phase, override: str | None) -> None:
    needed = override is not None or target in (Phase.A3, Phase.A4)
    assert (request_refused(target, override, "admin") is not None) == needed
    assert request_refused(target, override, "ada") is None
    refused = approval_refused(certificate(target=target, override=override, requested_by="admin"), (), "ada")
    assert refused is not None
    if needed:
        assert "nobody knows who its requester is" in refused
