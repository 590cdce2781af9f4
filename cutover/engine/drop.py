"""A3 → A4 and what follows: the journal takes legacy's rows over, the table is renamed and held, then dropped.

The order is what makes it safe (decision 0022). Rows are taken over while legacy is frozen, so nothing is missed; the
rename and the switch to the stand-in are in the transaction that enters A4, so whatever dies, either nothing names the
table or it has its name; the drop is one transaction with its record, after an intent that was recorded before. Nothing
here cascades: an object that depends on the table stops it, and says so. However the tenant came to A4, an override
included, the table is held until a whole archive covers it that was restored on trial; there is no way around that.
"""

import asyncio
import contextlib
import random
from typing import Any

from cutover.domain.errors import CutoverError, IllegalStep, LockTimeout, OperatorError
from cutover.domain.events import DropLooked, Observer, TaskFailed
from cutover.domain.evidence import DropEvidence
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.redaction import redact_note
from cutover.engine.archive import Archivist
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.step import PlainStep, lock_phase, who_is_in_the_way
from cutover.stores.database import Connection
from cutover.stores.drop import DropState, DropStore, set_aside
from cutover.stores.runs import Runs

KIND = "drop"
_ROWS = 2_000
_LOCK_TIMEOUT_MS = 100
_ATTEMPTS = 10
_LOOK_SECONDS = 1.0
_BLOCKED_SECONDS = 60.0
_DAEMON = "cutover"
_ARCHIVE = "cutover archive create"


class Drop(PlainStep):
    """A3 → A4. `hold`: seconds for which the renamed table is kept."""

    hold_seconds: float = 30.0
    """Every row of the table is looked for in the journal once more. Writes that cannot wait so long are refused."""

    def __init__(self, store: DropStore, runs: Runs, hold: float) -> None:
        self._store = store
        self._runs = runs
        self._hold = hold

    def planned(self) -> tuple[str, ...]:
        """Taking over, and the hold."""
        return (
            "check that nothing depends on agent_memories",
            "take every row of agent_memories over into the journal",
            f"rename agent_memories and hold it for {self._hold:g} s; `cutover drop cancel` gives it its name back",
            "after the hold: drop it, once an archive covers it that is whole and was restored on trial",
        )

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """Nothing depends on the table, and the journal knows every row of it."""
        if dependants := await self._store.dependants():
            raise IllegalStep(
                f"agent_memories cannot go: {len(dependants)} objects depend on it: " + ", ".join(map(str, dependants)),
                next_step="change or drop them, then `cutover drop show`",
            )
        adopted = await self._adopt(before)
        notes = [f"the journal took {adopted} rows of agent_memories over"]
        if unplaced := await self._store.unplaced():
            notes.append(f"{unplaced} rows belong to no workspace: they are in the archive only")
        return tuple(notes)

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """The rename, and everything that names the table."""
        await lock_phase(connection)
        name = await set_aside(connection, self._hold, _DAEMON, "with the step to A4")
        return (f"agent_memories is {name} now and is dropped when its hold of {self._hold:g} s is over",)

    async def in_the_way(self) -> str:
        """Who has one of the tables, if only to read."""
        return await who_is_in_the_way(self._store.database, readers=True)

    async def _adopt(self, before: PhaseState) -> int:
        """In chunks, each its own transaction: what a kill leaves is found and not taken twice."""
        run = await self._runs.begin(KIND, "step", {"epoch": before.epoch})
        scanned = adopted = 0
        after = None
        try:
            while True:
                seen, taken, last = await self._retried(before.epoch, after)
                scanned, adopted = scanned + seen, adopted + taken
                self.doing = f"the journal takes agent_memories over: {scanned} rows looked at"
                if seen:
                    await self._runs.checkpoint(run, {"after": str(last), "scanned": scanned, "adopted": adopted})
                    after = last
                if seen < _ROWS:
                    break
        except CutoverError as error:
            await self._runs.finish(run, "failed", {"scanned": scanned, "adopted": adopted, "why": error.message})
            raise
        await self._runs.finish(run, "finished", {"scanned": scanned, "adopted": adopted})
        return adopted

    async def _retried(self, epoch: int, after: Any) -> tuple[int, int, Any]:
        for attempt in range(_ATTEMPTS):
            try:
                return await self._store.adopt_chunk(epoch, after, _ROWS)
            except LockTimeout:
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter
        raise AssertionError("unreachable")


async def disown(store: DropStore, epoch: int) -> None:
    """Before a way back: nothing is left of what the journal took over. Raises `StaleEpoch`."""
    while await store.disown_chunk(epoch, 10 * _ROWS):
        pass


class DropKeeper:
    """The hold: shown, called off, begun again, and carried out when it is over."""

    def __init__(
        self,
        tenant: str,
        store: DropStore,
        phase: PhaseWatch,
        observer: Observer,
        changing: asyncio.Lock,
        archives: Archivist,
        *,
        hold: float,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._archives = archives
        self._observer = observer
        self._changing = changing
        self._hold = hold
        self._phase = phase
        self.last: DropState | None = None
        """As last looked at."""

    async def evidence(self) -> DropEvidence:
        """Where it stands, and what stands in the way of it: also what would, when the hold were over now."""
        state = await self._store.state(timeout=2.0)
        found = tuple(str(each) for each in await self._store.dependants(timeout=2.0))
        blocked, remedy = await self._in_the_way(state, found)
        return DropEvidence(found, state.told, state.remaining, blocked, remedy)

    async def show(self) -> dict[str, Any]:
        """The state, what stands in the way, what depends on the table, and every step so far."""
        self.last = state = await self._store.state()
        found = await self._store.dependants()
        blocked, remedy = await self._in_the_way(state, tuple(map(str, found)))
        return {
            **state.as_json(),
            "blocked": blocked or None,
            "next": remedy or None,
            "dependants": [{"kind": each.kind, "name": each.name} for each in found],
            "history": await self._store.history(),
        }

    async def _in_the_way(self, state: DropState, dependants: tuple[str, ...]) -> tuple[str, str]:
        """Why a table that is held is not dropped, or will not be, and the command for that. Reads no archive."""
        if state.state != "aside":
            return "", ""
        if dependants:
            return f"depends on it: {', '.join(dependants)}", "cutover drop show (change or drop what depends on it)"
        try:
            seen = await self._archives.evidence()
        except OperatorError as error:  # its files cannot be looked at
            return error.message, error.next_step
        if seen is None or seen.lacks:
            return "no archive has been written" if seen is None else seen.lacks, _ARCHIVE
        if not state.blocked:
            return "", ""
        return state.blocked, _ARCHIVE if state.blocked.endswith(_ARCHIVE) else "cutover drop show"

    async def start(self, actor: str, reason: str) -> dict[str, Any]:
        """Begin the hold again. Raises `OperatorError` unless it was called off in A4."""
        async with self._changing:
            self.last = state = await self._store.state()
            if (phase := self._phase.current().phase) is not Phase.A4:
                raise OperatorError(
                    f"the tenant is in {phase}: agent_memories is dropped in A4",
                    next_step="`cutover phase promote A4` renames it and begins the hold",
                )
            if state.state != "cancelled":
                raise OperatorError(f"nothing to begin: {_words(state)}", next_step="cutover drop show")
            if dependants := await self._store.dependants():
                raise OperatorError(
                    f"agent_memories cannot go: {len(dependants)} objects depend on it: "
                    + ", ".join(map(str, dependants)),
                    next_step="change or drop them, then try again",
                )
            await self._with_locks(
                lambda: self._store.set_aside_again(self._hold, actor, redact_note(reason)[:2000], _LOCK_TIMEOUT_MS)
            )
        return await self.show()

    async def cancel(self, actor: str, reason: str) -> dict[str, Any]:
        """Give the table its name back. Raises `OperatorError` where it is not held."""
        async with self._changing:
            if not await self._with_locks(
                lambda: self._store.take_back(actor, redact_note(reason)[:2000], _LOCK_TIMEOUT_MS)
            ):
                raise OperatorError(
                    f"nothing to call off: {_words(await self._store.state())}", next_step="cutover drop show"
                )
        return await self.show()

    async def run(self) -> None:
        """Watch the hold, and drop when it is over, for ever."""
        while True:
            wait = _LOOK_SECONDS
            try:
                self._archives.ended.clear()
                self.last = state = await self._store.look()
                if state.state == "aside" and state.remaining == 0:
                    async with self._changing:
                        if not await self._carry_out():
                            wait = _BLOCKED_SECONDS
                self._observer(DropLooked(self._tenant, self.last.remaining or 0.0, self.last.told == "blocked"))
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "drop", type(error).__name__, error.message))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._archives.ended.wait()

    async def _carry_out(self) -> bool:
        """Recorded before it is tried; the drop itself is one transaction with its own record."""
        if dependants := await self._store.dependants():
            await self._blocked("depends on it: " + ", ".join(map(str, dependants)))
            return False
        if why := await self._archives.verified():
            await self._blocked(f"{why}; next: {_ARCHIVE}")
            return False
        await self._store.note("dropping", _DAEMON)
        try:
            # Once a round: whoever reads the held table may do so for long, and nobody else is to feel that.
            await self._store.drop(_DAEMON, _LOCK_TIMEOUT_MS)
        except CutoverError as error:
            await self._blocked(error.message)
            return False
        self.last = await self._store.state()
        return True

    async def _blocked(self, why: str) -> None:
        """Said once, not once a minute."""
        if (await self._store.state()).blocked != why:
            await self._store.note("blocked", _DAEMON, why)
        self.last = await self._store.state()
        self._observer(TaskFailed(self._tenant, "drop", "Blocked", f"agent_memories is not dropped: {why}"))

    async def _with_locks(self, attempt: Any) -> Any:
        """Locks on a table in use, waited for shortly and often, so that nobody queues up behind us for long."""
        for tries in range(_ATTEMPTS):
            try:
                return await attempt()
            except LockTimeout:
                if tries == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(random.uniform(0.1, 0.6))  # noqa: S311 - jitter
        raise AssertionError("unreachable")


def _words(state: DropState) -> str:
    return {
        "none": "agent_memories has not been renamed yet",
        "aside": f"{state.relation} is held until {state.hold_until}"
        + (f", and not dropped: {state.blocked}" if state.blocked else ""),
        "cancelled": "the drop was called off",
        "dropped": "agent_memories has been dropped",
    }[state.state]
