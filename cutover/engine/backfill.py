"""Backfill: walks the legacy rows in id order and puts a mark on each (architecture §5).

It never writes to the plugin itself: the reconciler delivers what a row is at that moment, so a live edit or delete
always wins over the copy. The cursor moves in the same transaction as the marks, so a crash loses and repeats
nothing: rows up to the cursor are marked, delivered, or have a reason to be neither.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, IllegalStep, NotFound, OperatorError, StaleEpoch
from cutover.domain.events import BackfillAdvanced, Observer, TaskFailed
from cutover.domain.phase import Phase
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.reconciler import Reconciler
from cutover.stores.backfill import BackfillStore
from cutover.stores.backfill_plan import BackfillPlan, plan_backfill, workspace_exists
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger
from cutover.stores.runs import Runs

KIND = "backfill"
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class BackfillLimits:
    """`chunk` rows per transaction; `rate` rows per second (0: none); `queue` marks that may wait for delivery."""

    chunk: int
    rate: float
    queue: int
    pause_file: Path | None


@dataclass(slots=True)
class Progress:
    """Of the run under way, or the last one. Rows; `state` running, paused, finished, failed or interrupted."""

    run: UUID
    scope: str
    state: str
    total: int
    scanned: int
    marked: int
    throttled: str = ""
    why: str = ""
    rate: float = 0.0
    eta_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "run": str(self.run),
            "scope": self.scope,
            "state": self.state,
            "total": self.total,
            "scanned": self.scanned,
            "remaining": max(0, self.total - self.scanned),
            "marked": self.marked,
            "rate_rows_per_second": round(self.rate, 1),
            "eta_seconds": round(self.eta_seconds, 1) if self.eta_seconds is not None else None,
            "throttled": self.throttled,
            "why": self.why,
        }


class Backfill:
    """Runs one tenant's backfill: one at a time, in a task of its own, resumed after a restart."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        ledger: Ledger,
        runs: Runs,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        reconciler: Reconciler,
        observer: Observer,
        limits: BackfillLimits,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._ledger = ledger
        self._store = BackfillStore(database)
        self._runs = runs
        self._phase = phase
        self._health = health
        self._reconciler = reconciler
        self._observer = observer
        self._limits = limits
        self._requests: asyncio.Queue[tuple[UUID, str, UUID | None, int | None]] = asyncio.Queue(maxsize=1)
        self.progress: Progress | None = None
        self._done = asyncio.Event()
        self._held = False
        self._starting = False
        self._since_look = 0
        """Rows marked since the backlog was last counted."""

    def hold(self, held: bool) -> None:
        """Pause the run under way, or let it go on; not kept over a restart (the pause file is)."""
        self._held = held

    async def plan(self, workspace_id: UUID | None) -> BackfillPlan:
        """What a backfill would do, without doing it (`--dry-run`)."""
        return await plan_backfill(self._database, workspace_id)

    async def start(self, requested_by: str, workspace_id: UUID | None, limit: int | None) -> Progress:
        """Begin, or go on where an earlier one stopped.

        Raises `IllegalStep` outside A2, `OperatorError` while one runs.
        """
        state = self._phase.current()
        if state.phase is not Phase.A2:
            verb = "rollback" if state.phase.order > Phase.A2.order else "promote"
            raise IllegalStep(
                f"backfill runs in A2; the tenant is in {state.phase}", next_step=f"cutover phase {verb} (to A2) first"
            )
        if workspace_id is not None and not await workspace_exists(self._database, workspace_id):
            raise NotFound("no such workspace in this tenant", next_step="check the id given with --workspace")
        if self._starting or (self.progress is not None and self.progress.state in ("running", "paused")):
            raise OperatorError("a backfill is under way already", next_step="cutover status shows how far it is")
        self._starting = True
        try:
            return await self._open(state.epoch, requested_by, workspace_id, limit)
        finally:
            self._starting = False

    async def _open(self, epoch: int, requested_by: str, workspace_id: UUID | None, limit: int | None) -> Progress:
        scope = "tenant" if workspace_id is None else f"workspace:{workspace_id}"
        cursor = await self._store.open(epoch, scope, workspace_id)
        run = await self._runs.begin(
            KIND,
            requested_by,
            {"scope": scope, "workspace": str(workspace_id) if workspace_id else None, "limit": limit},
        )
        self.progress = Progress(run, scope, "running", cursor.total, cursor.scanned, cursor.marked)
        self._done = asyncio.Event()
        self._held = False
        self._requests.put_nowait((run, scope, workspace_id, limit))
        return self.progress

    async def wait(self) -> Progress | None:
        """Wait until the run under way has ended."""
        await self._done.wait()
        return self.progress

    async def run(self) -> None:
        """Carry out what is asked, for ever; first of all what a crash interrupted."""
        await self._resume()
        while True:
            run, scope, workspace_id, limit = await self._requests.get()
            progress = self.progress
            assert progress is not None  # noqa: S101 - set by start and resume before the request
            ended = "finished"
            try:
                await self._carry_out(progress, scope, workspace_id, limit)
            except CutoverError as error:
                ended, progress.why = "failed", error.message
                self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))
            except asyncio.CancelledError:
                progress.state = "interrupted"  # stays open in the record: the next start resumes it
                raise
            progress.throttled = ""
            # The record first: who is told that it ended must find it ended there too.
            await self._close(run, ended, progress)
            progress.state = ended
            self._done.set()

    async def complete(self) -> bool:
        """Whether the whole tenant has been walked in this generation."""
        state = self._phase.current()
        cursors = await self._store.cursors()
        return any(c.scope == "tenant" and c.generation == state.generation and c.done for c in cursors)

    async def _resume(self) -> None:
        """Open runs were left by a crash: go on with the newest, close the others."""
        while True:
            try:
                return await self._reopen()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))
                await asyncio.sleep(1)

    async def _reopen(self) -> None:
        state = await self._phase.reload()
        left = await self._runs.running(KIND)
        for run in left[:-1] if state.phase is Phase.A2 else left:
            await self._runs.finish(run.id, "interrupted", {"why": "superseded, or the phase changed"})
        if left and state.phase is Phase.A2:
            run = left[-1]
            workspace = run.parameters.get("workspace")
            workspace_id = UUID(workspace) if workspace else None
            scope = str(run.parameters.get("scope", "tenant"))
            cursor = await self._store.open(state.epoch, scope, workspace_id)
            self.progress = Progress(run.id, scope, "running", cursor.total, cursor.scanned, cursor.marked)
            self._requests.put_nowait((run.id, scope, workspace_id, run.parameters.get("limit")))

    async def _carry_out(self, progress: Progress, scope: str, workspace_id: UUID | None, limit: int | None) -> None:
        started, begun_at = time.monotonic(), progress.scanned
        while limit is None or progress.scanned - begun_at < limit:
            await self._throttle(progress, started, begun_at)
            chunk = (
                self._limits.chunk if limit is None else min(self._limits.chunk, limit - progress.scanned + begun_at)
            )
            try:
                marking = await self._store.mark_chunk(self._phase.current().epoch, scope, workspace_id, chunk)
                scanned, marked, done = marking.scanned, marking.marked, marking.done
            except StaleEpoch:
                if (await self._phase.reload()).phase is not Phase.A2:
                    raise
                continue
            progress.scanned += scanned
            progress.marked += marked
            self._since_look += marked
            self._reconciler.wake()
            self._tell(progress, marked, scanned, started, begun_at)
            await self._runs.checkpoint(progress.run, {"scanned": progress.scanned, "marked": progress.marked})
            if done:
                break
        await self._drain(progress, started, begun_at)

    def _tell(self, progress: Progress, marked: int, scanned: int, started: float, begun_at: int) -> None:
        elapsed = max(1e-3, time.monotonic() - started)
        waiting = (self._reconciler.backlog.by_origin.get("backfill", 0)) if self._reconciler.backlog else 0
        # Rows are copied when delivered, not when marked: the rate and the ETA speak of delivery.
        copied = max(0, progress.scanned - begun_at - waiting)
        progress.rate = copied / elapsed
        remaining = max(0, progress.total - progress.scanned) + waiting
        progress.eta_seconds = remaining / progress.rate if progress.rate > 0 else None
        self._observer(
            BackfillAdvanced(
                self._tenant,
                marked,
                scanned - marked,
                0,
                remaining,
                progress.rate,
                progress.eta_seconds or 0.0,
                progress.throttled,
            )
        )

    async def _throttle(self, progress: Progress, started: float, begun_at: int) -> None:
        """Wait while something says so; the reason is shown wherever progress is."""
        while (reason := await self._why_wait(progress, started, begun_at)) != "":
            progress.throttled = reason
            progress.state = "paused" if reason in ("pause_file", "operator") else "running"
            await asyncio.sleep(_PAUSE_SECONDS)
            self._tell(progress, 0, 0, started, begun_at)
        progress.throttled, progress.state = "", "running"

    async def _queue_is_full(self) -> bool:
        """Whether more marks wait than may. Counted anew when what was marked since the last look could make it so."""
        backlog = self._reconciler.backlog
        if backlog is None or backlog.by_origin.get("backfill", 0) + self._since_look > self._limits.queue:
            self._since_look = 0
            self._reconciler.backlog = backlog = await self._ledger.backlog()
        return backlog.by_origin.get("backfill", 0) > self._limits.queue

    async def _why_wait(self, progress: Progress, started: float, begun_at: int) -> str:
        limits = self._limits
        if self._held:
            return "operator"
        if limits.pause_file is not None and limits.pause_file.exists():
            return "pause_file"
        if not self._health.admit().ok:
            return "plugin"
        if await self._queue_is_full():
            return "queue"
        if limits.rate > 0 and progress.scanned - begun_at > limits.rate * (time.monotonic() - started):
            return "rate"
        return ""

    async def _drain(self, progress: Progress, started: float, begun_at: int) -> None:
        """Marked is not copied: the run ends when its marks are delivered or quarantined."""
        while True:
            backlog = await self._ledger.backlog()
            self._reconciler.backlog = backlog
            self._tell(progress, 0, 0, started, begun_at)
            if not backlog.by_origin.get("backfill", 0):
                return
            progress.throttled = "delivering"
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _close(self, run: UUID, state: str, progress: Progress) -> None:
        try:
            await self._runs.finish(run, state, {**progress.as_json(), "state": state})
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))
