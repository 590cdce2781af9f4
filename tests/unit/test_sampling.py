"""Bounds of samples, against their definition and against numbers from tables."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.sampling import Stratum, overall_bound, upper_bound


@pytest.mark.parametrize(
    ("differing", "drawn", "bound"),
    [  # one-sided 95 % Clopper-Pearson: the 0.95 quantile of Beta(x + 1, n - x)
        (0, 1, 0.95), (0, 10, 0.2589), (0, 300, 0.00994), (1, 10, 0.3942), (2, 20, 0.2826), (5, 100, 0.1023),
        (9, 10, 0.9949),
    ],
)  # fmt: skip
def test_bounds_by_table(differing: int, drawn: int, bound: float) -> None:
    assert upper_bound(differing, drawn) == pytest.approx(bound, abs=6e-5)


def test_nothing_drawn_or_everything_wrong_proves_nothing() -> None:
    assert upper_bound(0, 0) == upper_bound(3, 3) == upper_bound(5, 3) == 1.0


@given(st.integers(1, 400))
def test_none_found_is_the_rule_of_three(drawn: int) -> None:
    assert upper_bound(0, drawn) <= 3 / drawn
    assert (1 - upper_bound(0, drawn)) ** drawn == pytest.approx(0.05)


@given(st.integers(2, 120), st.data())
def test_at_the_bound_so_few_are_as_likely_as_the_confidence_leaves_open(drawn: int, data: st.DataObject) -> None:
    differing = data.draw(st.integers(0, drawn - 1))
    bound = upper_bound(differing, drawn)
    chance = sum(comb(drawn, k) * bound**k * (1 - bound) ** (drawn - k) for k in range(differing + 1))
    assert chance == pytest.approx(0.05, rel=1e-6)
    assert bound > differing / drawn
    assert upper_bound(differing, drawn, 0.99) > bound


def test_several_namespaces_hold_at_once_and_weigh_by_their_rows() -> None:
    assert overall_bound([]) is None
    assert overall_bound([Stratum(1000, 300, 0)]) == pytest.approx(upper_bound(0, 300))
    two = overall_bound([Stratum(1000, 300, 0), Stratum(9000, 300, 0)])
    assert two == pytest.approx(upper_bound(0, 300, 0.975))
    lopsided = overall_bound([Stratum(1000, 300, 300), Stratum(9000, 300, 0)])
    assert lopsided == pytest.approx(0.1 * 1.0 + 0.9 * upper_bound(0, 300, 0.975))
