"""Backfill (architecture §5): one run at a time per tenant, asked for by an operator, resumed after a crash.

What a run does is in `backfill_run`, how rows travel in `backfill_delivery`, what holds it back in `backfill_throttle`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from cutover.domain.backfill import BackfillRequest, RowSource, Via
from cutover.domain.errors import CutoverError, IllegalStep, InvalidRequest, NotFound, OperatorError
from cutover.domain.events import BackfillRests, Observer, TaskFailed
from cutover.domain.phase import Phase
from cutover.engine.backfill_delivery import (
    BackfillDelivery,
    ContractDelivery,
    DatabaseDelivery,
    KvDelivery,
    choose,
)
from cutover.engine.backfill_progress import BackfillLimits, Progress
from cutover.engine.backfill_run import BackfillAborted, BackfillRun, aborted_by, left_held_by
from cutover.engine.backfill_throttle import Throttle
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.plugin_gate import PluginGate
from cutover.engine.reconciler import Reconciler
from cutover.stores.backfill import BackfillCursor, BackfillStore
from cutover.stores.backfill_plan import BackfillPlan, plan_backfill, plan_kv_backfill, workspace_exists
from cutover.stores.database import Database
from cutover.stores.kv import KvStore
from cutover.stores.ledger import Ledger
from cutover.stores.plugin_database import PluginDatabase
from cutover.stores.runs import Run, Runs

KIND = "backfill"
_LOOK_SECONDS = 0.5
"""Between two looks at an open run that nobody is at."""
_IDLE_SECONDS = 5.0
"""Between two looks when there was none: this goes on for as long as the daemon lives."""
_BOOT_SECONDS = 10.0
"""A start waits so long for the first look at what a crash left."""


def _nothing(progress: Progress) -> None:
    del progress


class Backfill:
    """Runs one tenant's backfill in a task of its own. `on_finished` is called after a run that reached its end."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        ledger: Ledger,
        runs: Runs,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        gate: PluginGate,
        reconciler: Reconciler,
        plugin_database: PluginDatabase | None,
        observer: Observer,
        limits: BackfillLimits,
        on_finished: Callable[[Progress], None] = _nothing,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._store = BackfillStore(database)
        self._kv = KvStore(database)
        self._ledger = ledger
        self._runs = runs
        self._phase = phase
        self._health = health
        self._gate = gate
        self._reconciler = reconciler
        self._plugin_database = plugin_database
        self._observer = observer
        self._limits = limits
        self._on_finished = on_finished
        self._requests: asyncio.Queue[BackfillRun] = asyncio.Queue(maxsize=1)
        self._run: BackfillRun | None = None
        self._done = asyncio.Event()
        self._opening = asyncio.Lock()
        """Held by whoever decides which run is next: a start, or the look for what was left."""
        self._looked = asyncio.Event()
        self._orphans: set[UUID] = set()
        """Open runs that nobody was at, at the last look."""

    @property
    def progress(self) -> Progress | None:
        """Of the run under way, or the last one of this process."""
        return self._run.progress if self._run is not None else None

    async def plan(self, request: BackfillRequest) -> BackfillPlan:
        """What a backfill would do, without doing it (`--dry-run`)."""
        if request.source is RowSource.KV:
            await self._check_kv(request)
            return await plan_kv_backfill(self._database)
        return await plan_backfill(self._database, request.workspace)

    async def start(self, requested_by: str, request: BackfillRequest) -> Progress:
        """Begin, or go on where an earlier one stopped.

        Raises `IllegalStep` outside A2, `OperatorError` while one runs (here or in another daemon) or where `via`
        cannot be used, `NotFound` for a workspace nobody knows, `InvalidRequest` for a pause file in no directory.
        """
        state = self._phase.current()
        if state.phase not in request.source.phases:
            verb = "rollback" if state.phase.order > Phase.A2.order else "promote"
            raise IllegalStep(
                f"backfill runs in A2; the tenant is in {state.phase}", next_step=f"cutover phase {verb} (to A2) first"
            )
        await self._looked_once()
        async with self._opening:
            if self.progress is not None and self.progress.under_way:
                raise OperatorError("a backfill is under way already", next_step="cutover status shows how far it is")
            if await self._store.carried_out_elsewhere():
                raise OperatorError(
                    "another daemon of this tenant carries out a backfill", next_step="steer it there, or wait for it"
                )
            await self._check(request)
            via, why = await self._way(request)
            cursor = await self._open(state.epoch, request)
            run = await self._runs.begin(KIND, requested_by, request.as_parameters())
            progress = Progress.of(run, request, requested_by, cursor, via, why, await self._waiting())
            return self._begin(progress)

    async def _looked_once(self) -> None:
        """What a crash left goes first, and one run is all that there can be."""
        try:
            async with asyncio.timeout(_BOOT_SECONDS):
                await self._looked.wait()
        except TimeoutError:
            raise OperatorError(
                "the daemon is taking up an earlier run", next_step="cutover backfill --apply again in a moment"
            ) from None

    async def _way(self, request: BackfillRequest) -> tuple[Via, str]:
        if request.source is RowSource.KV:
            return Via.CONTRACT, "K/V rows are delivered one by one"
        return await choose(request.via or self._limits.via, self._store, self._plugin_database)

    async def _open(self, epoch: int, request: BackfillRequest) -> BackfillCursor:
        if request.source is RowSource.KV:
            return await self._kv.open_backfill(epoch)
        return await self._store.open(epoch, request.scope, request.workspace)

    async def _check_kv(self, request: BackfillRequest) -> None:
        if request.workspace is not None:
            raise InvalidRequest("K/V is copied for the whole tenant", next_step="leave out the workspace")
        if request.via is Via.DATABASE:
            raise InvalidRequest(
                "K/V rows are not copied by SQL: their values are checked on the way (decision 0014)",
                next_step="leave out --via",
            )
        if not await self._kv.captured():
            raise OperatorError(
                "K/V is not captured: its rows would be out of date at once",
                next_step="start the daemon with CUTOVER_KV=on; in A0 promote first",
            )

    async def _check(self, request: BackfillRequest) -> None:
        if request.source is RowSource.KV:
            await self._check_kv(request)
        if request.workspace is not None and not await workspace_exists(self._database, request.workspace):
            raise NotFound("no such workspace in this tenant", next_step="check the id given with --workspace")
        path = Path(request.pause_file) if request.pause_file is not None else None
        if path is not None and not (path.is_absolute() and await asyncio.to_thread(path.parent.is_dir)):
            raise InvalidRequest(
                f"{path} is not a file in a directory of the daemon's machine",
                next_step="give an absolute path whose directory is there",
            )

    def _begin(self, progress: Progress, held_by: str = "") -> Progress:
        request, limits = progress.request, self._limits
        throttle = Throttle(
            self._ledger, self._health, self._gate, self._reconciler, limits,
            rate=limits.rate if request.rate is None else request.rate,
            pause_files=tuple(Path(path) for path in (limits.pause_file, request.pause_file) if path is not None),
        )  # fmt: skip
        throttle.held_by = progress.paused_by = held_by
        delivery: BackfillDelivery = (
            KvDelivery(self._kv, limits.chunk)
            if request.source is RowSource.KV
            else DatabaseDelivery(self._store, target=limits.chunk_seconds, most=limits.copy_chunk)
            if progress.via is Via.DATABASE
            else ContractDelivery(self._store, limits.chunk)
        )
        rows = self._plugin_database.database if self._plugin_database is not None else None
        self._done = asyncio.Event()
        self._run = BackfillRun(
            self._tenant, self._store, self._ledger, self._runs, self._phase, self._reconciler, rows, self._observer,
            progress, delivery, throttle,
        )  # fmt: skip
        self._requests.put_nowait(self._run)
        return progress

    async def wait(self) -> Progress | None:
        """Wait until the run under way has ended."""
        await self._done.wait()
        return self.progress

    # -- controls ----------------------------------------

    async def pause(self, by: str) -> Progress:
        """Hold the run under way; kept over a restart. Raises `OperatorError` when there is none."""
        run = await self._under_way()
        run.hold(by)
        await run.record("pause", by)
        return run.progress

    async def resume(self, by: str) -> Progress:
        """Let it go on."""
        run = await self._under_way()
        run.hold("")
        await run.record("resume", by)
        return run.progress

    async def abort(self, by: str) -> Progress:
        """End it: the cursor stays, the next start goes on from there."""
        run = await self._under_way()
        run.abort(by)
        await run.record("abort", by)
        return run.progress

    async def elsewhere(self) -> bool:
        """Whether another daemon of this tenant carries one out."""
        here = self.progress is not None and self.progress.under_way
        return not here and await self._store.carried_out_elsewhere()

    async def _under_way(self) -> BackfillRun:
        if self._run is None or not self._run.progress.under_way:
            if await self._store.carried_out_elsewhere():
                raise OperatorError(
                    "another daemon of this tenant carries out the backfill", next_step="ask that daemon"
                )
            raise OperatorError("no backfill is under way", next_step="cutover backfill --apply")
        return self._run

    # -- the task ----------------------------------------

    async def run(self) -> None:
        """Carry out what is asked, for ever, and what a daemon that died left: this one's, or another's."""
        while True:
            await self._look()
            await self._rest()
            try:
                # Not wait_for: that swallows a cancellation which comes together with a request.
                async with asyncio.timeout(
                    _LOOK_SECONDS if self._orphans or not self._looked.is_set() else _IDLE_SECONDS
                ):
                    run = await self._requests.get()
            except TimeoutError:
                continue
            await self._carry_out(run)

    async def _carry_out(self, run: BackfillRun) -> None:
        progress, ended = run.progress, "finished"
        try:
            async with self._store.alone() as mine:
                if mine:
                    await run.carry_out()
                else:
                    ended, progress.why = "elsewhere", "another daemon of this tenant carries it out"
        except BackfillAborted as aborted:
            ended, progress.why = "aborted", f"aborted by {aborted.by}"
        except CutoverError as error:
            ended, progress.why = "failed", error.message
            self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))
        except asyncio.CancelledError:
            progress.state = "interrupted"  # stays open in the record: the next start resumes it
            raise
        progress.throttled = ""
        if ended == "elsewhere":
            ended = "interrupted"  # open in the record, too: it is the other's to end
        else:
            # The record first: who is told that it ended must find it ended there too.
            await self._close(progress, ended)
        progress.state = ended
        self._done.set()
        if ended == "finished":
            self._on_finished(progress)

    async def complete(self) -> bool:
        """Whether the whole tenant has been walked in this generation, its K/V rows too where they are captured."""
        state = self._phase.current()
        cursors = await self._store.cursors()
        done = {c.scope for c in cursors if c.generation == state.generation and c.done}
        return "tenant" in done and ("kv" in done or not await self._kv.captured())

    async def _look(self) -> None:
        """Open runs were left by a crash: go on with the newest, close the others. One that another daemon is at is
        its own to end; should that daemon die first, this one goes on."""
        try:
            async with self._opening:
                if self.progress is not None and self.progress.under_way:
                    return
                left = {run.id for run in await self._runs.running(KIND)}
                if left and await self._store.carried_out_elsewhere():
                    left = set()
                # Seen twice, unless we boot: others record a run before they lock, and unlock before they close.
                if left and (left <= self._orphans or not self._looked.is_set()):
                    await self._reopen()
                self._orphans = left
                self._looked.set()
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))

    async def _rest(self) -> None:
        """Without a run of its own, what this daemon tells of one comes from the record: else what it was last told
        by a run that another daemon ended, or that was aborted in its pause, would stand for ever."""
        if self.progress is not None and self.progress.under_way:
            return
        with contextlib.suppress(CutoverError):  # who looks for runs, a line above, tells of a database that is away
            self._observer(BackfillRests(self._tenant, await self._store.left()))

    async def _reopen(self) -> None:
        state = await self._phase.reload()
        left = await self._runs.running(KIND)
        newest = BackfillRequest.from_parameters(left[-1].parameters) if left else None
        going_on = newest is not None and state.phase in newest.source.phases
        for run in left[:-1] if going_on else left:
            await self._runs.finish(run.id, "interrupted", {"why": "superseded, or the phase changed"})
        if going_on:
            await self._take_up(left[-1], state.epoch)

    async def _take_up(self, run: Run, epoch: int) -> None:
        request = BackfillRequest.from_parameters(run.parameters)
        last = await self._runs.last_saying(run.id, "control")
        if by := aborted_by(last):
            await self._runs.finish(run.id, "interrupted", {"why": f"aborted by {by}", "state": "aborted"})
            return
        try:
            if request.source is RowSource.KV:
                await self._check_kv(request)  # it may have been switched off meanwhile
            via, why = await self._way(request)
        except OperatorError as error:
            await self._runs.finish(run.id, "failed", {"why": error.message})
            return
        cursor = await self._open(epoch, request)
        progress = Progress.of(run.id, request, run.requested_by, cursor, via, why, await self._waiting())
        progress.begun_at = await self._begun_at(run, cursor.scanned)
        self._begin(progress, left_held_by(last))

    async def _begun_at(self, run: Run, now: int) -> int:
        """Where the run began, so that its limit counts what an earlier daemon did of it."""
        first = await self._runs.first_saying(run.id, "begun_at")
        return int(first["begun_at"]) if first is not None else now

    async def _waiting(self) -> int:
        return (await self._ledger.backlog()).by_origin.get("backfill", 0)

    async def _close(self, progress: Progress, ended: str) -> None:
        state = "interrupted" if ended == "aborted" else ended
        try:
            await self._runs.finish(progress.run, state, {**progress.as_json(), "state": ended})
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, "backfill", type(error).__name__, error.message))
