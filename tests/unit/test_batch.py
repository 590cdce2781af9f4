"""Natural batching: alone at low load, together under load, and no item is lost or answered twice."""

import asyncio
from collections.abc import Sequence

import pytest

from cutover.engine.batch import NaturalBatcher


class Run:
    """Records its batches; each waits until it is let go, and gives back its items doubled."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()
        self.now = self.most = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return [ValueError(str(item)) if item < 0 else item * 2 for item in items]


async def submit(batcher: NaturalBatcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


async def test_an_item_alone_does_not_wait() -> None:
    run = Run()
    run.go.set()
    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    assert [await batcher.submit(item) for item in (1, 2, 3)] == [2, 4, 6]
    assert run.batches == [[1], [2], [3]]


async def test_what_queues_meanwhile_goes_together() -> None:
    run = Run()
    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    tasks = await submit(batcher, 1)
    tasks += await submit(batcher, 2, 3, 4)
    assert len(batcher) == 3
    run.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert run.batches == [[1], [2, 3, 4]]


async def test_bounds_of_number_weight_and_batches_at_once() -> None:
    run = Run()
    batcher: NaturalBatcher[int, int] = NaturalBatcher(
        run, limit=3, weight=lambda item: item, weight_limit=100, parallel=2
    )
    tasks = await submit(batcher, 1)
    tasks += await submit(batcher, 2)
    tasks += await submit(batcher, 3, 4, 5, 6, 60, 60, 500, 7)
    run.go.set()
    await asyncio.gather(*tasks)
    # Order is kept, an item heavier than the bound goes alone, and two batches were under way at once.
    assert run.batches == [[1], [2], [3, 4, 5], [6, 60], [60], [500], [7]]
    assert run.most == 2


async def test_an_error_goes_to_its_own_item() -> None:
    run = Run()
    run.go.set()
    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    tasks = await submit(batcher, 1, -1, 2)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == 2
    assert isinstance(results[1], ValueError)
    assert results[2] == 4


async def test_a_batch_that_fails_fails_all_its_items_and_no_other() -> None:
    calls = 0

    async def run(items: Sequence[int]) -> Sequence[int | Exception]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("cut off")
        return list(items)

    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    tasks = await submit(batcher, 1, 2)
    assert [type(each) for each in await asyncio.gather(*tasks, return_exceptions=True)] == [OSError, OSError]
    assert await batcher.submit(3) == 3


async def test_a_submitter_that_is_cancelled_does_not_take_its_batch_along() -> None:
    run = Run()
    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    tasks = await submit(batcher, 1, 2)
    tasks[0].cancel()
    run.go.set()
    assert await tasks[1] == 4
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert run.batches == [[1, 2]]


async def test_a_result_too_few_is_an_error_not_a_hang() -> None:
    async def run(items: Sequence[int]) -> Sequence[int | Exception]:
        return list(items)[1:]

    batcher: NaturalBatcher[int, int] = NaturalBatcher(run)
    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="results for"):
            await batcher.submit(1)
