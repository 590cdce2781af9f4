"""Phases and their steps: every pair."""

from itertools import product

import pytest

from cutover.domain.phase import Phase, step

LEGAL = {"A0 A1", "A1 A2", "A2 A3", "A3 A4", "A1 A0", "A2 A1", "A3 A2"}


@pytest.mark.parametrize(("current", "target"), list(product(Phase, Phase)))
def test_steps(current: Phase, target: Phase) -> None:
    why = step(current, target)
    if f"{current} {target}" in LEGAL:
        assert why is None
    else:
        assert why
        if current is target:
            assert "already" in why
        elif current is Phase.A4:
            assert "no return" in why
        else:
            assert "one at a time" in why


def test_there_is_always_a_way_but_from_a4() -> None:
    for phase in Phase:
        targets = [target for target in Phase if step(phase, target) is None]
        assert bool(targets) is (phase is not Phase.A4)


def test_what_the_phases_mean() -> None:
    assert [phase.order for phase in Phase] == [0, 1, 2, 3, 4]
    assert [phase.needs_plugin for phase in Phase] == [False, True, True, True, True]
    assert [phase.dual_writes for phase in Phase] == [False, True, True, False, False]
    assert [phase.plugin_is_authority for phase in Phase] == [False, False, False, True, True]
    assert [phase.meaning for phase in Phase] == ["stand-up", "shadow", "backfill", "cutover", "drop"]
