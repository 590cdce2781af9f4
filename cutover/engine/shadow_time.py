"""How A1 goes, for the gate of A2: writes are counted here, sweeps are read from the record.

What is counted is kept in memory for a few seconds and then added to the database, so a restart loses nothing, and a
daemon that is killed loses at most that.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, TaskFailed
from cutover.domain.evidence import ShadowEvidence
from cutover.domain.phase import Phase
from cutover.domain.write_fault import Counted, counted
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.shadow import ShadowStore

_FLUSH_SECONDS = 5.0


class WriteTally:
    """Counts one tenant's writes while it is in A1. One task runs `run`."""

    def __init__(self, tenant: str, store: ShadowStore, phase: PhaseWatch, observer: Observer) -> None:
        self._tenant = tenant
        self._store = store
        self._phase = phase
        self._observer = observer
        self._pending: dict[int, tuple[int, int]] = {}

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around one write, from the door on."""
        try:
            yield
        except BaseException as error:
            self._count(counted(error))
            raise
        self._count(Counted.WRITE)

    def undelivered(self) -> None:
        """A write that was answered, and counted, did not reach the plugin within its request."""
        self._add(0, 1)

    async def flush(self) -> None:
        """Add what was counted to the record; raises the errors of `Database`, and then keeps it."""
        for epoch in list(self._pending):
            writes, errors = self._pending.pop(epoch)
            try:
                await self._store.add(epoch, writes, errors)
            except BaseException:
                before = self._pending.get(epoch, (0, 0))
                self._pending[epoch] = (before[0] + writes, before[1] + errors)
                raise

    async def run(self) -> None:
        """Flush now and then, for ever."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            try:
                await self.flush()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "write-tally", type(error).__name__, error.message))

    def _count(self, what: Counted) -> None:
        if what is not Counted.NOTHING:
            self._add(1, int(what is Counted.ERROR))

    def _add(self, writes: int, errors: int) -> None:
        # The phase as it was last known: a write that is refused because it cannot be confirmed is a fault, too.
        state = self._phase.state
        if state is not None and state.phase is Phase.A1:
            before = self._pending.get(state.epoch, (0, 0))
            self._pending[state.epoch] = (before[0] + writes, before[1] + errors)


class ShadowTime:
    """The evidence about A1. `gap`: seconds without a sweep that are too long to count."""

    def __init__(self, store: ShadowStore, phase: PhaseWatch, *, contract_only: bool, gap: float) -> None:
        self._store = store
        self._phase = phase
        self._contract_only = contract_only
        self._gap = gap

    async def evidence(self) -> ShadowEvidence:
        """How it goes; raises `CutoverError` outside of A1. It only reads: what was counted in the last seconds comes
        with the next flush."""
        state = self._phase.current()
        if state.phase is not Phase.A1:
            raise CutoverError(f"it is measured in A1, and the tenant is in {state.phase}")
        return await self._store.evidence(state.epoch, contract_only=self._contract_only, gap=self._gap)
