"""One request in flight per memory, within this process (invariant I4).

Between processes the lease in `cutover.mark` says who may send. Within one, a lease that this process knows to be
over may be passed on before the database has been told (`settled`), and that is only safe while nobody else in the
process can be sending for the same memory.
"""

import asyncio
from collections import deque
from uuid import UUID


class Inflight:
    """A first-come-first-served lock per memory id; ids nobody holds cost nothing."""

    def __init__(self) -> None:
        self._waiters: dict[UUID, deque[asyncio.Future[None]]] = {}

    def try_acquire(self, memory_id: UUID) -> bool:
        """Take the memory if nobody has it."""
        if memory_id in self._waiters:
            return False
        self._waiters[memory_id] = deque()
        return True

    async def acquire(self, memory_id: UUID, timeout: float) -> bool:
        """Take the memory, waiting up to `timeout` seconds for others to finish."""
        if self.try_acquire(memory_id):
            return True
        if timeout <= 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[memory_id].append(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except BaseException as error:
            if future.done() and not future.cancelled():
                self.release(memory_id)  # it was handed to us in the very moment we gave up
            elif (waiters := self._waiters.get(memory_id)) is not None and future in waiters:
                waiters.remove(future)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def release(self, memory_id: UUID) -> None:
        """Give the memory to the next waiter, or free it."""
        waiters = self._waiters[memory_id]
        while waiters:
            future = waiters.popleft()
            if not future.done():
                future.set_result(None)
                return
        del self._waiters[memory_id]

    def __len__(self) -> int:
        """Memories held now."""
        return len(self._waiters)
