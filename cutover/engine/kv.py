"""The switch `CUTOVER_KV`: whether rows of `workspace_memory` become plugin memories too (decision 0014).

Capture is installed in the database, so it is one fact for all daemons of a tenant. A daemon makes it what its own
switch says when it starts and when it makes the step to A1; with daemons that disagree, the last one to do so has its
way, and each says in its log what it did. Switched off, the plugin forgets the K/V memories: stale copies would look
like live ones. workspace_memory is the authority throughout, so nothing is lost by switching, either way.
"""

import asyncio
import random
from typing import Any

from cutover.domain.errors import CutoverError, LockTimeout, OperatorError
from cutover.domain.events import KvSwitched, Observer, TaskFailed
from cutover.stores.database import Connection
from cutover.stores.kv import KvStore

_ATTEMPTS = 8
_AGAIN_SECONDS = 2.0


class KvSwitch:
    """One tenant's K/V switch."""

    def __init__(self, tenant: str, store: KvStore, observer: Observer, *, on: bool) -> None:
        self._tenant = tenant
        self._store = store
        self._observer = observer
        self.on = on
        self._applied = False
        self._did: str | None = None

    async def start(self) -> None:
        """Make the capture what the switch says. Raises `OperatorError` where there is no K/V to copy.

        A table that somebody keeps locked does not hold up the start: `run` goes on trying, loudly.
        """
        if self.on and (lacks := await self._store.lacks()) is not None:
            raise OperatorError(
                f"CUTOVER_KV is on, but tenant {self._tenant} has no fitting table public.workspace_memory"
                f" (it lacks {lacks})",
                next_step="bring workspace-server up to date, or set CUTOVER_KV=off (for one tenant: its key kv)",
            )
        for attempt in range(_ATTEMPTS):
            try:
                await self._apply()
            except LockTimeout as error:
                if attempt == _ATTEMPTS - 1:
                    self._failed(error)
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, so that two daemons part ways
            else:
                return

    def status(self) -> dict[str, Any]:
        """For `cutover status`: the switch of this daemon, and what it did with it (None: nothing yet)."""
        return {"switch": "on" if self.on else "off", "applied": self._did}

    async def run(self) -> None:
        """Finish what a lock or a crash left undone, for ever."""
        while True:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                if not self._applied:
                    await self._apply()
                await self._store.tidy()
            except CutoverError as error:
                self._failed(error)

    async def tidy(self) -> int:
        """After a step to A1: how many K/V memories the plugin will forget."""
        return await self._store.tidy()

    async def is_behind(self) -> bool:
        """Whether K/V is captured and its backfill has not reached every row."""
        return await self._store.is_behind()

    async def enter_a1(self, connection: Connection) -> None:
        """Part of the step A0 → A1."""
        await self._store.enter_a1(connection, on=self.on)
        self._applied = True

    async def enter_a0(self, connection: Connection) -> None:
        """Part of the step A1 → A0."""
        await self._store.enter_a0(connection)

    async def _apply(self) -> None:
        did = await self._store.switch(self.on)
        self._applied, self._did = True, did
        self._observer(KvSwitched(self._tenant, self.on, did))

    def _failed(self, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, "kv", type(error).__name__, error.message))
