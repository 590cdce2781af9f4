"""One run of a backfill, from the cursor to the last delivered mark.

    chunk, checkpoint, chunk, checkpoint, …   while nothing holds it back
    deliver                                   marked is not copied: until the backfill's marks are gone
    mend                                      `created_at` in the plugin's rows, which the contract cannot carry

The cursor moves in the chunk's own transaction, the checkpoint comes after it. Killed anywhere, the next daemon goes on
from the cursor; what a checkpoint then lacks is told by the next one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cutover.domain.backfill import ChunkSize, Via
from cutover.domain.errors import CutoverError, DatabaseUnavailable, LockTimeout, StaleEpoch
from cutover.domain.events import BackfillAdvanced, Observer, TaskFailed
from cutover.engine.backfill_delivery import BackfillDelivery, Step
from cutover.engine.backfill_progress import Progress
from cutover.engine.backfill_throttle import Throttle
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.reconciler import Reconciler
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger
from cutover.stores.runs import CheckpointKind, Runs

T = TypeVar("T")
_PAUSE_SECONDS = 0.1
_MEND_ROWS = 2000


class BackfillAborted(Exception):
    """Somebody asked for the end of the run. `by`: who."""

    def __init__(self, by: str) -> None:
        super().__init__(by)
        self.by = by


class BackfillRun:
    """See the module. Made for one run; `carry_out` once."""

    def __init__(
        self,
        tenant: str,
        store: BackfillStore,
        ledger: Ledger,
        runs: Runs,
        phase: PhaseWatch,
        reconciler: Reconciler,
        plugin_rows: Database | None,
        observer: Observer,
        progress: Progress,
        delivery: BackfillDelivery,
        throttle: Throttle,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._ledger = ledger
        self._runs = runs
        self._phase = phase
        self._reconciler = reconciler
        self._plugin_rows = plugin_rows
        self._observer = observer
        self.progress = progress
        self._delivery = delivery
        self._throttle = throttle
        self._aborted_by = ""
        self._behind = False
        """Whether the counts of `progress` may lack a chunk whose outcome was lost."""

    def hold(self, by: str) -> None:
        """Pause: no chunk, and no delivery of the backfill's marks, until `hold("")`."""
        self._throttle.held_by = self.progress.paused_by = by
        self._reconciler.hold_backfill(bool(by))

    def abort(self, by: str) -> None:
        """End soon. The cursor stays where it is, and marks that were made are delivered all the same."""
        self._aborted_by = by

    async def record(self, control: str, by: str) -> None:
        """What an operator did to the run, for good."""
        told = {**self._counts(), "control": control, "by": by}
        await self._runs.checkpoint(self.progress.run, told, CheckpointKind.CONTROL)

    async def carry_out(self) -> None:
        """To the end. Raises `BackfillAborted`, or the error that makes going on pointless."""
        self._reconciler.hold_backfill(bool(self._throttle.held_by))
        try:
            if self._delivery.via is Via.DATABASE:
                await self._patiently(lambda: self._current(self._store.bring_namespaces_up_to_date))
            while self.progress.allowed != 0:
                if await self._patiently(self._next_chunk):
                    break
            await self._patiently(lambda: self._wait_while(self._undelivered))
            self._tell(Step())
            if self._delivery.via is Via.CONTRACT and self._plugin_rows is not None:
                await self._mend_times(self._plugin_rows)
        finally:
            self._reconciler.hold_backfill(False)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, and while PostgreSQL is away or has no time, wait: that ends no run."""
        while True:
            try:
                return await work()
            except (DatabaseUnavailable, LockTimeout):
                await self._be_held("database")
                self._behind = True

    async def _next_chunk(self) -> bool:
        if self._behind:
            await self._catch_up()
        await self._wait_while(lambda: self._throttle.why_wait(self._delivery.rows))
        return await self._chunk()

    async def _catch_up(self) -> None:
        """The outcome of the last chunk was lost, but the cursor tells it."""
        for cursor in await self._store.cursors():
            if cursor.scope == self.progress.scope:
                self.progress.scanned, self.progress.marked = cursor.scanned, cursor.marked
        self._behind = False

    async def _current(self, work: Callable[[int], Awaitable[object]]) -> None:
        """Do something that is fenced by epoch, once more where the epoch changed and the phase did not."""
        while True:
            try:
                await work(self._phase.current().epoch)
            except StaleEpoch:
                if (await self._phase.reload()).phase not in self.progress.request.source.phases:
                    raise
            else:
                return

    async def _chunk(self) -> bool:
        """One chunk; True when it was the last."""
        progress = self.progress
        rows = self._throttle.rows(self._delivery.rows)
        if progress.allowed is not None:
            rows = min(rows, progress.allowed)
        try:
            step = await self._delivery.chunk(self._phase.current().epoch, progress.request, max(1, rows))
        except StaleEpoch:
            if (await self._phase.reload()).phase not in self.progress.request.source.phases:
                raise
            return False
        progress.add(step)
        self._throttle.took(step.scanned, step.marked)
        if step.marked:
            self._reconciler.wake()
        if step.scanned or step.done:
            await self._runs.checkpoint(progress.run, self._counts())
        self._tell(step)
        if step.held:
            self._behind = step.held == "database"
            await self._be_held(step.held)
        return step.done

    async def _wait_while(self, reason: Callable[[], Awaitable[str]]) -> None:
        """Wait while something says so; the reason is shown wherever progress is."""
        while why := await reason():
            await self._be_held(why)
        self.progress.throttled, self.progress.state = "", "running"
        self._leave_if_asked()

    async def _be_held(self, why: str) -> None:
        self._leave_if_asked()
        self.progress.throttled = why
        self.progress.state = "paused" if why in ("pause_file", "operator") else "running"
        self._tell(Step())
        await asyncio.sleep(_PAUSE_SECONDS)

    def _leave_if_asked(self) -> None:
        if self._aborted_by:
            raise BackfillAborted(self._aborted_by)

    async def _undelivered(self) -> str:
        self._reconciler.backlog = backlog = await self._ledger.backlog()
        if not backlog.by_origin.get("backfill", 0):
            return ""
        return "operator" if self._throttle.held_by else "delivering"

    async def _mend_times(self, rows: Database) -> None:
        """Times that the contract could not carry, and that a crash kept `CreationTimes` from writing through."""
        size, after = ChunkSize(start=_MEND_ROWS, most=10 * _MEND_ROWS, target=0.15), None
        while True:
            self._leave_if_asked()
            started = time.monotonic()
            try:
                last, mended = await self._store.bring_times_up_to_date(rows, after, size.rows, timeout=10)
            except CutoverError as error:
                # Order is what is lost, and a sweep names the rows. The copy itself is done.
                self._observer(TaskFailed(self._tenant, "creation_times", type(error).__name__, error.message))
                return
            size.took(size.rows, time.monotonic() - started)
            self.progress.times_mended += mended
            if last is None:
                return
            after = last

    def _counts(self) -> dict[str, object]:
        progress = self.progress
        return {
            "scanned": progress.scanned,
            "marked": progress.marked,
            "copied": progress.copied,
            "via": progress.via.value,
            "begun_at": progress.begun_at,
        }

    def _tell(self, step: Step) -> None:
        progress, backlog = self.progress, self._reconciler.backlog
        waiting = backlog.by_origin.get("backfill", 0) if backlog is not None else progress.waiting
        progress.look(time.monotonic(), waiting)
        self._observer(
            BackfillAdvanced(
                self._tenant,
                marked=step.marked,
                copied=step.copied,
                unchanged=step.unchanged,
                already=step.already,
                quarantined=step.quarantined,
                remaining=progress.remaining,
                rate=progress.rate,
                eta_seconds=progress.eta_seconds or 0.0,
                throttled=progress.throttled,
                checkpoint=step.scanned > 0,
            )
        )


def left_held_by(last_control: dict[str, object] | None) -> str:
    """Who had paused a run when its daemon died, from the last control in its checkpoints; "" for nobody."""
    return _by(last_control, "pause")


def aborted_by(last_control: dict[str, object] | None) -> str:
    """Who had ended a run whose daemon died before it came to that; "" for nobody."""
    return _by(last_control, "abort")


def _by(last_control: dict[str, object] | None, control: str) -> str:
    return str(last_control["by"]) if last_control is not None and last_control.get("control") == control else ""
