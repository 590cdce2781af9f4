"""A3 → A2: what was written since the cutover goes back into legacy, exactly (architecture §6, decision 0021).

The journal may be weeks long, and callers wait while writes are held. So most of it goes ahead, in chunks, while the
tenant is still in A3 and serves; what changes meanwhile goes in the next round, and only the rest while writes are
held. A way back that is given up, or dies, leaves nothing to undo: in A3 legacy is not asked about a memory that the
journal speaks of, and the next one goes on where this one was.
"""

import asyncio
import time

from cutover.domain.errors import CutoverError, LockTimeout
from cutover.domain.events import Observer, TaskFailed
from cutover.domain.phase import PhaseState
from cutover.engine.drop import disown
from cutover.engine.reconciler import Reconciler
from cutover.engine.step import PlainStep, StillBusy, lock_phase, until_calm, until_none, who_is_in_the_way
from cutover.stores.database import Connection, Database
from cutover.stores.drop import DropStore
from cutover.stores.freeze import FreezeStore
from cutover.stores.way_back import WayBackStore

_CHUNK = 2000
_FEW = 200
"""Memories that are left to the time in which writes are held: some tens of milliseconds."""
_MOST = 2000
"""With more of them left a try is not made: what keeps them from going ahead has to end first."""
_ROUNDS = 8
_SHOWN = 20
_LOOK_SECONDS = 2.0
# Intents whose caller may still be told no. The rest of them is replayed as it stands: a rollback must not need the
# plugin, because a dead one is a reason for it.
_INTENTS_UNDER_WAY = """
select exists (
    select from cutover.mark m join cutover.journal j on j.memory_id = m.memory_id and j.state = 'intent'
    where m.ambiguous and m.due_at > clock_timestamp() and m.sent_at < clock_timestamp() - make_interval(secs => $1))
"""


class WayBack(PlainStep):
    """The step. `run` finishes what it leaves for afterwards, also after a crash."""

    hold_seconds: float = 5.0

    def __init__(self, tenant: str, database: Database, reconciler: Reconciler, observer: Observer) -> None:
        self._tenant = tenant
        self._database = database
        self._store = WayBackStore(database)
        self._reconciler = reconciler
        self._drops = DropStore(database)
        self._observer = observer
        self._before: PhaseState | None = None
        self.held_seconds = 0.0
        """How long writes were held by the last one."""

    def planned(self) -> tuple[str, ...]:
        """The replay."""
        return ("replay what changed in the journal meanwhile into agent_memories",)

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """What the journal took over for A4 is legacy's again. Of the rest, most goes ahead."""
        self._before = before
        await disown(self._drops, before.epoch)
        started, moved = time.monotonic(), 0
        for _ in range(_ROUNDS):
            of_this_round = await self._ahead(before.epoch)
            moved += of_this_round
            if of_this_round <= _FEW:
                break
        return (f"{moved} writes went into legacy ahead, in {time.monotonic() - started:.1f} s",) if moved else ()

    async def calm(self) -> None:
        """Intents under way end first; what they leave goes ahead as well."""
        await until_calm(self._database, self._reconciler, _INTENTS_UNDER_WAY)
        if self._before is not None:
            await self._ahead(self._before.epoch)

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """Hold the writes, replay the rest."""
        await lock_phase(connection)
        began = time.monotonic()
        await until_none(connection, _INTENTS_UNDER_WAY)
        if await self._store.waiting(connection, _MOST) >= _MOST:
            raise StillBusy(f"more than {_MOST} memories could not go ahead into agent_memories")
        await connection.execute("delete from cutover.journal where adopted")  # by another daemon, since `prepare`
        await FreezeStore.ease_in(connection, "thawing", "cutover")
        left = await self._store.replay_rest(connection, timeout=self.hold_seconds)
        self.held_seconds = time.monotonic() - began
        return (f"{left} memories were replayed while writes were held, for {self.held_seconds:.2f} s",)

    async def in_the_way(self) -> str:
        """Who has rows of the tables, or keeps the phase still."""
        return await who_is_in_the_way(self._database)

    async def after(self) -> tuple[str, ...]:
        """What the stay in A3 came to, and what v1 has no form for."""
        assert self._before is not None  # noqa: S101 - `prepare` was there
        came_to = await self._store.replayed(self._before.epoch)
        natives = await self._store.natives(_SHOWN)
        await self.finish()
        words = f"{came_to.upserted} writes and {came_to.deleted} deletes since the cutover were replayed into legacy"
        stay = f"{natives.total} memories have no v1 form and stay plugin-only"
        if natives.shown:
            stay += ": " + ", ".join(natives.shown) + (" …" if natives.total > len(natives.shown) else "")
        return (words, stay)

    async def finish(self) -> None:
        """Put the journal's words aside that legacy has taken over. Raises the errors of `Database`."""
        while await self._store.silence(_CHUNK):
            pass

    async def run(self) -> None:
        """Finish what a crash left, for ever."""
        while True:
            try:
                await self.finish()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "way_back", type(error).__name__, error.message))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _ahead(self, epoch: int) -> int:
        """One round through the journal; gives how many writes went into legacy. Raises `StaleEpoch`."""
        moved, after = 0, None
        while True:
            try:
                chunk = await self._store.replay_ahead(epoch, after, _CHUNK)
            except LockTimeout:  # somebody holds rows of it: that part waits, the others go on
                after = await self._store.end_of_chunk(after, _CHUNK)
                if after is None:
                    return moved
                continue
            moved += chunk.moved
            self.doing = f"the journal goes into agent_memories ahead: {moved} writes of this round are there"
            if chunk.last_id is None or chunk.seen < _CHUNK:
                return moved
            after = chunk.last_id
