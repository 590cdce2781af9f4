"""What phase the tenant is in, as this daemon knows it, and for how long it may believe so.

The truth is one row in the tenant's database; every write is fenced by its epoch there, so a stale belief can never
split a write. It could still answer a read from the wrong store or accept work it must then refuse, so the belief is
a lease: LISTEN tells of a change at once, a poll confirms every second, and without confirmation for `lease` seconds
the daemon refuses (architecture §6).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from cutover.domain.errors import CutoverError, Refused
from cutover.domain.events import Observer, PhaseChanged, TaskFailed
from cutover.domain.phase import PhaseState
from cutover.stores.ledger import Ledger

_POLL_SECONDS = 1.0


class PhaseWatch:
    """The believed phase. `listen` gives an async function that waits for a notification or a time-out."""

    def __init__(self, tenant: str, ledger: Ledger, observer: Observer, *, lease: float) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._observer = observer
        self._lease = lease
        self._confirmed = float("-inf")
        self._lock = asyncio.Lock()
        self.state: PhaseState | None = None
        self.changed = asyncio.Event()
        """Set (and replaced) at every change, for those who wait for a phase."""

    def current(self) -> PhaseState:
        """The phase; raises `Refused` when it is not known or no longer confirmed."""
        if self.state is None or time.monotonic() - self._confirmed > self._lease:
            raise Refused(
                "phase_unconfirmed",
                "the tenant's phase cannot be confirmed with its database",
                next_step="check the database with `cutover doctor`",
            )
        return self.state

    @property
    def confirmed_seconds_ago(self) -> float:
        """Age of the last confirmation in seconds; infinite before the first."""
        return time.monotonic() - self._confirmed

    async def reload(self) -> PhaseState:
        """Read the row now and tell everybody when it changed."""
        async with self._lock:
            asked = time.monotonic()
            state = await self._ledger.phase()
            self._confirmed = asked
            before = self.state
            if before is None or before.epoch != state.epoch:
                self.state = state
                self._observer(
                    PhaseChanged(
                        self._tenant,
                        before.phase if before else None,
                        state.phase,
                        state.epoch,
                        state.entered_at.timestamp(),
                    )
                )
                self.changed.set()
                self.changed = asyncio.Event()
            return state

    async def run(self, wait: Callable[[float], Awaitable[None]]) -> None:
        """Keep the belief fresh for ever. `wait(seconds)` returns early when the database notified of a change."""
        while True:
            try:
                await self.reload()
                await wait(_POLL_SECONDS)
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "phase", type(error).__name__, error.message))
                await asyncio.sleep(_POLL_SECONDS / 4)
