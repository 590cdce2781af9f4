"""The arithmetic of the drift ledger."""

from itertools import product

import pytest

from cutover.domain.drift import DriftLedger, confirmed_unexplained


def ledger(unexplained: int) -> DriftLedger:
    return DriftLedger(legacy=100 + unexplained, plugin=100, in_flight=0, not_backfilled=0, quarantined=0, native=0)


@pytest.mark.parametrize(
    ("flight", "back", "jail", "native", "accepted", "rest"),
    list(product([-2, 0, 3], [0, 5], [0, 7], [0, 11], [-4, 0, 1], [-1, 0, 13])),
)
def test_the_equation_holds(flight: int, back: int, jail: int, native: int, accepted: int, rest: int) -> None:
    legacy = 1000 + flight + back + jail + accepted - native + rest
    made = DriftLedger(legacy, 1000, flight, back, jail, native, accepted=accepted)
    assert made.unexplained == rest
    causes = made.causes()
    assert (causes["native"], causes["accepted"]) == (native, accepted)
    assert made.legacy - made.plugin == (
        causes["in_flight"]
        + causes["not_backfilled"]
        + causes["quarantined"]
        + causes["accepted"]
        - causes["native"]
        + causes["unexplained"]
    )


@pytest.mark.parametrize(
    ("first", "second", "confirmed"),
    [(0, 0, 0), (3, 0, 0), (0, 3, 0), (3, -3, 0), (-1, 1, 0), (3, 5, 3), (5, 3, 3), (-3, -5, -3), (-5, -3, -3)],
)
def test_two_looks_confirm_what_they_agree_on(first: int, second: int, confirmed: int) -> None:
    assert confirmed_unexplained(ledger(first), ledger(second)) == confirmed
