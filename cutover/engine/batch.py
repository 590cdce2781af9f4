"""Natural batching: whatever queued while the last batch was in flight goes together (architecture §3, step 2).

At low load a batch is one item and nothing waits; under load the batches grow by themselves, and the cost of a
transaction is shared. There is no timer and no batch size to tune, only a bound.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class NaturalBatcher(Generic[T, R]):
    """Runs `run(items)` with everything that queued meanwhile; at most `parallel` batches at once.

    `run` gives one result or exception per item, in order. When it raises, every item of that batch gets the error.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        limit: int = 64,
        weight: Callable[[T], int] = lambda _: 1,
        weight_limit: int = 1 << 20,
        parallel: int = 1,
    ) -> None:
        self._run = run
        self._limit = limit
        self._weight = weight
        self._weight_limit = weight_limit
        self._parallel = parallel
        self._queue: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def submit(self, item: T) -> R:
        """Queue one item and wait for its result. Cancelling the wait does not take the item out of its batch."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if len(self._workers) < self._parallel:
            # Not in the caller's context: the worker goes on with other callers' items.
            worker = asyncio.create_task(self._drain(), name="batch", context=contextvars.Context())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await future

    def __len__(self) -> int:
        """Items that wait for a batch."""
        return len(self._queue)

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        weight = 0
        while self._queue and len(batch) < self._limit:
            weight += self._weight(self._queue[0][0])
            if batch and weight > self._weight_limit:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _drain(self) -> None:
        try:
            while self._queue:
                await self._next()
        finally:
            # Here, not only in the callback: that runs after the waiters we woke, and what they submit meanwhile would
            # take this worker for one that still looks at the queue.
            if (worker := asyncio.current_task()) is not None:
                self._workers.discard(worker)

    async def _next(self) -> None:
        batch = self._take()
        try:
            results: Sequence[R | Exception] = await self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise ValueError(f"{len(results)} results for {len(batch)} items")
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to every waiting caller, nothing is swallowed
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
