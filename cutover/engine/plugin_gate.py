"""The way to the plugin: an adaptive bound on requests in flight, callers before background work.

Beyond a point more concurrency makes the plugin slower for everybody (quality §3), so the bound follows the latency
it shows. Background deliveries (reconciler, backfill) take what callers leave, but never nothing: one slot in
`_BACKGROUND_SHARE` is theirs, so marks drain under full load as well (invariant I8).
"""

import asyncio
import time
from collections import deque

from cutover.domain.limiter import Limiter

_BACKGROUND_SHARE = 4
_LATELY = 2.0
"""Seconds for which a measured latency counts: whoever waits because of it sends nothing, and must look again."""
_MEAN_WEIGHT = 0.05


class PluginGate:
    """Slots for requests to one tenant's plugin, under the adaptive `limiter`."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._in_flight = 0
        self._callers: deque[asyncio.Future[None]] = deque()
        self._background: deque[asyncio.Future[None]] = deque()
        self._granted = 0
        self._latency = 0.0
        self._latency_at = float("-inf")

    @property
    def in_flight(self) -> int:
        """Requests on their way now."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Callers that wait for a slot."""
        return len(self._callers)

    @property
    def limit(self) -> int:
        """The bound as it stands."""
        return self._limiter.limit

    def latency(self, now: float) -> float | None:
        """Seconds that requests take these days (a moving mean); None when there was none lately."""
        return self._latency if now - self._latency_at <= _LATELY else None

    async def enter(self, deadline: float, *, background: bool = False) -> None:
        """Take a slot, to be given back with `leave`.

        Raises `TimeoutError` when none was free by `deadline` (`time.monotonic()` seconds).
        """
        if self._in_flight < self._limiter.limit and not self._callers and not (background and self._background):
            self._in_flight += 1
        else:
            await self._wait(self._background if background else self._callers, deadline)

    def leave(self) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        self._wake()

    def record(self, seconds: float, *, ok: bool, in_flight: int) -> None:
        """Tell the limiter how long one request took, whether the plugin did its part, and how many were under way
        when it was sent."""
        now = time.monotonic()
        weight = _MEAN_WEIGHT if now - self._latency_at <= _LATELY else 1.0
        self._latency += weight * (seconds - self._latency)
        self._latency_at = now
        self._limiter.on_result(seconds, ok, in_flight, now)

    async def _wait(self, queue: deque[asyncio.Future[None]], deadline: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(future)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, deadline - time.monotonic())):
                await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._in_flight -= 1
                self._wake()
            elif future in queue:
                queue.remove(future)
            raise

    def _wake(self) -> None:
        while self._in_flight < self._limiter.limit and (self._callers or self._background):
            self._granted += 1
            background_turn = self._granted % _BACKGROUND_SHARE == 0
            queue = self._background if self._background and (background_turn or not self._callers) else self._callers
            future = queue.popleft()
            if not future.done():
                self._in_flight += 1
                future.set_result(None)
