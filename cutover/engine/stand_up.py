"""A0 → A1 and back: the capture triggers come and go, and what went unseen meanwhile is looked for."""

import asyncio

from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, TaskFailed
from cutover.engine.kv import KvSwitch
from cutover.engine.step import PlainStep, lock_phase, who_is_in_the_way
from cutover.stores.database import Connection
from cutover.stores.ledger import Ledger
from cutover.stores.strays import PluginStrays

_STRAYS_SECONDS = 2.0


class StandUp(PlainStep):
    """A0 → A1. `run` finishes what a failure or a crash left open."""

    def __init__(
        self,
        ledger: Ledger,
        strays: PluginStrays | None,
        kv: KvSwitch,
        tenant: str,
        observer: Observer,
        changing: asyncio.Lock,
    ) -> None:
        self._ledger = ledger
        self._strays = strays
        self._kv = kv
        self._tenant = tenant
        self._observer = observer
        self._changing = changing
        """Held by whoever changes the phase."""

    def planned(self) -> tuple[str, ...]:
        """The triggers."""
        return ("install the capture triggers on agent_memories and workspaces",)

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """The phase lock first: our own writers hold it while they wait for the table, never after."""
        await lock_phase(connection)
        await connection.execute("select cutover.install_capture()")
        await self._kv.enter_a1(connection)
        await connection.execute("select cutover.mark_tombstones()")
        return ()

    async def in_the_way(self) -> str:
        """Who has one of the tables."""
        return await who_is_in_the_way(self._ledger.database)

    async def after(self) -> tuple[str, ...]:
        """What the plugin holds and legacy no longer has, or has elsewhere, must go."""
        return await self._first_look_for_strays() + await self._first_tidying_of_kv()

    async def _first_look_for_strays(self) -> tuple[str, ...]:
        if self._strays is None:
            await self._ledger.strays_done()
            return ("the plugin's database cannot be reached: rows it holds beyond legacy were not looked for",)
        try:
            found = await self._forget_strays(self._strays)
        except CutoverError as error:
            return (f"looking for rows that only the plugin still holds failed and goes on: {error.message}",)
        return (f"{found} memories that only the plugin still held will be forgotten",) if found else ()

    async def _first_tidying_of_kv(self) -> tuple[str, ...]:
        """As for strays: what fails here is tried again by the switch's own task."""
        try:
            found = await self._kv.tidy()
        except CutoverError as error:
            return (f"looking for K/V rows that only the plugin still holds failed and goes on: {error.message}",)
        return (f"{found} K/V memories whose rows are gone will be forgotten",) if found else ()

    async def _forget_strays(self, strays: PluginStrays) -> int:
        found = await strays.mark(self._ledger)
        await self._ledger.strays_done()
        return found

    async def run(self) -> None:
        """Finish the look for strays that a failure or a crash left open, for ever."""
        while True:
            await asyncio.sleep(_STRAYS_SECONDS)
            try:
                if self._strays is not None and await self._ledger.strays_pending():
                    async with self._changing:
                        await self._forget_strays(self._strays)
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "strays", type(error).__name__, error.message))


class StandDown(PlainStep):
    """A1 → A0."""

    def __init__(self, kv: KvSwitch) -> None:
        self._kv = kv

    def planned(self) -> tuple[str, ...]:
        """The triggers."""
        return ("remove the capture triggers", "let others write agent_memories, if they were still refused")

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """The triggers go in the same transaction as the phase."""
        await lock_phase(connection)
        await connection.execute("select cutover.remove_capture()")
        await connection.execute("select cutover.thaw('cutover')")  # in A0 there is nothing to compare legacy with
        await self._kv.enter_a0(connection)
        return ()
