"""Telling the ledger how deliveries ended, in batches and off the request path.

A delivered write may be answered before its mark is cleared: losing the clear costs one more delivery of the same
state, never a write. Until the ledger has been told, `settled_lease` lets the next write of the same memory go on at
once instead of waiting for T_z.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from uuid import UUID

from cutover.domain.errors import CutoverError, DatabaseFault
from cutover.domain.events import Observer, TaskFailed
from cutover.engine.batch import NaturalBatcher
from cutover.stores.ledger import Ledger, Settlement

_LINGER_SECONDS = 0.01
"""Nobody waits for a noted outcome, so it may wait for company: a settlement shared by ten costs a tenth."""
_RETRY_SECONDS = 0.25
_ATTEMPTS = 40
_LOCKED_ATTEMPTS = 40
"""Tries for a mark that a foreign transaction has locked; after that T_z and the reconciler see to it."""


class Settler:
    """Batches settlements. `on_superseded` is called when a delivered memory had changed meanwhile and is due again."""

    def __init__(self, tenant: str, ledger: Ledger, observer: Observer, on_superseded: Callable[[], None]) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._observer = observer
        self._on_superseded = on_superseded
        self._batcher: NaturalBatcher[Settlement, bool | None] = NaturalBatcher(self._run, limit=256)
        self._settled: dict[UUID, Settlement] = {}
        self._pending: set[asyncio.Task[bool]] = set()
        self._flushing = False

    def settled_lease(self, memory_id: UUID) -> int | None:
        """A lease on this memory that is over although the ledger may not know yet. Only under `Inflight`."""
        settlement = self._settled.get(memory_id)
        return settlement.lease_id if settlement is not None else None

    def is_delivered(self, memory_id: UUID) -> bool:
        """Whether the plugin has this memory although its mark may still be there."""
        settlement = self._settled.get(memory_id)
        return settlement is not None and settlement.outcome == "delivered"

    def note(self, settlement: Settlement) -> None:
        """Record an outcome soon; does not wait."""
        # A context of its own: the request that noted it is over when this runs, and its id has no place in the log.
        task = asyncio.create_task(
            self.settle(settlement, linger=_LINGER_SECONDS), name="settle", context=contextvars.Context()
        )
        self._pending.add(task)
        task.add_done_callback(self._finished)

    async def settle(self, settlement: Settlement, *, linger: float = 0.0) -> bool:
        """Record an outcome now, or after `linger` seconds with what came meanwhile; True when the mark is gone."""
        if settlement.outcome != "ambiguous":
            self._settled[settlement.memory_id] = settlement
        try:
            if linger and not self._flushing:
                await asyncio.sleep(linger)
            cleared = await self._batcher.submit(settlement)
            for _ in range(_LOCKED_ATTEMPTS):
                if cleared is not None:
                    break
                await asyncio.sleep(_RETRY_SECONDS)
                cleared = await self._batcher.submit(settlement)
        finally:
            if self._settled.get(settlement.memory_id) is settlement:
                del self._settled[settlement.memory_id]
        if not cleared and settlement.outcome == "delivered":
            self._on_superseded()
        return cleared is True

    async def flush(self) -> None:
        """Wait for everything noted so far (shutdown)."""
        self._flushing = True
        while self._pending:
            await asyncio.wait(set(self._pending))

    async def _run(self, settlements: Sequence[Settlement]) -> Sequence[bool | Exception | None]:
        for attempt in range(_ATTEMPTS):
            try:
                cleared = await self._ledger.settle(settlements)
                return [cleared.get(s.memory_id, False) for s in settlements]
            except DatabaseFault:
                raise
            except CutoverError:
                # The marks are durable and fall due after T_z in any case; trying on only saves that wait.
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError("unreachable")

    def _finished(self, task: asyncio.Task[bool]) -> None:
        self._pending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._observer(TaskFailed(self._tenant, "settle", type(error).__name__, str(error)))
