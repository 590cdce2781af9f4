"""What a backfill decides without I/O: chunk sizes, the operator's rate, rate and ETA, the recorded request."""

from uuid import UUID

import pytest

from cutover.domain.backfill import BackfillRequest, ChunkSize, Pace, RateBudget, RowSource, Via


@pytest.mark.parametrize("per_row", [1e-5, 4e-5, 1e-3, 0.05])
def test_chunks_settle_at_the_time_they_may_take(per_row: float) -> None:
    size = ChunkSize(start=200, most=10_000, target=0.15)
    for _ in range(30):
        size.took(size.rows, size.rows * per_row)
    assert size.rows == pytest.approx(min(10_000, 0.15 / per_row), abs=1)


def test_chunks_shrink_at_once_and_grow_in_steps() -> None:
    size = ChunkSize(start=1000, most=10_000, target=0.1)
    size.took(1000, 1.0)
    assert size.rows == 100
    size.took(100, 0.001)
    assert size.rows == 200


def test_a_short_last_chunk_does_not_shrink_the_next() -> None:
    size = ChunkSize(start=1000, most=10_000, target=0.1)
    size.took(3, 0.01)
    size.took(0, 0.01)
    assert size.rows == 1000


def test_a_chunk_that_failed_is_halved_down_to_one_row() -> None:
    size = ChunkSize(start=5, most=100, target=0.1)
    seen = []
    for _ in range(4):
        size.failed()
        seen.append(size.rows)
    assert seen == [2, 1, 1, 1]


def test_a_rate_is_kept_and_a_pause_is_not_made_up_for() -> None:
    budget = RateBudget(100.0, 0.0)
    assert budget.available(0.0) == 0
    assert budget.available(0.5) == 50
    budget.spend(50)
    assert budget.available(0.5) == 0
    assert budget.available(3600.0) == 100
    taken, now = 0, 3600.0
    for _ in range(1000):
        now += 0.01
        rows = budget.available(now)
        assert rows is not None
        budget.spend(rows)
        taken += rows
    assert taken == pytest.approx(100 + 1000, abs=2)


def test_a_rate_below_one_row_a_second_moves() -> None:
    budget = RateBudget(0.25, 0.0)
    assert [budget.available(float(second)) for second in (1, 2, 3, 4)] == [0, 0, 0, 1]


def test_no_rate_is_no_bound() -> None:
    assert RateBudget(0.0, 0.0).available(0.0) is None


def test_the_pace_is_that_of_the_window() -> None:
    pace = Pace(0.0, window=10.0)
    for second in range(1, 101):
        rate = pace.at(float(second), second * 5 if second <= 50 else 250)
        if second == 50:
            assert rate == pytest.approx(5, rel=0.1)
    assert rate == 0
    assert pace.left(100, rate) is None


@pytest.mark.parametrize(("remaining", "rate", "left"), [(0, 0.0, 0.0), (0, 5.0, 0.0), (10, 5.0, 2.0), (10, 0.0, None)])
def test_the_time_left(remaining: int, rate: float, left: float | None) -> None:
    assert Pace.left(remaining, rate) == left


def test_a_resumed_run_starts_with_what_was_there_and_not_with_a_jump() -> None:
    pace = Pace(0.0, 5000)
    assert pace.at(1.0, 5010) == pytest.approx(10)


@pytest.mark.parametrize(
    "request_",
    [
        BackfillRequest(),
        BackfillRequest(UUID(int=5), 10, Via.DATABASE, 2.5, "/run/pause"),
        BackfillRequest(via=Via.CONTRACT, rate=0.0),
        BackfillRequest(source=RowSource.KV),
    ],
)
def test_a_request_comes_back_from_its_record(request_: BackfillRequest) -> None:
    assert BackfillRequest.from_parameters(request_.as_parameters()) == request_


def test_a_record_of_an_earlier_version_is_understood() -> None:
    assert BackfillRequest.from_parameters({"scope": "tenant", "workspace": None, "limit": 5}) == BackfillRequest(
        limit=5
    )
