"""Watching `agent_memories` for others, every second of A3 and A4 (architecture §6, decision 0024).

A look is one function of the database, made by one daemon at a time, and everything it knows is there: so nothing is
lost by a restart, and several daemons count once. Writers need no watching: the capture trigger names them.
"""

import asyncio
import time
from typing import Any

from cutover.domain.access import LOOK_SECONDS, Access
from cutover.domain.errors import CutoverError
from cutover.domain.events import ForeignAccess, Observer, TaskFailed
from cutover.domain.evidence import AccessEvidence
from cutover.domain.phase import Phase
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.access import AccessStore

_TELL_SECONDS = 5.0
SETTLE_SECONDS = 15.0
"""Before it counts: a session tells the statistics up to ten seconds late what it did before the cutover, and another
daemon takes up to its lease to notice the phase."""


class AccessWatch:
    """One tenant's watch."""

    def __init__(
        self, tenant: str, store: AccessStore, phase: PhaseWatch, observer: Observer, *, settle: float = SETTLE_SECONDS
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._phase = phase
        self._observer = observer
        self._settle = settle
        self._last: Access | None = None

    @property
    def wanted(self) -> bool:
        """Whether readers are watched in this phase; then our own reads must be counted."""
        state = self._phase.state
        return state is not None and state.phase in (Phase.A3, Phase.A4)

    async def run(self) -> None:
        """Look for ever."""
        tell_at = time.monotonic()
        looked = True
        while True:
            try:
                if self.wanted:
                    looked = await self._store.look(self._settle) is not None
                if time.monotonic() >= tell_at:
                    tell_at = time.monotonic() + _TELL_SECONDS
                    self._last = await self._store.access()
                    evidence = self._last.evidence()
                    self._observer(ForeignAccess(self._tenant, evidence.reads, evidence.writes, evidence.readers))
                    if evidence.reads_unknown:
                        had = "" if looked else "; somebody else has the lock of the look, and does not let go of it"
                        self._observer(
                            TaskFailed(self._tenant, "access", "NotLookedAt", f"{evidence.reads_unknown}{had}")
                        )
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "access", type(error).__name__, error.message))
            await asyncio.sleep(LOOK_SECONDS)

    def status(self) -> dict[str, Any] | None:
        """As of a few seconds ago, for `status`."""
        return None if self._last is None else self._last.in_short()

    async def evidence(self) -> AccessEvidence:
        """For the gates."""
        return (await self._store.access()).evidence()

    async def access(self) -> Access:
        """Everything known now."""
        return await self._store.access()

    async def report(self) -> dict[str, Any]:
        """For the ops API."""
        return (await self._store.access()).as_json()
