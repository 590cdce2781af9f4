"""The breaker: every edge of its diagram, what it admits, how fast it comes back; and the probe's hysteresis."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.domain.breaker import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    Probe,
    ProbeHysteresis,
    ProbePolicy,
    Transition,
)

CLOSED, OPEN, HALF_OPEN, RAMP = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.RAMP


class Recorded:
    """A breaker without jitter, and the transitions it made."""

    def __init__(self, policy: BreakerPolicy | None = None, *, random: float = 0.0) -> None:
        self.seen: list[Transition] = []
        self.breaker = Breaker(policy or BreakerPolicy(), random=lambda: random, on_transition=self.seen.append)

    @property
    def path(self) -> list[tuple[BreakerState, BreakerState]]:
        return [(t.from_, t.to) for t in self.seen]

    def fail_until_open(self, now: float) -> None:
        for _ in range(self.breaker.policy.consecutive_failures):
            self.breaker.record_failure(now)
        assert self.breaker.state is OPEN

    def succeed_into_ramp(self, now: float) -> float:
        """Answer every canary at once, looking every 10 ms. Gives back the time at which the ramp began."""
        while self.breaker.state is not RAMP:
            if self.breaker.wants_canary(now):
                self.breaker.canary_succeeded(now)
            else:
                now += 0.01
        return now


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    recorded = Recorded()
    breaker = recorded.breaker
    for _ in range(3):
        for _ in range(4):
            breaker.record_failure(1.0)
        breaker.record_success(1.0)
    assert breaker.state is CLOSED
    assert breaker.admit(1.0).ok
    for _ in range(5):
        breaker.record_failure(2.0)
    assert recorded.seen == [Transition(CLOSED, OPEN, "5 failures in a row", 2.0)]
    refusal = breaker.admit(2.0)
    assert not refusal.ok
    assert "open" in refusal.reason
    assert 0.25 <= refusal.retry_after <= 1


def test_half_of_the_window_failing_opens_it_but_only_with_enough_calls() -> None:
    recorded = Recorded()
    for call in range(18):
        (recorded.breaker.record_failure if call % 2 else recorded.breaker.record_success)(call / 10)
    assert recorded.breaker.state is CLOSED
    recorded.breaker.record_success(1.9)
    recorded.breaker.record_failure(1.9)
    assert recorded.seen == [Transition(CLOSED, OPEN, "10 of the last 20 requests failed", 1.9)]


def test_the_window_forgets_what_is_older_than_it() -> None:
    recorded = Recorded(BreakerPolicy(consecutive_failures=100, minimum_calls=10, window=10))
    for _ in range(9):
        recorded.breaker.record_failure(0.5)
    for call in range(9):
        recorded.breaker.record_success(11 + call / 10)
    recorded.breaker.record_failure(12.0)
    assert recorded.breaker.state is CLOSED


def test_half_open_admits_no_caller_and_asks_for_one_canary_at_a_time() -> None:
    recorded = Recorded()
    breaker = recorded.breaker
    recorded.fail_until_open(0)
    assert not breaker.wants_canary(0.2)
    assert breaker.wants_canary(0.25)
    assert breaker.state is HALF_OPEN
    assert not breaker.admit(0.25).ok
    assert not breaker.wants_canary(1.0)
    breaker.canary_succeeded(1.0)
    assert breaker.state is HALF_OPEN
    assert not breaker.admit(1.0).ok
    assert breaker.wants_canary(1.0)
    breaker.canary_succeeded(1.0)
    assert breaker.state is RAMP


def test_a_canary_that_is_never_reported_is_replaced() -> None:
    recorded = Recorded()
    recorded.fail_until_open(0)
    assert recorded.breaker.wants_canary(1)
    assert not recorded.breaker.wants_canary(2.9)
    assert recorded.breaker.wants_canary(3)


def test_a_canary_report_without_a_canary_changes_nothing() -> None:
    recorded = Recorded()
    recorded.breaker.canary_failed(0)
    recorded.breaker.canary_succeeded(0)
    recorded.fail_until_open(0)
    recorded.breaker.canary_succeeded(0.1)
    recorded.breaker.canary_failed(0.1)
    assert recorded.path == [(CLOSED, OPEN)]


def test_the_ramp_admits_a_growing_share_and_then_closes() -> None:
    recorded = Recorded()
    recorded.fail_until_open(0)
    began = recorded.succeed_into_ramp(0)
    admitted = [recorded.breaker.admit(began + 0.4 * call / 1000).ok for call in range(1000)]
    quarters = [sum(admitted[first : first + 250]) for first in range(0, 1000, 250)]
    # The share grows from 0.2 to 1 in a straight line: 0.3, 0.5, 0.7, 0.9 on average over the quarters.
    assert quarters == pytest.approx([75, 125, 175, 225], abs=3)
    assert recorded.breaker.admit(began + 0.4).ok
    assert recorded.path == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, RAMP), (RAMP, CLOSED)]


def test_a_failure_in_the_ramp_opens_it_again() -> None:
    recorded = Recorded()
    recorded.fail_until_open(0)
    began = recorded.succeed_into_ramp(0)
    recorded.breaker.record_failure(began + 0.1)
    assert recorded.path[-1] == (RAMP, OPEN)


def test_a_late_outcome_from_before_the_opening_neither_opens_nor_counts() -> None:
    recorded = Recorded()
    breaker = recorded.breaker
    early = breaker.admit(0).generation
    recorded.fail_until_open(0)
    began = recorded.succeed_into_ramp(0)
    breaker.record_failure(began + 0.1, early)
    assert breaker.state is RAMP
    assert breaker.admit(began + 0.4).ok
    for _ in range(50):
        breaker.record_failure(began + 0.5, early)
    assert breaker.state is CLOSED
    late = breaker.admit(began + 0.5).generation
    for _ in range(5):
        breaker.record_failure(began + 0.5, late)
    assert recorded.path[-1] == (CLOSED, OPEN)


def test_each_relapse_waits_longer_up_to_the_cap_and_calm_forgets() -> None:
    recorded = Recorded()
    breaker = recorded.breaker
    now, waits = 0.0, []
    recorded.fail_until_open(now)
    for _ in range(4):
        opened = now
        while not breaker.wants_canary(now):
            now += 0.001
        waits.append(now - opened)
        breaker.canary_failed(now)
    assert waits == pytest.approx([0.25, 0.5, 1, 1], abs=0.01)

    now = recorded.succeed_into_ramp(now) + 1
    assert breaker.admit(now).ok
    recorded.fail_until_open(now + 1)
    assert not breaker.wants_canary(now + 1.9), "a relapse soon after closing remembers the long delay"
    now = recorded.succeed_into_ramp(now + 2) + 1
    assert breaker.admit(now).ok
    recorded.fail_until_open(now + 31)
    assert breaker.wants_canary(now + 31.25)


def test_jitter_only_shortens_the_delay() -> None:
    recorded = Recorded(random=0.999)
    recorded.fail_until_open(0)
    assert not recorded.breaker.wants_canary(0.19)
    assert recorded.breaker.wants_canary(0.21)


@pytest.mark.parametrize("outage", [0.05, 0.3, 0.9, 2.0, 7.7])
def test_traffic_is_back_within_three_seconds_of_the_plugins_return(outage: float) -> None:
    recorded = Recorded()
    breaker = recorded.breaker
    recorded.fail_until_open(0)
    now = 0.0
    while breaker.state is not CLOSED:
        now += 0.01
        if breaker.wants_canary(now):
            # The worst case: a canary that was sent during the outage is only given up after its deadline.
            if now < outage:
                now += 1.0
                breaker.canary_failed(now)
            else:
                breaker.canary_succeeded(now)
        breaker.admit(now)
        assert now < outage + 3


def test_the_probe_can_trip_it_from_outside_once() -> None:
    recorded = Recorded()
    recorded.breaker.trip(1, "the plugin is down")
    recorded.breaker.trip(2, "the plugin is down")
    assert recorded.seen == [Transition(CLOSED, OPEN, "the plugin is down", 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"consecutive_failures": 0},
        {"minimum_calls": 0},
        {"canaries": 0},
        {"failure_ratio": 0.0},
        {"failure_ratio": 1.1},
        {"jitter": 1.0},
        {"ramp_from": 0.0},
        {"first_delay": 0.0},
        {"first_delay": 2.0},
        {"delay_factor": 0.5},
        {"window": 0.0},
        {"ramp": -1.0},
        {"canary_lost_after": -1.0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BreakerPolicy(**wrong)  # type: ignore[arg-type]


CALLS = st.sampled_from(["admit", "ok", "fail", "old_fail", "canary?", "canary_ok", "canary_fail", "trip"])


@given(
    st.lists(st.tuples(CALLS, st.floats(0, 2)), max_size=120),
    st.floats(0, 0.999),
    st.sampled_from([BreakerPolicy(), BreakerPolicy(consecutive_failures=1, canaries=1, ramp=0, jitter=0)]),
)
@settings(max_examples=400, deadline=None)
def test_any_order_of_calls_keeps_the_invariants(
    calls: list[tuple[str, float]], random: float, policy: BreakerPolicy
) -> None:
    # The breaker checks its own invariants at every transition and raises; here: what callers see.
    recorded = Recorded(policy, random=random)
    breaker = recorded.breaker
    now = 0.0
    for call, pause in calls:
        now += pause
        before = len(recorded.seen)
        match call:
            case "admit":
                admission = breaker.admit(now)
                assert admission.ok or (admission.reason and admission.retry_after >= 0)
                assert not (admission.ok and breaker.state in (OPEN, HALF_OPEN))
                assert admission.ok or breaker.state is not CLOSED
            case "ok":
                breaker.record_success(now)
            case "fail":
                breaker.record_failure(now)
            case "old_fail":
                breaker.record_failure(now, -1)
                assert all(t.to is CLOSED for t in recorded.seen[before:])
            case "canary?":
                assert not breaker.wants_canary(now) or breaker.state is HALF_OPEN
            case "canary_ok":
                breaker.canary_succeeded(now)
            case "canary_fail":
                breaker.canary_failed(now)
            case "trip":
                breaker.trip(now, "tripped")
    assert all(earlier.to is later.from_ for earlier, later in pairwise(recorded.seen))
    if recorded.seen:
        assert recorded.seen[-1].to is breaker.state


P, N, R = Probe.OK, Probe.FAILED, Probe.REFUSED


@pytest.mark.parametrize(
    ("probes", "verdicts"),
    [
        ([P, P, P], [None, True, None]),
        ([N, N, N], [None, False, None]),
        ([P, P, N, P, N, P, N, N, P, N, P, P],
         [None, True, None, None, None, None, None, False, None, None, None, True]),
        ([P, N, P, N], [None, None, None, None]),
    ],
)  # fmt: skip
def test_a_probe_verdict_needs_several_in_a_row(probes: list[Probe], verdicts: list[bool | None]) -> None:
    health = ProbeHysteresis(ProbePolicy())
    assert [health.observe(probe) for probe in probes] == verdicts


def test_two_refused_connections_are_down_however_patient_the_policy_is() -> None:
    health = ProbeHysteresis(ProbePolicy(fall=5))
    health.observe(P)
    health.observe(P)
    assert [health.observe(probe) for probe in (R, N, R, R)] == [None, None, None, False]
    assert health.up is False


def test_a_probe_policy_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ProbePolicy(rise=0)
