"""The history checker finds each class of fault, and blames nothing that some order of the calls allows."""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, permutations
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.embedded.history import (
    History,
    Operation,
    OperationKind,
    OperationOutcome,
    Verdict,
    check,
    possible,
)

CREATE, EDIT, REPLACE, DELETE = OperationKind
ACKNOWLEDGED, REFUSED, UNKNOWN = OperationOutcome
ONE, TWO, THREE = UUID(int=1), UUID(int=2), UUID(int=3)


def op(
    kind: OperationKind,
    content: str | None,
    began: float,
    ended: float,
    outcome: OperationOutcome = ACKNOWLEDGED,
    memory_id: UUID = ONE,
) -> Operation:
    return Operation(kind, memory_id, content, began, ended, outcome)


def check_both(history: Sequence[Operation], final: str | None) -> list[Verdict]:
    """The same final value in both stores, judged with either as the authority."""
    store = {} if final is None else {ONE: final}
    return [check(history, store, store, set(), "legacy"), check(history, {}, store, set(), "plugin")]


CREATED = op(CREATE, "a", 0, 1)


@pytest.mark.parametrize(
    ("history", "final", "fault"),
    [
        ([CREATED], None, "lost"),
        ([CREATED, op(EDIT, "b", 2, 3, UNKNOWN)], None, "lost"),
        ([CREATED, op(DELETE, None, 2, 3, REFUSED)], None, "lost"),
        ([op(DELETE, None, -2, -1), CREATED], None, "lost"),
        ([CREATED, op(EDIT, "b", 2, 3)], None, "lost"),
        ([CREATED, op(DELETE, None, 2, 3)], "a", "resurrected"),
        # An edit never brings a deleted memory back, however late it lands.
        ([CREATED, op(EDIT, "b", 1.5, 1.9, UNKNOWN), op(DELETE, None, 2, 3)], "b", "resurrected"),
        ([CREATED, op(DELETE, None, 2, 3), op(EDIT, "b", 4, 5)], "b", "resurrected"),
        ([CREATED, op(EDIT, "b", 2, 3)], "a", "stale"),
        ([CREATED, op(EDIT, "b", 2, 3), op(EDIT, "c", 2.5, 3.5)], "a", "stale"),
        ([CREATED, op(DELETE, None, 2, 3), op(REPLACE, "b", 4, 5)], "a", "stale"),
        ([CREATED, op(EDIT, "b", 2, 3, REFUSED)], "b", "phantom"),
        ([op(CREATE, "a", 0, 1, REFUSED)], "a", "phantom"),
        ([CREATED], "never written", "phantom"),
    ],
)
def test_finds_the_fault(history: list[Operation], final: str | None, fault: str) -> None:
    for verdict in check_both(history, final):
        assert verdict.findings == (f"{fault}: {ONE}",)
        assert f"{fault}=1" in verdict.words()


@pytest.mark.parametrize(
    ("history", "finals"),
    [
        ([CREATED], ["a"]),
        ([op(CREATE, "a", 0, 1, UNKNOWN)], ["a", None]),
        ([op(CREATE, "a", 0, 1, REFUSED)], [None]),
        ([CREATED, op(EDIT, "b", 2, 3)], ["b"]),
        ([CREATED, op(EDIT, "b", 2, 3), op(EDIT, "c", 2.5, 3.5)], ["b", "c"]),
        ([CREATED, op(EDIT, "b", 2, 3, UNKNOWN), op(EDIT, "c", 4, 5)], ["b", "c"]),
        ([CREATED, op(DELETE, None, 2, 3)], [None]),
        ([CREATED, op(DELETE, None, 2, 3, UNKNOWN)], ["a", None]),
        ([CREATED, op(DELETE, None, 2, 3), op(REPLACE, "b", 2.5, 4)], ["b", None]),
        ([CREATED, op(DELETE, None, 2, 3), op(REPLACE, "b", 4, 5, UNKNOWN)], ["b", None]),
        ([CREATED, op(EDIT, "b", 2, 3), op(DELETE, None, 2.5, 4)], [None]),
        ([CREATED, op(DELETE, None, 2, 3), op(REPLACE, "b", 2.5, 4), op(EDIT, "c", 3.5, 5)], ["b", "c", None]),
    ],
)
def test_blames_nothing_that_some_order_allows(history: list[Operation], finals: list[str | None]) -> None:
    assert possible(history) == set(finals)
    for final in finals:
        for verdict in check_both(history, final):
            assert verdict.findings == ()


def test_finds_silent_divergence_unless_it_is_accounted_for() -> None:
    legacy = {ONE: "a", TWO: "b"}
    plugin = {ONE: "old", THREE: "c"}
    assert check([], legacy, plugin, set(), "legacy").diverged == (ONE, TWO, THREE)
    assert check([], legacy, plugin, {ONE, THREE}, "legacy").diverged == (TWO,)
    assert check([], legacy, legacy, set(), "legacy").findings == ()
    assert check([], legacy, plugin, set(), "plugin").findings == (), "frozen legacy is not compared"


@pytest.mark.parametrize("store", ["legacy", "plugin"])
def test_finds_a_create_that_was_done_twice(store: str) -> None:
    twice = {ONE: "a", TWO: "a"}
    legacy, plugin = (twice, {ONE: "a"}) if store == "legacy" else ({ONE: "a"}, twice)
    assert check([CREATED], legacy, plugin, {TWO}, "legacy").findings == (f"doubled: {TWO}",)


def test_the_same_content_under_two_known_ids_is_no_double() -> None:
    history = [CREATED, op(CREATE, "a", 0, 1, memory_id=TWO)]
    store = {ONE: "a", TWO: "a", THREE: "not from any caller"}
    assert check(history, store, store, set(), "legacy").findings == ()


def test_what_was_there_before_counts_as_content_but_not_as_acknowledged() -> None:
    history = History()
    history.found(ONE, "a")
    history.record(op(EDIT, "b", 1, 2, memory_id=ONE))
    history.record(op(EDIT, "c", 3, 4, REFUSED, memory_id=ONE))
    verdict = check(history.operations, {}, {ONE: "b"}, set(), "plugin")
    assert (verdict.acknowledged, verdict.findings) == (1, ())
    assert verdict.words() == "acknowledged=1 lost=0 resurrected=0 stale=0 phantom=0 doubled=0 diverged=0"
    assert check(history.operations, {}, {}, set(), "plugin").lost == (ONE,)


def test_memories_are_judged_one_by_one() -> None:
    history = [CREATED, op(CREATE, "b", 0, 1, memory_id=TWO), op(DELETE, None, 2, 3, memory_id=TWO)]
    verdict = check(history, {}, {TWO: "b"}, set(), "plugin")
    assert (verdict.acknowledged, verdict.lost, verdict.resurrected) == (3, (ONE,), (TWO,))


@pytest.mark.parametrize(
    ("kind", "content", "began", "ended"), [(DELETE, "a", 0, 1), (EDIT, None, 0, 1), (CREATE, "a", 2, 1)]
)
def test_an_operation_that_cannot_be_is_refused(
    kind: OperationKind, content: str | None, began: float, ended: float
) -> None:
    with pytest.raises(ValueError, match=r"a delete has no content|ended before it began"):
        op(kind, content, began, ended)


def by_trying_every_order(operations: Sequence[Operation]) -> set[str | None]:
    """What `possible` says in closed form, by brute force."""
    certain = [operation for operation in operations if operation.outcome is ACKNOWLEDGED]
    unknown = [operation for operation in operations if operation.outcome is UNKNOWN]
    subsets = chain.from_iterable(combinations(unknown, size) for size in range(len(unknown) + 1))
    return {_replayed(order) for subset in subsets for order in _orders([*certain, *subset])}


def _orders(operations: list[Operation]) -> Iterator[tuple[Operation, ...]]:
    for order in permutations(operations):
        if all(later.latest >= earlier.began for i, earlier in enumerate(order) for later in order[i + 1 :]):
            yield order


def _replayed(order: Sequence[Operation]) -> str | None:
    value: str | None = None
    for operation in order:
        if operation.kind is not EDIT or value is not None:
            value = operation.content
    return value


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    operations: list[Operation] = []
    for number in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(OperationKind))
        began = draw(st.integers(0, 12))
        content = None if kind is DELETE else f"v{number}"
        outcome = draw(st.sampled_from([ACKNOWLEDGED, ACKNOWLEDGED, UNKNOWN, REFUSED]))
        operations.append(op(kind, content, began, began + draw(st.integers(0, 5)), outcome))
    return operations


@given(histories())
@settings(max_examples=600, deadline=None)
def test_the_closed_form_agrees_with_trying_every_order(operations: list[Operation]) -> None:
    assert possible(operations) == by_trying_every_order(operations)
