"""Which way a write goes: every phase and everything that legacy may or may not hold."""

from datetime import UTC, datetime
from itertools import product

import pytest

from cutover.domain.memory import Kind, Source
from cutover.domain.phase import Phase
from cutover.domain.requests import CommitMemory
from cutover.domain.route import Way, has_v1_form, way_of

WAYS = {
    (Phase.A0, True): Way.LEGACY,
    (Phase.A0, False): Way.REFUSED,
    (Phase.A1, True): Way.DUAL,
    (Phase.A1, False): Way.JOURNAL,
    (Phase.A2, True): Way.DUAL,
    (Phase.A2, False): Way.JOURNAL,
    (Phase.A3, True): Way.JOURNAL,
    (Phase.A3, False): Way.JOURNAL,
    (Phase.A4, True): Way.JOURNAL,
    (Phase.A4, False): Way.JOURNAL,
}


@pytest.mark.parametrize(("phase", "held"), list(product(Phase, [True, False])))
def test_every_way(phase: Phase, held: bool) -> None:
    way = way_of(phase, held_by_legacy=held)
    assert way is WAYS[phase, held]
    assert (way in (Way.LEGACY, Way.DUAL)) <= (not phase.plugin_is_authority)  # no legacy write after the freeze (I5)


@pytest.mark.parametrize(("kind", "expires"), list(product(Kind, [False, True])))
def test_what_v1_has_a_form_for(kind: Kind, expires: bool) -> None:
    request = CommitMemory(
        "workspace:x", "c", kind, Source.USER, expires_at=datetime(2030, 1, 1, tzinfo=UTC) if expires else None,
        pin=True, propagation={"a": 1},
    )  # fmt: skip
    assert has_v1_form(request) is (kind is Kind.FACT and not expires)
