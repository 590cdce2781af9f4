"""Phase changes: one transaction each, by compare-and-set on the epoch (architecture §6).

This is the machine that takes a step; whether it may be taken is `promotion.py`'s to decide. Steps go one at a time,
what a step needs in the database happens in the same transaction as the step (`step.py` and the modules it names), and
a step that cannot be safe is refused.

Every change takes the phase lock exclusively: it waits for the writes under way, and those that come meanwhile wait
for it, so no write ever runs under two phases. The wait is short and bounded (callers give up at 2 s); a change that
cannot have its locks in time is undone by the database and tried again with jitter.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cutover.domain.errors import (
    CutoverError,
    DatabaseUnavailable,
    IllegalStep,
    LockTimeout,
    StaleEpoch,
    StatementTimeout,
)
from cutover.domain.events import Observer, PhaseChanging, WritesHeld
from cutover.domain.phase import Phase, PhaseState, step
from cutover.engine.admission import Admission
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.reconciler import Reconciler
from cutover.engine.step import PlainStep, Step, StillBusy
from cutover.stores.database import Connection, Database
from cutover.stores.ledger import Ledger
from cutover.stores.runs import Runs

KIND = "phase"
_LOCK_TIMEOUT_MS = 400
_IDLE_TIMEOUT_MS = 2000
"""The server ends our session, and with it the step, when we are silent for so long: a daemon that is stopped, or cut
off, in the middle of a step must not keep the tenant's writers out."""
_DOOR_SECONDS = 1.0
"""Beyond the step's own time: for its end, and for learning what phase it is."""
_ATTEMPTS = 10
_TOTAL_SECONDS = 60.0
"""After this no further try is begun."""
_VERDICT_SECONDS = 3.0
_LOST_LOCK_MS = 800
"""How long a session whose connection is lost is given to end its commit."""
_LOOKS = 5
_LOOK_SECONDS = 0.1
_MADE_ALL_THE_SAME = ("the connection broke during the step, which had been made all the same",)


@dataclass(frozen=True, slots=True)
class Changed:
    """A phase change that happened. `notes` are for the operator."""

    before: PhaseState
    after: PhaseState
    notes: tuple[str, ...]
    held_seconds: float = 0.0
    """How long writes were held by the try that succeeded."""

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "from": self.before.phase.value,
            "to": self.after.phase.value,
            "epoch": self.after.epoch,
            "entered_at": self.after.entered_at.isoformat(),
            "held_seconds": round(self.held_seconds, 4),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Warrant:
    """What a promotion consumes. `certificate`: its hash in hex. `judge`: raises where it is void by now; asked right
    before every try of the step."""

    certificate: str
    judge: Callable[[], Awaitable[None]]


class Transition:
    """Changes one tenant's phase. `steps`: what is particular to each step; those that are not there need nothing."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        reconciler: Reconciler,
        steps: Mapping[tuple[Phase, Phase], Step],
        changing: asyncio.Lock,
        *,
        admission: Admission,
        forbidden: Callable[..., Awaitable[None]],
        tenant: str,
        observer: Observer,
    ) -> None:
        """`forbidden` (who wants the step, whether it leads back) raises `IllegalStep` while none may be taken."""
        self._database = database
        self._ledger = ledger
        self._phase = phase
        self._health = health
        self._reconciler = reconciler
        self._steps = steps
        self._changing = changing
        self._admission = admission
        self._forbidden = forbidden
        self._tenant = tenant
        self._observer = observer
        self._under_way: tuple[Phase, datetime, Step] | None = None

    def planned(self, before: Phase, target: Phase) -> tuple[str, ...]:
        """What the step does, in order."""
        return (
            "hold new writes and let those under way finish",
            *self._step(before, target).planned(),
            f"set the phase row from {before} to {target} if its epoch is still the same, and append the event",
            "tell the other daemons of this tenant and let writes go on",
        )

    async def change(
        self,
        target: Phase,
        actor: str,
        reason: str,
        expected_epoch: int | None = None,
        warrant: Warrant | None = None,
    ) -> Changed:
        """Go one step to `target`; raises `IllegalStep` with the reason when the step is not allowed now."""
        self.refuse_while_changing()
        since = datetime.now(UTC)
        self._under_way = (target, since, PlainStep())
        self._observer(PhaseChanging(self._tenant, since.timestamp()))
        try:
            return await self._change(target, actor, reason, expected_epoch, warrant)
        finally:
            self._under_way = None
            self._observer(PhaseChanging(self._tenant, 0.0))

    @property
    def under_way(self) -> dict[str, Any] | None:
        """The change that is being made, `{to, doing, since}`, or None. It goes on when who asked for it hangs up."""
        if self._under_way is None:
            return None
        target, since, taken = self._under_way
        return {"to": target.value, "doing": taken.doing or "working", "since": since.isoformat()}

    def refuse_while_changing(self) -> None:
        """Raises `IllegalStep` at once where a change of phase is under way: nobody waits in line for one."""
        if (told := self.under_way) is not None:
            raise IllegalStep(
                f"a change of phase is under way: to {told['to']}, {told['doing']}, since {told['since']}",
                next_step="cutover phase show (it goes on by itself)",
            )

    async def _change(
        self, target: Phase, actor: str, reason: str, expected_epoch: int | None, warrant: Warrant | None
    ) -> Changed:
        async with self._changing:
            before = await self._phase.reload()
            await self._first_verdict()
            self._allowed(before, target, expected_epoch)
            await self._forbidden(actor, back=target.order < before.phase.order)
            taken = self._step(before.phase, target)
            if self._under_way is not None:
                self._under_way = (*self._under_way[:2], taken)
            attempt = _Attempt(before, target, actor, reason, warrant, time.monotonic())
            try:
                taken.doing = "preparing"
                notes = await taken.prepare(before)
                done, held = await self._retried(taken, attempt)
            except StaleEpoch as stale:
                error = IllegalStep("somebody else changed the phase first", next_step="cutover phase show")
                await self._failed(attempt, error)
                raise error from stale
            except CutoverError as error:
                await self._failed(attempt, error)
                raise
            after = await self._as_it_is()
            taken.doing = f"{target} is entered; finishing"
            notes += done + await self._finished(taken, target)
            self._reconciler.wake()
            return Changed(before, after, notes, held)

    async def _as_it_is(self) -> PhaseState:
        """The phase after a change. A connection that died with the step's may be the one that the pool gives first."""
        for _ in range(_LOOKS):
            with contextlib.suppress(DatabaseUnavailable):
                return await self._phase.reload()
            await asyncio.sleep(_LOOK_SECONDS)
        return await self._phase.reload()

    async def _finished(self, taken: Step, target: Phase) -> tuple[str, ...]:
        """What is left to do. The step is made, whatever comes of this."""
        try:
            return await taken.after()
        except CutoverError as error:
            return (f"{target} is entered; what follows it failed and is tried again: {error.message}",)

    def _step(self, before: Phase, target: Phase) -> Step:
        return self._steps.get((before, target)) or PlainStep()

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
        if target is Phase.A4 and (before.phase, target) not in self._steps:
            raise IllegalStep("A4 archives and drops legacy, which this version cannot do yet", next_step="stay in A3")
        if target.needs_plugin and target.order > before.phase.order and (self._health.away or not self._health.up):
            raise IllegalStep(
                f"{target} needs a healthy plugin: {self._health.why or 'the breaker is open'}",
                next_step="mend the plugin, then `cutover doctor`",
            )

    async def _retried(self, taken: Step, wanted: "_Attempt") -> tuple[tuple[str, ...], float]:
        """Notes, and the seconds for which writes were held."""
        attempt = 0
        while True:
            attempt += 1
            try:
                taken.doing = f"try {attempt}: waiting for what is under way, then holding writes"
                await taken.calm()
                if wanted.warrant is not None:
                    await wanted.warrant.judge()
                return await self._held(taken, wanted)
            except (LockTimeout, StillBusy) as error:
                who = await taken.in_the_way()
                if attempt == _ATTEMPTS or time.monotonic() >= wanted.began + _TOTAL_SECONDS:
                    raise IllegalStep(
                        f"the step could not be made in {attempt} tries: {error.message}"
                        + (f"; in the way: {who}" if who else ""),
                        next_step="wait for long transactions on agent_memories or end them, then try again",
                    ) from error
                await asyncio.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - jitter, so that two daemons part ways

    async def _held(self, taken: Step, wanted: "_Attempt") -> tuple[tuple[str, ...], float]:
        """One try, with new writes waiting at the door until the phase that came of it is known."""
        notes: tuple[str, ...] = ()
        seconds, made = 0.0, False
        try:
            # The connection first: while the pool has none to spare, nobody waits at the door.
            async with self._database.connection() as connection:
                began = time.monotonic()
                with self._admission.hold(taken.hold_seconds + _DOOR_SECONDS):
                    try:
                        notes = await self._in_one_transaction(connection, taken, wanted)
                        made = True
                    except DatabaseUnavailable:
                        if not await self._was_made(wanted):
                            raise
                        notes, made = _MADE_ALL_THE_SAME, True
                    finally:
                        if made:
                            with contextlib.suppress(CutoverError, TimeoutError):  # every write asks for itself then
                                async with asyncio.timeout(_DOOR_SECONDS):
                                    await self._phase.reload()
                        seconds = time.monotonic() - began
                        self._observer(WritesHeld(self._tenant, wanted.before.phase, wanted.target, seconds, made=made))
        except DatabaseUnavailable:
            if not made:
                raise
            notes += _MADE_ALL_THE_SAME  # it was found broken when it was given back, which undoes nothing
        return notes, seconds

    async def _was_made(self, wanted: "_Attempt") -> bool:
        """The connection broke: before the commit, or after? Its session may still be at it, and holds the phase lock
        until the answer is final."""
        for _ in range(_LOOKS):
            try:
                async with self._database.transaction() as connection:
                    await connection.execute(f"set local lock_timeout = {_LOST_LOCK_MS}")
                    await connection.execute("select pg_advisory_xact_lock_shared(cutover.phase_lock_key())")
            except DatabaseUnavailable:
                await asyncio.sleep(_LOOK_SECONDS)
            except LockTimeout:
                break
            else:
                break
        now = await self._as_it_is()
        return (now.epoch, now.phase) == (wanted.before.epoch + 1, wanted.target)

    async def _in_one_transaction(self, connection: Connection, taken: Step, wanted: "_Attempt") -> tuple[str, ...]:
        try:
            async with self._database.transaction_within(connection, taken.hold_seconds) as begun:
                await begun.execute(
                    f"set local lock_timeout = {_LOCK_TIMEOUT_MS};"
                    f" set local idle_in_transaction_session_timeout = {_IDLE_TIMEOUT_MS}"
                )
                notes = await taken.carry_out(begun)
                epoch = await self._ledger.set_phase(
                    begun,
                    wanted.before.epoch,
                    wanted.target,
                    wanted.actor,
                    wanted.reason,
                    wanted.certificate,
                )
                await wanted.record(begun, "finished", {"epoch": epoch, "notes": list(notes)})
        except StatementTimeout as error:
            raise StillBusy(f"the step took longer than writes may be held ({taken.hold_seconds:g} s)") from error
        return notes

    async def _failed(self, wanted: "_Attempt", error: CutoverError) -> None:
        """A change that came to nothing is on record too, where the database takes it."""
        with contextlib.suppress(CutoverError):
            await wanted.record(self._database, "failed", {"why": error.message})


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A change that is wanted, since `began` (monotonic)."""

    before: PhaseState
    target: Phase
    actor: str
    reason: str
    warrant: Warrant | None
    began: float

    @property
    def certificate(self) -> str | None:
        """What it consumes."""
        return None if self.warrant is None else self.warrant.certificate

    async def record(self, connection: "Connection | Database", state: str, outcome: dict[str, Any]) -> None:
        """Its task run, which names the runbook that was followed."""
        told = {"from": self.before.phase.value, "to": self.target.value, "reason": self.reason}
        seconds = time.monotonic() - self.began
        await Runs.record_ended(connection, KIND, self.actor, told, state, outcome, seconds)
