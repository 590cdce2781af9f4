"""How hard a sweep may lean on a database, and how planted faults are judged."""

from uuid import uuid4

import pytest

from cutover.domain.divergence import DivergenceClass as C
from cutover.domain.load_budget import LoadPolicy
from cutover.engine.canary_faults import FAULTS, judge


def test_chunks_follow_the_time_they_take() -> None:
    load = LoadPolicy(chunk_seconds=0.2)
    assert load.next_size(1000, 0.2) == 1000
    assert load.next_size(1000, 0.4) == 500
    assert load.next_size(1000, 10.0) == 500  # at most halved
    assert load.next_size(1000, 0.0) == 2000  # at most doubled
    assert load.next_size(300, 10.0) == 200
    assert load.next_size(40_000, 0.0) == 50_000


def test_a_statement_that_was_cut_off_is_tried_smaller_until_it_cannot_be() -> None:
    load = LoadPolicy()
    tried = [10_000]
    while (smaller := load.after_timeout(tried[-1])) is not None:
        tried.append(smaller)
    assert tried == [10_000, 2500, 625, 200]


def test_rests() -> None:
    assert LoadPolicy(share=1.0).rest(3.0) == 0
    assert LoadPolicy(share=0.25).rest(1.0) == pytest.approx(3.0)


def test_a_busy_database_is_left_alone_with_a_reason() -> None:
    load = LoadPolicy(max_active=4, max_waiting=1)
    assert load.why_wait(4, 1) == ""
    assert "5 sessions at work" in load.why_wait(5, 0)
    assert "2 sessions wait for a lock" in load.why_wait(2, 2)


RIGHT = {
    "missing": frozenset({C.MISSING_IN_PLUGIN}),
    "changed": frozenset({C.CONTENT}),
    "extra": frozenset({C.MISSING_IN_LEGACY}),
    "resurrected": frozenset({C.RESURRECTED}),
    "intact": frozenset[C](),
}


@pytest.mark.parametrize("fault", RIGHT)
@pytest.mark.parametrize(
    "reported", [frozenset[C](), *(frozenset({each}) for each in C)], ids=lambda each: "".join(each)
)
def test_a_sweep_is_trusted_only_if_it_reports_each_fault_as_what_it_is(fault: str, reported: frozenset[C]) -> None:
    planted = {uuid4(): each for each in RIGHT}
    told = {memory_id: RIGHT[each] for memory_id, each in planted.items()}
    told[next(memory_id for memory_id, each in planted.items() if each == fault)] = reported
    verdict = judge(planted, told)
    assert verdict.trusted == (reported == RIGHT[fault])
    assert verdict.false_alarms == (fault == "intact" and reported != RIGHT[fault])
    if fault != "intact":
        assert verdict.caught[fault] == (reported == RIGHT[fault])


def test_nothing_planted_is_nothing_proven() -> None:
    assert not judge({}, {}).trusted
    for left_out in FAULTS:
        planted = {uuid4(): each for each in RIGHT if each != left_out}
        assert not judge(planted, {memory_id: RIGHT[each] for memory_id, each in planted.items()}).trusted
