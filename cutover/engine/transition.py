"""Phase changes: one transaction each, by compare-and-set on the epoch (architecture §6).

This is the bare machine: steps go one at a time, what a step needs in the database happens in the same transaction as
the step, and a step that cannot be safe is refused. Gates, certificates, approvals, the freeze and the drop are not
part of it yet, and its answer says so.

Every change takes the phase lock exclusively: it waits for the writes under way, and those that come meanwhile wait
for it, so no write ever runs under two phases. The wait is short and bounded (callers give up at 2 s); a change that
cannot have its locks in time is undone by the database and tried again with jitter.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any

from cutover.domain.errors import CutoverError, IllegalStep, LockTimeout, StaleEpoch
from cutover.domain.events import Observer, TaskFailed
from cutover.domain.phase import Phase, PhaseState, step
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.kv import KvSwitch
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.reconciler import Reconciler
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Connection, Database
from cutover.stores.ledger import Ledger
from cutover.stores.strays import PluginStrays

_LOCK_TIMEOUT_MS = 400
_ATTEMPTS = 10
_STRAYS_SECONDS = 2.0
_REPLAY_SECONDS = 600.0
_VERDICT_SECONDS = 3.0
_HOLD_SECONDS = 0.8
"""How long writes may be held while what a step waits for ends."""
_CALM_SECONDS = 30.0
# K/V rows may change while this waits, and their marks mean the same on either side: they are not waited for.
_MARKS = """
select exists (
    select from cutover.mark m
    where m.origin <> 'kv' and m.marked_at < clock_timestamp() - make_interval(secs => $1))
"""
# Intents whose caller may still be told no. The rest of them is replayed as it stands: a rollback must not need the
# plugin, because a dead one is a reason for it.
_INTENTS_UNDER_WAY = """
select exists (
    select from cutover.mark m join cutover.journal j on j.memory_id = m.memory_id and j.state = 'intent'
    where m.ambiguous and m.due_at > clock_timestamp() and m.sent_at < clock_timestamp() - make_interval(secs => $1))
"""
_WAITED_FOR = {(Phase.A2, Phase.A3): _MARKS, (Phase.A3, Phase.A2): _INTENTS_UNDER_WAY}
NOT_YET = "gates, approvals, freeze and drop are not part of this version: the phase was changed without them"


@dataclass(frozen=True, slots=True)
class Changed:
    """A phase change that happened. `notes` are for the operator."""

    before: PhaseState
    after: PhaseState
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "from": self.before.phase.value,
            "to": self.after.phase.value,
            "epoch": self.after.epoch,
            "entered_at": self.after.entered_at.isoformat(),
            "notes": list(self.notes),
        }


class Transition:
    """Changes one tenant's phase."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        reconciler: Reconciler,
        strays: PluginStrays | None,
        kv: KvSwitch,
        tenant: str,
        observer: Observer,
    ) -> None:
        self._tenant = tenant
        self._observer = observer
        self._database = database
        self._ledger = ledger
        self._phase = phase
        self._health = health
        self._reconciler = reconciler
        self._strays = strays
        self._kv = kv
        self._one_at_a_time = asyncio.Lock()

    async def change(self, target: Phase, actor: str, reason: str, expected_epoch: int | None = None) -> Changed:
        """Go one step to `target`; raises `IllegalStep` with the reason when the step is not allowed now."""
        async with self._one_at_a_time:
            before = await self._phase.reload()
            await self._first_verdict()
            self._allowed(before, target, expected_epoch)
            notes = await self._prepare(before, target)
            notes += await self._retried(before, target, actor, reason)
            after = await self._phase.reload()
            if (before.phase, target) == (Phase.A0, Phase.A1):
                notes += await self._first_look_for_strays()
                notes += await self._first_tidying_of_kv()
            self._reconciler.wake()
            return Changed(before, after, (*notes, NOT_YET))

    async def _first_verdict(self) -> None:
        """Right after a start the plugin may not have been probed often enough to be called up or down."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_VERDICT_SECONDS):
                await self._health.settled.wait()

    def _allowed(self, before: PhaseState, target: Phase, expected_epoch: int | None) -> None:
        if expected_epoch is not None and expected_epoch != before.epoch:
            raise IllegalStep(
                f"the tenant is in epoch {before.epoch}, not {expected_epoch}: somebody changed the phase meanwhile",
                next_step="cutover phase show",
            )
        if (why := step(before.phase, target)) is not None:
            raise IllegalStep(why, next_step="cutover phase show")
        if target is Phase.A4:
            raise IllegalStep("A4 archives and drops legacy, which this version cannot do yet", next_step="stay in A3")
        if target.needs_plugin and target.order > before.phase.order and (self._health.away or not self._health.up):
            raise IllegalStep(
                f"{target} needs a healthy plugin: {self._health.why or 'the breaker is open'}",
                next_step="mend the plugin, then `cutover doctor`",
            )

    async def _prepare(self, before: PhaseState, target: Phase) -> tuple[str, ...]:
        """What must be true before anything is locked."""
        if (before.phase, target) == (Phase.A2, Phase.A3):
            cursors = await BackfillStore(self._database).cursors()
            if not any(c.scope == "tenant" and c.generation == before.generation and c.done for c in cursors):
                raise IllegalStep("the backfill has not reached every row", next_step="cutover backfill --apply")
            if await self._kv.is_behind():
                raise IllegalStep(
                    "the backfill has not reached every K/V row",
                    next_step="cutover backfill --apply --source kv, or start with CUTOVER_KV=off",
                )
            if await self._ledger.strays_pending():
                raise IllegalStep(
                    "the plugin has not been searched yet for rows that legacy lost while it was in A0",
                    next_step="it is tried every few seconds; the log's task.failed says what is in the way",
                )
            backlog = await self._ledger.backlog()
            if backlog.unacknowledged:
                return (f"{backlog.unacknowledged} memories are quarantined: readers will not see them in A3",)
        return ()

    async def _retried(self, before: PhaseState, target: Phase, actor: str, reason: str) -> tuple[str, ...]:
        for attempt in range(_ATTEMPTS):
            if (waited_for := _WAITED_FOR.get((before.phase, target))) is not None:
                await self._until_calm(waited_for)
            try:
                return await self._in_one_transaction(before, target, actor, reason)
            except StaleEpoch as stale:
                raise IllegalStep("somebody else changed the phase first", next_step="cutover phase show") from stale
            except (LockTimeout, _StillMarked) as error:
                if attempt == _ATTEMPTS - 1:
                    raise IllegalStep(
                        f"the step could not be made in {_ATTEMPTS} tries: {error.message}",
                        next_step="look for long transactions on agent_memories (pg_stat_activity), then try again",
                    ) from error
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, so that two daemons part ways
        raise AssertionError("unreachable")

    async def _in_one_transaction(self, before: PhaseState, target: Phase, actor: str, reason: str) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        async with self._database.transaction() as connection:
            await connection.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}")
            match before.phase, target:
                case Phase.A0, Phase.A1:
                    # The phase lock first: our own writers hold it while they wait for the table, never after.
                    await _lock_phase(connection)
                    await connection.execute("select cutover.install_capture()")
                    await self._kv.enter_a1(connection)
                    await connection.execute("select cutover.mark_tombstones()")
                case Phase.A1, Phase.A0:
                    await _lock_phase(connection)
                    await connection.execute("select cutover.remove_capture()")
                    await self._kv.enter_a0(connection)
                case Phase.A2, Phase.A3:
                    await _lock_phase(connection)
                    await self._until_none(connection, _MARKS)
                    await connection.execute("select cutover.silence_journal()", timeout=_REPLAY_SECONDS)
                case Phase.A3, Phase.A2:
                    await _lock_phase(connection)
                    await self._until_none(connection, _INTENTS_UNDER_WAY)
                    notes = await _replay(connection)
                case _:
                    await _lock_phase(connection)
            await self._ledger.set_phase(connection, before.epoch, target, actor, reason)
        return notes

    async def _until_calm(self, waited_for: str) -> None:
        """Without holding anybody up: wait until none of them is older than a delivery takes. Old ones would not go
        out within the hold, and every try that fails has held writes for nothing."""
        until = time.monotonic() + _CALM_SECONDS
        while time.monotonic() < until:
            if not await self._database.fetchval(waited_for, 1.0):
                return
            self._reconciler.wake()
            await asyncio.sleep(0.05)
        raise IllegalStep(
            f"memories still wait for delivery after {_CALM_SECONDS:g} s",
            next_step="`cutover status` shows what waits; is the plugin well, is a foreign transaction open?",
        )

    async def _until_none(self, connection: Connection, waited_for: str) -> None:
        """Writes are held; wait for the last deliveries, for as long as their callers can bear it."""
        until = time.monotonic() + _HOLD_SECONDS
        while await connection.fetchval(waited_for, 0.0):
            if time.monotonic() >= until:
                raise _StillMarked("memories still wait for delivery")
            await asyncio.sleep(0.01)

    async def _first_look_for_strays(self) -> tuple[str, ...]:
        """The phase has changed whatever comes of this: what fails here is tried again until it is done."""
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
        """On coming back from A0: what the plugin holds and legacy no longer has, or has elsewhere, must go."""
        found = await strays.mark(self._ledger)
        await self._ledger.strays_done()
        return found

    async def run(self) -> None:
        """Finish the look for strays that a failure or a crash left open, for ever."""
        while True:
            await asyncio.sleep(_STRAYS_SECONDS)
            try:
                if self._strays is not None and await self._ledger.strays_pending():
                    async with self._one_at_a_time:
                        await self._forget_strays(self._strays)
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "strays", type(error).__name__, error.message))


class _StillMarked(CutoverError):
    """Marks were left when the hold was over."""


async def _lock_phase(connection: Connection) -> None:
    await connection.execute("select pg_advisory_xact_lock(cutover.phase_lock_key())")


async def _replay(connection: Connection) -> tuple[str, ...]:
    row = await connection.fetchrow("select * from cutover.replay_journal()", timeout=_REPLAY_SECONDS)
    assert row is not None  # noqa: S101 - the function gives one row
    replayed = f"{row['upserted']} writes and {row['deleted']} deletes since the cutover were replayed into legacy"
    return (replayed, f"{row['natives']} memories have no v1 form and stay plugin-only")
