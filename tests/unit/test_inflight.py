"""One request per memory within this process."""

import asyncio
import random
from uuid import UUID

import pytest

from cutover.engine.inflight import Inflight

A, B = UUID(int=1), UUID(int=2)


async def waiting(inflight: Inflight, memory_id: UUID, timeout: float = 10) -> asyncio.Task[bool]:
    task = asyncio.create_task(inflight.acquire(memory_id, timeout))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_one_at_a_time_in_order_of_arrival() -> None:
    inflight = Inflight()
    assert inflight.try_acquire(A)
    assert not inflight.try_acquire(A)
    assert inflight.try_acquire(B)
    first, second = await waiting(inflight, A), await waiting(inflight, A)
    inflight.release(A)
    assert await first
    assert not second.done()
    assert not inflight.try_acquire(A)
    inflight.release(A)
    assert await second
    inflight.release(A)
    inflight.release(B)
    assert len(inflight) == 0
    assert inflight.try_acquire(A)


async def test_without_time_there_is_no_waiting() -> None:
    inflight = Inflight()
    assert await inflight.acquire(A, 0)
    assert not await inflight.acquire(A, 0)
    assert not await inflight.acquire(A, -1)
    assert not await inflight.acquire(A, 0.01)
    inflight.release(A)
    assert len(inflight) == 0


async def test_who_gave_up_is_passed_over() -> None:
    inflight = Inflight()
    assert inflight.try_acquire(A)
    gone, stays = await waiting(inflight, A), await waiting(inflight, A)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    inflight.release(A)
    assert await stays
    inflight.release(A)
    assert len(inflight) == 0


async def test_who_is_cancelled_in_the_very_moment_of_its_turn_hands_it_on() -> None:
    inflight = Inflight()
    assert inflight.try_acquire(A)
    gone, stays = await waiting(inflight, A), await waiting(inflight, A)
    inflight.release(A)  # it is `gone`'s turn, and before it runs …
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert await stays
    inflight.release(A)
    assert len(inflight) == 0


@pytest.mark.parametrize("seed", range(20))
async def test_never_two_and_never_stuck(seed: int) -> None:
    chance, inflight, holding = random.Random(seed), Inflight(), 0

    async def one() -> None:
        nonlocal holding
        if await inflight.acquire(A, chance.choice([0, 0.001, 5])):
            holding += 1
            assert holding == 1
            try:
                await asyncio.sleep(chance.choice([0, 0, 0.001]))
            finally:
                holding -= 1
                inflight.release(A)

    tasks = [asyncio.create_task(one()) for _ in range(30)]
    await asyncio.sleep(0)
    for task in chance.sample(tasks, 8):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [each for each in results if isinstance(each, AssertionError)]
    assert len(inflight) == 0
