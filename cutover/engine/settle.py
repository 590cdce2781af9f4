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
from cutover.stores.ledger import Ledger, Settlement

_LINGER_SECONDS = 0.01
"""Nobody waits for a noted outcome, so it may wait for company: a settlement shared by ten costs a tenth."""
_BATCH = 256
_UNDEFINED_TABLE = "42P01"
_RETRY_SECONDS = 0.25
_ATTEMPTS = 40
"""Tries while the database cannot be reached; after that T_z and the reconciler see to it."""
_LOCKED_ATTEMPTS = 40
"""Tries while the database cannot be reached; after that T_z and the reconciler see to it."""
"""Tries for a mark that a foreign transaction has locked; after that T_z and the reconciler see to it."""


Noted = tuple[Settlement, asyncio.Future[bool] | None]
"""A settlement, and who waits for it to be told (nobody, mostly)."""


class Settler:
    """Batches settlements. `on_superseded` is called when a delivered memory had changed meanwhile and is due again."""

    def __init__(self, tenant: str, ledger: Ledger, observer: Observer, on_superseded: Callable[[], None]) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._observer = observer
        self._on_superseded = on_superseded
        self._noted: list[Noted] = []
        self._timer: asyncio.TimerHandle | None = None
        self._settled: dict[UUID, Settlement] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def settled_lease(self, memory_id: UUID) -> int | None:
        """A lease on this memory that is over although the ledger may not know yet. Only under `Inflight`."""
        settlement = self._settled.get(memory_id)
        return settlement.lease_id if settlement is not None else None

    def is_delivered(self, memory_id: UUID) -> bool:
        """Whether the plugin has this memory although its mark may still be there."""
        settlement = self._settled.get(memory_id)
        return settlement is not None and settlement.outcome == "delivered"

    def note(self, settlement: Settlement, told: asyncio.Future[bool] | None = None) -> None:
        """Record an outcome soon; does not wait."""
        if settlement.outcome != "ambiguous":
            self._settled[settlement.memory_id] = settlement
        self._noted.append((settlement, told))
        if self._timer is None:
            # Not in the caller's context: its request is over when this runs, and its id has no place in the log.
            self._timer = asyncio.get_running_loop().call_later(
                _LINGER_SECONDS, self._tell_noted, context=contextvars.Context()
            )

    async def settle(self, settlement: Settlement) -> bool:
        """Record an outcome now, with what was noted meanwhile; True when the mark is gone."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.note(settlement, told)
        self._tell_noted()
        return await told

    async def flush(self) -> None:
        """Wait until everything noted so far has been told (shutdown)."""
        while self._noted or self._telling:
            self._tell_noted()
            await asyncio.wait(set(self._telling))

    def _tell_noted(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        noted, self._noted = self._noted, []
        for start in range(0, len(noted), _BATCH):
            task = asyncio.create_task(
                self._tell(noted[start : start + _BATCH]), name="settle", context=contextvars.Context()
            )
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, noted: list[Noted]) -> None:
        """Tell one batch, and again what somebody had locked. One memory may come twice: then in two statements."""
        for attempt in range(_LOCKED_ATTEMPTS):
            if not noted:
                return
            if attempt:
                await asyncio.sleep(_RETRY_SECONDS)
            now, later = _one_each(noted)
            try:
                cleared: Sequence[bool | None] = await self._run([settlement for settlement, _ in now])
            except CutoverError as error:
                for entry in noted:
                    self._ended(entry, error)
                self._observer(TaskFailed(self._tenant, "settle", type(error).__name__, error.message))
                return
            for entry, gone in zip(now, cleared, strict=True):
                if gone is None:
                    later.append(entry)
                else:
                    self._ended(entry, gone)
            noted = later
        for entry in noted:
            self._ended(entry, gone=False)

    def _ended(self, entry: Noted, gone: bool | CutoverError) -> None:
        settlement, told = entry
        if self._settled.get(settlement.memory_id) is settlement:
            del self._settled[settlement.memory_id]
        if gone is False and settlement.outcome == "delivered":
            self._on_superseded()
        if told is None or told.done():
            return
        if isinstance(gone, CutoverError):
            told.set_exception(gone)
        else:
            told.set_result(gone)

    async def _run(self, settlements: Sequence[Settlement]) -> Sequence[bool | None]:
        for attempt in range(_ATTEMPTS):
            try:
                cleared = await self._ledger.settle(settlements)
                return [cleared.get(s.memory_id, False) for s in settlements]
            except DatabaseFault as fault:
                # The step to A4 renames the table that the function names; a moment later it names another.
                if fault.sqlstate != _UNDEFINED_TABLE or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
            except CutoverError:
                # The marks are durable and fall due after T_z in any case; trying on only saves that wait.
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
        raise AssertionError("unreachable")


def _one_each(
    noted: list[Noted],
) -> tuple[list[Noted], list[Noted]]:
    """The first settlement of each memory, and the rest: a statement can change a mark once only."""
    seen: set[UUID] = set()
    now: list[Noted] = []
    later: list[Noted] = []
    for entry in noted:
        (later if entry[0].memory_id in seen else now).append(entry)
        seen.add(entry[0].memory_id)
    return now, later
