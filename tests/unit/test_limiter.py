"""The limit against queueing models: it finds the number of workers, survives stalls, ignores noise."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.domain.limiter import Limiter, LimiterPolicy

DEADLINE = 1.2
"""Seconds after which the client gives a request up (architecture §3)."""


@dataclass(frozen=True)
class Request:
    sent: float
    in_flight: int


@dataclass
class Simulation:
    """A plugin with `workers` and a queue, and `clients` that send whenever the limit lets them.

    It stands still during `stall`; requests that are given up leave its queue.
    """

    workers: int
    clients: int
    service: Callable[[random.Random], float]
    stall: tuple[float, float] = (-1.0, -1.0)
    seed: int = 7
    limiter: Limiter = field(default_factory=lambda: Limiter(LimiterPolicy()))
    now: float = 0.0
    answered: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queue: deque[Request] = deque()
        self._serving: list[tuple[float, int, Request]] = []
        self._number = 0
        self.limits: list[int] = []

    def run(self, until: float) -> "Simulation":
        self.limits.clear()
        while self.now < until:
            self._send()
            self._serve()
            self.limits.append(self.limiter.limit)
            self._next_event()
        return self

    def _in_flight(self) -> int:
        return len(self._queue) + len(self._serving)

    def _send(self) -> None:
        while self._in_flight() < min(self.clients, self.limiter.limit):
            self._queue.append(Request(self.now, self._in_flight() + 1))

    def _stalled(self) -> bool:
        return self.stall[0] <= self.now < self.stall[1]

    def _serve(self) -> None:
        while self._queue and len(self._serving) < self.workers and not self._stalled():
            self._number += 1
            done = self.now + self.service(self._random)
            if self.stall[0] <= done < self.stall[1]:
                done += self.stall[1] - self.stall[0]
            heapq.heappush(self._serving, (done, self._number, self._queue.popleft()))

    def _next_event(self) -> None:
        moments = [self._serving[0][0]] if self._serving else []
        moments += [request.sent + DEADLINE for request in list(self._queue)[:1]]
        moments += [request.sent + DEADLINE for _, _, request in self._serving]
        moments += [self.stall[1]] if self._stalled() else []
        self.now = max(self.now, min(moments))
        while self._serving and self._serving[0][0] <= self.now:
            _, _, request = heapq.heappop(self._serving)
            self.answered += 1
            self.limiter.on_result(self.now - request.sent, True, request.in_flight, self.now)
        late = [request for request in self._queue if request.sent + DEADLINE <= self.now]
        late += [request for _, _, request in self._serving if request.sent + DEADLINE <= self.now]
        self._queue = deque(request for request in self._queue if request not in late)
        self._serving = [entry for entry in self._serving if entry[2] not in late]
        heapq.heapify(self._serving)
        for request in late:
            self.failed += 1
            self.limiter.on_result(DEADLINE, False, request.in_flight, self.now)


def constant(seconds: float) -> Callable[[random.Random], float]:
    return lambda _: seconds


def exponential(seconds: float) -> Callable[[random.Random], float]:
    return lambda source: source.expovariate(1 / seconds)


def with_outliers(seconds: float) -> Callable[[random.Random], float]:
    """Every fiftieth request takes thirty times as long, such as behind a checkpoint."""
    return lambda source: seconds * (30 if source.random() < 0.02 else source.uniform(0.8, 1.2))


@pytest.mark.parametrize("workers", [3, 4, 8, 16, 32])
@pytest.mark.parametrize(
    "service",
    [constant(0.002), exponential(0.002), with_outliers(0.002)],
    ids=["constant", "exponential", "outliers"],
)
def test_settles_between_the_workers_and_twice_as_many(workers: int, service: Callable[[random.Random], float]) -> None:
    simulation = Simulation(workers, clients=128, service=service).run(4)
    settled = simulation.run(20).limits
    typical = sorted(settled)[len(settled) // 2]
    assert workers <= typical <= 2 * workers + 1
    assert max(settled) <= 2.5 * workers + 2


@pytest.mark.parametrize("workers", [4, 16])
def test_loses_little_throughput_to_the_search(workers: int) -> None:
    simulation = Simulation(workers, clients=128, service=exponential(0.002)).run(4)
    before = simulation.answered
    simulation.run(24)
    assert simulation.answered - before >= 0.93 * workers / 0.002 * 20


def test_one_worker_ends_near_the_floor() -> None:
    simulation = Simulation(1, clients=128, service=exponential(0.002)).run(5)
    settled = simulation.run(20).limits
    assert sorted(settled)[len(settled) // 2] <= 4


def test_never_leaves_its_bounds_and_reaches_the_cap_of_a_wide_plugin() -> None:
    simulation = Simulation(500, clients=1000, service=constant(0.002)).run(8)
    assert max(simulation.limits) == 64
    assert min(simulation.limits) >= 2


def test_does_not_grow_while_nobody_uses_it() -> None:
    simulation = Simulation(64, clients=4, service=constant(0.002)).run(10)
    assert set(simulation.limits) <= {2, 8}


@pytest.mark.parametrize("length", [0.5, 3.0, 10.0])
def test_shrinks_in_a_stall_and_recovers_after_it(length: float) -> None:
    simulation = Simulation(8, clients=128, service=exponential(0.002), stall=(5.0, 5.0 + length)).run(5)
    healthy = simulation.limits[-1]
    assert healthy >= 8
    during = simulation.run(5.0 + length).limits
    if length > 2 * DEADLINE:
        assert simulation.failed > 0
        assert during[-1] <= healthy * 0.5
    after = simulation.run(5.0 + length + 1.0).limits
    assert 8 <= after[-1] <= 18


def test_a_plugin_that_became_slower_for_good_is_accepted_as_it_is() -> None:
    slowness = [0.002]
    simulation = Simulation(8, clients=128, service=lambda source: source.expovariate(1 / slowness[0])).run(5)
    slowness[0] = 0.012
    settled = simulation.run(45).limits[-5000:]
    assert sorted(settled)[len(settled) // 2] >= 8


def test_one_burst_of_failures_shrinks_once() -> None:
    limiter = Limiter(LimiterPolicy())
    for _ in range(8):
        limiter.on_result(DEADLINE, False, 8, 10.0)
    assert limiter.limit == 5
    for _ in range(5):
        limiter.on_result(DEADLINE, False, 5, 10.0 + DEADLINE)
    assert limiter.limit == 3


def test_a_rare_failure_does_not_shrink() -> None:
    limiter = Limiter(LimiterPolicy())
    for number in range(2000):
        limiter.on_result(0.002, number % 50 != 0, 2, number * 0.002)
    assert limiter.limit == 8


def test_the_dip_ends_in_time_even_when_no_sample_comes() -> None:
    limiter = Limiter(LimiterPolicy())
    for number in range(16):
        limiter.on_result(0.01, True, 8, 1 + number / 100)
    assert limiter.measuring
    limiter.on_result(0.01, True, 8, 1.5)
    assert limiter.limit == 2
    limiter.on_result(0.01, True, 8, 2.2)
    assert limiter.limit == 8


@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.integers(1, 100), st.floats(0, 5)), min_size=1, max_size=400)
)
@settings(max_examples=150, deadline=None)
def test_any_results_keep_it_within_its_bounds(results: list[tuple[float, bool, int, float]]) -> None:
    limiter, now = Limiter(LimiterPolicy()), 0.0
    for latency, ok, in_flight, pause in results:
        now += pause
        limiter.on_result(latency, ok, in_flight, now)
        assert 2 <= limiter.limit <= 64


@pytest.mark.parametrize(
    "wrong",
    [
        {"floor": 0},
        {"start": 1},
        {"cap": 4},
        {"tolerance": 1.0},
        {"baseline_rise": 1.0},
        {"shrink": 1.0},
        {"failure_share": 0.0},
        {"window": 1},
        {"baseline_lasts": 0.0},
        {"dip_at_most": 0.0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LimiterPolicy(**wrong)  # type: ignore[arg-type]
