"""The reconciler: the only sender besides the write path (architecture §3). It delivers state, not events.

It claims due marks (`cutover.claim_marks` takes the lease, records that a request is about to go out, and only then
reads the current row with its rev), sends what the memory is now, and settles. A crash at any point leaves the mark
with its lease; nobody sends for that memory again before T_z has passed, because until then the plugin may still act
on what was sent.

Two lanes: live changes first, the backfill's marks with what is left. Each is a queue of claimed states and a few
senders, so that a slow memory does not hold the others up.
"""

import asyncio
import random
import time

from cutover.domain.backoff import RetryBudget, RetryPolicy, delay
from cutover.domain.errors import CutoverError, Refused, StaleEpoch
from cutover.domain.events import BypassWrites, DeliverySettled, MarkCounts, Observer, TaskFailed
from cutover.domain.kv import MAX_BYTES
from cutover.domain.phase import Phase
from cutover.engine.admission import Admission
from cutover.engine.delivery import Deliverer, Delivery, Outcome, settlement_of
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.inflight import Inflight
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.settle import Settler
from cutover.stores.ledger import Backlog, Ledger, Settlement, WriteResult

_IDLE_SECONDS = 0.25
_WATCH_SECONDS = 1.0
_COUNT_SECONDS = 30.0
_KEYS_KEPT_DAYS = 7
"""An Idempotency-Key is honoured for a week: longer than any caller goes on trying."""
_LEASE_SECONDS = 5.0
"""How long a claimed state may wait for its turn; what has not been sent by then is given back unsent."""
_CLAIM = 100
"""Marks per claim. The next claim begins while as many are still to be sent, so the senders do not wait for it."""
_BACKOFF_BASE = 0.2
_BACKOFF_CAP = 10.0
_COPYING = (Phase.A2, Phase.A3, Phase.A4)
"""Where a backfill may be paused (one of K/V also in A3). A step back to A1 does not leave its marks lying."""
_UNPLACEABLE = ("no_workspace", "workspace_gone")


class Reconciler:
    """Delivers one tenant's marks. `senders` bounds its requests under way per lane."""

    def __init__(
        self,
        tenant: str,
        ledger: Ledger,
        phase: PhaseWatch,
        deliverer: Deliverer,
        settler: Settler,
        inflight: Inflight,
        health: PluginHealthMonitor,
        admission: Admission,
        observer: Observer,
        *,
        senders: int,
        timeout: float,
        quarantine: float,
    ) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._phase = phase
        self._deliverer = deliverer
        self._settler = settler
        self._inflight = inflight
        self._health = health
        self._admission = admission
        self._observer = observer
        self._senders = senders
        self._timeout = timeout
        self._quiet = _LEASE_SECONDS + timeout + quarantine
        self._budget = RetryBudget(RetryPolicy(per_second=5.0, reserve=50.0), time.monotonic())
        self._wake = asyncio.Event()
        self._backfill_held = False
        self._rested = {False: float("-inf"), True: float("-inf")}
        """By lane (True: the backfill's): when it was last seen at rest."""
        self._delivered = 0
        self.journal_rows = 0
        self.backlog: Backlog | None = None
        """The last look at what waits."""

    @property
    def delivered(self) -> int:
        """Memories delivered since the start, for rates."""
        return self._delivered

    def wake(self) -> None:
        """Look for due marks now."""
        self._wake.set()

    def hold_backfill(self, held: bool) -> None:
        """Claim no marks of the backfill (an operator paused it), or do again."""
        self._backfill_held = held
        self._wake.set()

    async def run(self, *, backfill: bool) -> None:
        """Deliver one lane for ever."""
        queue: asyncio.Queue[tuple[WriteResult, float]] = asyncio.Queue()
        low = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(self._senders):
                group.create_task(self._sender(queue, low), name=f"sender {number}")
            while True:
                while queue.qsize() > _CLAIM:
                    low.clear()
                    await low.wait()
                # Before the claim: the lease is recorded when the server takes it, which may be long before we hear.
                until = time.monotonic() + _LEASE_SECONDS
                claimed = await self._claim(backfill=backfill)
                for state in claimed:
                    queue.put_nowait((state, until))
                if not claimed:
                    await self._rest()

    async def watch(self) -> None:
        """Keep the counts fresh: backlog for admission and metrics, foreign writers by name."""
        next_count = time.monotonic()
        while True:
            try:
                if time.monotonic() >= next_count:
                    next_count = time.monotonic() + _COUNT_SECONDS
                    self.journal_rows = await self._ledger.journal_rows()
                    await self._ledger.prune_idempotency(_KEYS_KEPT_DAYS)
                self.backlog = await self._ledger.backlog()
                self._admission.live_marks = self.backlog.live
                self._observer(
                    MarkCounts(
                        self._tenant,
                        self.backlog.by_origin,
                        self._oldest(self.backlog),
                        self.backlog.quarantined,
                        self.backlog.unacknowledged,
                        self.journal_rows,
                    )
                )
                for writer, count in (await self._ledger.fold_bypass_writes()).items():
                    self._observer(BypassWrites(self._tenant, writer, count))
            except CutoverError as error:
                self._failed("backlog", error)
            await asyncio.sleep(_WATCH_SECONDS)

    def _rests(self, phase: Phase, *, backfill: bool) -> bool:
        """Whether the lane's marks are left where they are: in A0 all (they are what a later A1 has to deliver), and
        those of a backfill that somebody has paused."""
        return phase is Phase.A0 or (backfill and self._backfill_held and phase in _COPYING)

    def _oldest(self, backlog: Backlog) -> float | None:
        """For how many seconds the oldest mark has waited that is to be delivered; None without one. The time that its
        lane was at rest is no delay of the mark's (as far as this process has seen it)."""
        now, state = time.monotonic(), self._phase.state
        waited = []
        for backfill, age in ((False, backlog.oldest_live), (True, backlog.oldest_backfill)):
            if state is not None and self._rests(state.phase, backfill=backfill):
                self._rested[backfill] = now
            elif age > 0:
                waited.append(min(age, now - self._rested[backfill]))
        return max(waited, default=None)

    async def _claim(self, *, backfill: bool) -> list[WriteResult]:
        """Due marks of the lane, while the plugin is fit to be asked. An unhealthy plugin gets nothing at all."""
        try:
            state = self._phase.current()
            if self._rests(state.phase, backfill=backfill) or not self._health.admit().ok:
                return []
            return await self._ledger.claim(state.epoch, self._quiet, _CLAIM, backfill=backfill)
        except StaleEpoch:
            await self._reload()
        except Refused:
            return []
        except CutoverError as error:
            self._failed("claim", error)
        return []

    async def _reload(self) -> None:
        try:
            await self._phase.reload()
        except CutoverError as error:
            self._failed("phase", error)

    async def _rest(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(_IDLE_SECONDS * (0.5 + random.random())):  # noqa: S311 - spreads replicas
                await self._wake.wait()
        except TimeoutError:
            return

    async def _sender(self, queue: asyncio.Queue[tuple[WriteResult, float]], low: asyncio.Event) -> None:
        while True:
            state, until = await queue.get()
            if queue.qsize() <= _CLAIM:
                low.set()
            # A sender must survive anything one memory can do to it; what it cannot handle stays under its lease.
            try:
                await self._deliver(state, until)
            except Exception as error:  # noqa: BLE001 - told, counted and alerted on; the other memories go on
                self._observer(TaskFailed(self._tenant, "reconciler.deliver", type(error).__name__, _words(error)))

    async def _deliver(self, state: WriteResult, until: float) -> None:
        assert state.rev is not None  # noqa: S101
        assert state.lease_id is not None  # noqa: S101
        if not await self._inflight.acquire(state.memory_id, until - time.monotonic()):
            self._give_back(state)
            return
        try:
            if time.monotonic() >= until:
                self._give_back(state)
                return
            if (wait := self._must_wait(state)) > 0:
                self._give_back(state, wait)
                return
            outcome, note = await self._send(state, time.monotonic() + self._timeout)
            pause = delay(state.attempts + 1, _BACKOFF_BASE, _BACKOFF_CAP, random.random())  # noqa: S311
            settlement = Settlement(
                state.memory_id,
                state.rev,
                state.lease_id,
                state.seq,
                outcome,
                pause if outcome == "failed" else 0,
                note,
            )
            self._settler.note(settlement)
        finally:
            self._inflight.release(state.memory_id)
        self._delivered += outcome == "delivered"
        word = "retry" if outcome == "failed" else outcome
        self._observer(DeliverySettled(self._tenant, "reconciler", word, state.memory_id, state.rev))

    async def _send(self, state: WriteResult, deadline: float) -> tuple[str, str]:
        """Send what the memory is now; gives the outcome and the note for the ledger."""
        reason = _why_unplaceable(state)
        if reason is None and state.status == "upsert":
            delivery = await self._deliverer.upsert(state, deadline, background=True)
            if delivery.outcome is not Outcome.REJECTED:
                return settlement_of(delivery)
            if state.kv is None and (state.seq is not None or self._plugin_is_authority()):
                # It may have been acknowledged, and what the plugin holds of it is all that readers have: nothing is
                # taken away. The payload stays in the journal, the quarantine is loud.
                return settlement_of(delivery)
            reason = settlement_of(delivery)[1]
        # Gone, or not to be placed: then the plugin must not go on showing what it may still hold.
        forgotten: Delivery = await self._deliverer.forget(state, deadline, background=True)
        if reason is None or forgotten.outcome is not Outcome.DELIVERED:
            return settlement_of(forgotten)
        return "quarantined", reason

    def _plugin_is_authority(self) -> bool:
        state = self._phase.state
        return state is not None and state.phase.plugin_is_authority

    def _give_back(self, state: WriteResult, pause: float = 0.0) -> None:
        """Nothing was sent for it: due again after `pause` seconds, without counting as a failure."""
        assert state.rev is not None  # noqa: S101
        assert state.lease_id is not None  # noqa: S101
        self._settler.note(Settlement(state.memory_id, state.rev, state.lease_id, None, "unsent", pause))

    def _must_wait(self, state: WriteResult) -> float:
        """Seconds until the retry budget allows this delivery: a plugin in trouble is not buried under retries."""
        now = time.monotonic()
        if state.attempts == 0:
            self._budget.first_try(now)
            return 0.0
        if self._budget.take(now):
            return 0.0
        return self._budget.wait(now) * (1 + random.random())  # noqa: S311 - spreads those that wait

    def _failed(self, what: str, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, f"reconciler.{what}", type(error).__name__, error.message))


def _words(error: Exception) -> str:
    return error.message if isinstance(error, CutoverError) else "unexpected; the memory stays marked"


def _why_unplaceable(state: WriteResult) -> str | None:
    """The quarantine reason of a state that no plugin could take, or None."""
    if state.status in _UNPLACEABLE:
        return f"{state.status}:"
    if state.status == "upsert" and state.namespace is None:
        return "workspace_gone:"
    if state.status == "upsert" and not state.content.strip():
        return "empty_content:"
    if state.kv is not None and (size := len(state.content.encode())) > MAX_BYTES:
        return f"refused_by_plugin:not sent: too large ({size} bytes, at most {MAX_BYTES})"
    return None
