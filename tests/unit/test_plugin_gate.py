"""The way to the plugin: bounded, in order of arrival, callers first but background never starved."""

import asyncio
import random
import time

import pytest

from cutover.domain.limiter import Limiter, LimiterPolicy
from cutover.engine.plugin_gate import PluginGate


def gate_of(limit: int) -> PluginGate:
    return PluginGate(Limiter(LimiterPolicy(floor=limit, start=limit, cap=limit)))


class Traffic:
    """Holders of slots that leave when told, in the order in which they got in."""

    def __init__(self, gate: PluginGate) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self.log: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}

    async def hold(self, name: str, *, background: bool = False, seconds: float = 30.0) -> None:
        self.leave[name] = asyncio.Event()
        await self.gate.enter(time.monotonic() + seconds, background=background)
        self.inside.append(name)
        self.log.append(name)
        await self.leave[name].wait()
        self.inside.remove(name)
        self.gate.leave()

    async def enter(self, name: str, *, background: bool = False, seconds: float = 30.0) -> "asyncio.Task[None]":
        task = asyncio.create_task(self.hold(name, background=background, seconds=seconds))
        await turn()
        return task


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_the_limit_and_first_come_first_served() -> None:
    traffic = Traffic(gate_of(2))
    tasks = [await traffic.enter(name) for name in "abcd"]
    assert traffic.inside == ["a", "b"]
    assert (traffic.gate.in_flight, traffic.gate.waiting, traffic.gate.limit) == (2, 2, 2)
    traffic.leave["b"].set()
    await turn()
    assert traffic.inside == ["a", "c"]
    for name in "acd":
        traffic.leave[name].set()
        await turn()
    await asyncio.gather(*tasks)
    assert traffic.log == ["a", "b", "c", "d"]
    assert (traffic.gate.in_flight, traffic.gate.waiting) == (0, 0)


async def test_callers_come_before_background_but_not_always() -> None:
    traffic = Traffic(gate_of(1))
    tasks = [await traffic.enter("first")]
    tasks += [await traffic.enter(f"b{number}", background=True) for number in range(2)]
    tasks += [await traffic.enter(f"c{number}") for number in range(8)]
    while traffic.inside:
        traffic.leave[traffic.inside[0]].set()
        await turn()
    await asyncio.gather(*tasks)
    order = traffic.log
    assert order[1].startswith("c")
    assert order.index("b0") < order.index("c7")
    assert [name for name in order if name.startswith("c")] == [f"c{number}" for number in range(8)]


async def test_background_alone_gets_every_slot() -> None:
    traffic = Traffic(gate_of(2))
    tasks = [await traffic.enter(name, background=True) for name in "ab"]
    assert traffic.inside == ["a", "b"]
    for name in "ab":
        traffic.leave[name].set()
    await asyncio.gather(*tasks)


async def test_who_waited_too_long_goes_and_leaves_no_trace() -> None:
    traffic = Traffic(gate_of(1))
    first = await traffic.enter("first")
    late = await traffic.enter("late", seconds=0.01)
    with pytest.raises(TimeoutError):
        await late
    gone = await traffic.enter("gone")
    gone.cancel()
    await turn()
    assert traffic.gate.waiting == 0
    traffic.leave["first"].set()
    await first
    assert traffic.gate.in_flight == 0
    after = await traffic.enter("after")
    traffic.leave["after"].set()
    await after


@pytest.mark.parametrize("seed", range(20))
async def test_slots_are_never_lost_nor_given_twice(seed: int) -> None:
    chance, gate, inside = random.Random(seed), gate_of(3), 0

    async def one() -> None:
        nonlocal inside
        deadline = time.monotonic() + chance.choice([0.0, 0.001, 10.0])
        await gate.enter(deadline, background=chance.random() < 0.5)
        inside += 1
        try:
            assert inside <= 3
            await asyncio.sleep(chance.choice([0, 0, 0.001]))
        finally:
            inside -= 1
            gate.leave()

    tasks = [asyncio.create_task(one()) for _ in range(40)]
    await asyncio.sleep(0)
    for task in chance.sample(tasks, 10):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [each for each in results if isinstance(each, AssertionError)]
    assert (gate.in_flight, gate.waiting) == (0, 0)
