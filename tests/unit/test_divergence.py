"""What a difference is called and when it is certain: exhaustive over states and looks (architecture §4)."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, combinations, product
from typing import Any

import pytest

from cutover.domain.divergence import (
    REPAIRED_BY_MARK,
    DivergenceClass,
    DivergenceState,
    Expected,
    Held,
    classify,
    decide,
    second_look,
)

C = DivergenceClass
THEN = datetime(2026, 1, 1, tzinfo=UTC)
EXPECTED = Expected("team:x", b"c", 1, THEN, True, b"p")
HELD = Held("team:x", b"c", 1, THEN, True, b"p")
BOTH = (C.CONTENT, C.NAMESPACE, C.EMBEDDING, C.CREATED_AT, C.PROVENANCE)
CHANGES: dict[DivergenceClass, dict[str, Any]] = {
    C.CONTENT: {"content_hash": b"d"},
    C.NAMESPACE: {"namespace": "team:y"},
    C.EMBEDDING: {"embedding": False},
    C.CREATED_AT: {"created_at": THEN.replace(year=2027)},
    C.PROVENANCE: {"provenance_hash": b"q"},
}


def words(classes: frozenset[DivergenceClass]) -> str:
    return "+".join(sorted(classes)) or "none"


def subsets(of: tuple[DivergenceClass, ...]) -> list[frozenset[DivergenceClass]]:
    return [frozenset(each) for each in chain.from_iterable(combinations(of, n) for n in range(len(of) + 1))]


@pytest.mark.parametrize("classes", subsets(BOTH), ids=words)
@pytest.mark.parametrize("reached", [True, False])
def test_every_combination_of_differences_is_named(classes: frozenset[DivergenceClass], reached: bool) -> None:
    held = HELD
    for each in classes:
        held = replace(held, **CHANGES[each])
    # What is there must be right, wherever the backfill is.
    assert classify(replace(EXPECTED, reached=reached), held, deleted=False) == classes


@pytest.mark.parametrize("deleted", [True, False])
@pytest.mark.parametrize("reached", [True, False])
def test_presence(deleted: bool, reached: bool) -> None:
    expected = replace(EXPECTED, reached=reached)
    assert classify(None, None, deleted=deleted) == frozenset()
    assert classify(expected, None, deleted=deleted) == (frozenset({C.MISSING_IN_PLUGIN}) if reached else frozenset())
    assert classify(None, HELD, deleted=deleted) == frozenset({C.RESURRECTED if deleted else C.MISSING_IN_LEGACY})


def test_what_cannot_be_seen_is_not_compared() -> None:
    assert classify(EXPECTED, replace(HELD, created_at=None, embedding=None), deleted=False) == frozenset()
    assert classify(replace(EXPECTED, created_at=None), HELD, deleted=False) == frozenset()


def test_the_same_hash_at_another_length_is_another_content() -> None:
    assert classify(EXPECTED, replace(HELD, content_length=2), deleted=False) == {C.CONTENT}


def test_a_memory_that_cannot_be_placed_is_held_nowhere_rightly() -> None:
    assert classify(replace(EXPECTED, namespace=None), HELD, deleted=False) == {C.NAMESPACE}


def test_only_what_nobody_knows_is_not_repaired_by_a_mark() -> None:
    assert set(C) - REPAIRED_BY_MARK == {C.MISSING_IN_LEGACY}


TWO = (C.CONTENT, C.NAMESPACE)
T_Z = 10.0


@pytest.mark.parametrize("first", subsets(TWO), ids=words)
@pytest.mark.parametrize("again", subsets(TWO), ids=words)
@pytest.mark.parametrize("seconds", [0.0, 9.999, 10.0, 60.0])
@pytest.mark.parametrize("delivered", [True, False])
def test_the_two_look_rule(first: frozenset[C], again: frozenset[C], seconds: float, delivered: bool) -> None:
    verdict = second_look(first, again, seconds_between=seconds, t_z=T_Z, delivered_between=delivered)
    quiet = seconds >= T_Z and not delivered
    assert verdict.confirmed == (first & again if quiet else frozenset())
    assert verdict.confirmed | verdict.suspect | verdict.gone == first | again
    assert not verdict.confirmed & verdict.suspect
    assert not verdict.gone & again
    assert verdict.gone == first - again


@pytest.mark.parametrize("state", [None, *DivergenceState])
@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("seconds", [0.0, 10.0])
@pytest.mark.parametrize(("delivered", "unsettled"), list(product([True, False], repeat=2)))
def test_what_becomes_of_a_finding(
    state: DivergenceState | None, seen: bool, seconds: float, delivered: bool, unsettled: bool
) -> None:
    open_ = {} if state is None else {C.CONTENT: state}
    again = frozenset({C.CONTENT}) if seen else frozenset()
    decision = decide(open_, again, seconds_between=seconds, t_z=T_Z, delivered_between=delivered, unsettled=unsettled)
    word = {name: bool(getattr(decision, name)) for name in ("confirmed", "renewed", "gone", "fresh", "kept")}
    happened = {name for name, each in word.items() if each}
    if unsettled:
        expected = {"renewed"} if state is DivergenceState.SUSPECT else set()
    elif state is None:
        expected = {"fresh"} if seen else set()
    elif not seen:
        expected = {"gone"}
    elif state is DivergenceState.SUSPECT:
        expected = {"renewed"} if delivered else {"confirmed"} if seconds >= T_Z else {"kept"}
    elif state is DivergenceState.REPAIRED:
        expected = {"fresh"}
    elif state is DivergenceState.ACCEPTED and delivered:
        expected = {"gone", "fresh"}  # what was accepted is not what is there now
    else:
        expected = set()  # confirmed and accepted ones stay what they are
    assert happened == expected
    assert decision.undecided == bool(happened & {"renewed", "fresh", "kept"})


def test_another_class_beside_an_old_one_is_a_fresh_suspicion() -> None:
    decision = decide(
        {C.CONTENT: DivergenceState.SUSPECT, C.NAMESPACE: DivergenceState.ACCEPTED},
        frozenset({C.CONTENT, C.NAMESPACE, C.EMBEDDING}),
        seconds_between=20,
        t_z=T_Z,
        delivered_between=False,
        unsettled=False,
    )
    assert (set(decision.confirmed), set(decision.fresh), set(decision.gone)) == ({C.CONTENT}, {C.EMBEDDING}, set())
