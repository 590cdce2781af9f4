"""Delays stay under their cap and spread; the budget bounds retries by first tries and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.backoff import RetryBudget, RetryPolicy, delay


def test_the_delay_doubles_up_to_the_cap() -> None:
    assert [delay(attempt, 0.5, 3.0, 0.5) for attempt in (1, 2, 3, 4, 5)] == [0.25, 0.5, 1.0, 1.5, 1.5]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_any_attempt_stays_under_the_cap(attempt: int, random: float) -> None:
    assert 0 <= delay(attempt, 0.1, 30, random) <= 30


@pytest.mark.parametrize(("attempt", "base", "cap"), [(0, 1, 2), (1, 0, 2), (1, 3, 2)])
def test_a_delay_that_makes_no_sense_is_refused(attempt: int, base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="attempt must be"):
        delay(attempt, base, cap, 0.5)


def test_the_reserve_is_spent_once_and_then_time_earns() -> None:
    budget = RetryBudget(RetryPolicy(share=0, per_second=2, reserve=3), now=0)
    assert [budget.take(0) for _ in range(4)] == [True, True, True, False]
    assert budget.wait(0) == pytest.approx(0.5)
    assert not budget.take(0.4)
    assert budget.wait(0.5) == 0
    assert budget.take(0.5)
    assert not budget.take(0.5)
    assert [budget.take(1000) for _ in range(4)] == [True, True, True, False], "no more than the reserve is kept"


def test_first_tries_earn_a_share() -> None:
    budget = RetryBudget(RetryPolicy(share=0.25, per_second=0, reserve=1), now=0)
    assert budget.take(0)
    assert budget.wait(0) == float("inf")
    for _ in range(4):
        assert not budget.take(0)
        budget.first_try(0)
    assert budget.take(0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=200))
def test_retries_never_exceed_what_was_earned(calls: list[tuple[bool, float]]) -> None:
    policy = RetryPolicy(share=0.2, per_second=1, reserve=5)
    budget, now, first, retries = RetryBudget(policy, now=0), 0.0, 0, 0
    for retry, pause in calls:
        now += pause
        if retry:
            retries += budget.take(now)
        else:
            budget.first_try(now)
            first += 1
        assert retries <= policy.reserve + policy.share * first + policy.per_second * now + 1e-6


def test_a_clock_that_goes_back_earns_nothing() -> None:
    budget = RetryBudget(RetryPolicy(share=0, per_second=1, reserve=1), now=10)
    assert budget.take(10)
    assert not budget.take(5)
    assert not budget.take(10.5)


@pytest.mark.parametrize("wrong", [{"share": -1.0}, {"per_second": -1.0}, {"reserve": 0.5}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="reserve at least 1"):
        RetryPolicy(**wrong)
