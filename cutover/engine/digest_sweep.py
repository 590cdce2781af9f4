"""Digest sweeps: do the stores hold the same, memory by memory? (architecture §4)

    request ── a run is opened ── canary faults planted
       full:         both sides digested by ranges of ids ── differing buckets listed ── differing ids looked at
       incremental:  what was delivered since the last sweep looked at
    then, T_z later: everything open looked at again ── confirmed, renewed or closed ── the faults judged ── outcome

A full sweep never asks for more than a chunk, and both databases digest it at the same time; only ids and hashes of
differing buckets are fetched, so memory stays flat however large the tenant is. Each chunk is put down with its
checkpoint, so a sweep that is killed goes on where it was. Chunks are compared one by one, therefore a resumed sweep
may use another salt, and the salt is kept nowhere.

A sweep that missed a planted fault is not trusted: it says so, and nothing takes it as evidence.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, SweepCanary, SweepFinished, TaskFailed
from cutover.engine.digest_run import DigestPolicy, DigestRun, DigestStores, Tally
from cutover.stores.database import Database
from cutover.stores.runs import Run, Runs
from cutover.stores.task_lock import DIGEST_SWEEP, task_lock

KIND = "sweep.digest"


class DigestSweeper:
    """Runs one tenant's digest sweeps, one at a time, in a task of its own."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        stores: DigestStores,
        runs: Runs,
        observer: Observer,
        policy: DigestPolicy,
        *,
        before: Callable[[], Awaitable[None]],
    ) -> None:
        """`before` brings what is pending to the plugin first."""
        self._tenant = tenant
        self._database = database
        self._stores = stores
        self._runs = runs
        self._observer = observer
        self._policy = policy
        self._before = before
        self._asked = asyncio.Event()
        self._next: tuple[UUID, bool, str] | None = None
        self._sweep: DigestRun | None = None
        self.last: dict[str, Any] | None = None
        """The outcome of the last sweep that ended here or, at start, in the record."""

    # -- asking -------------------------------------------------------------------------------------------------

    async def request(self, *, full: bool, requested_by: str) -> UUID:
        """Have a sweep run as soon as may be; gives the id of its run. Raises `OperatorError` while one runs."""
        if self._sweep is not None or self._next is not None:
            raise OperatorError("a digest sweep is under way already", next_step="cutover sweep list")
        run = await self._runs.begin(KIND, requested_by, {"full": full})
        self._next = (run, full, requested_by)
        self._asked.set()
        return run

    async def due(self, *, full: bool) -> None:
        """The schedule asks; while a sweep is under way it is content with that one."""
        if self._sweep is None and self._next is None:
            await self.request(full=full, requested_by="schedule")

    @property
    def progress(self) -> dict[str, Any] | None:
        """The sweep under way, or None."""
        return self._sweep.progress() if self._sweep is not None else None

    # -- doing --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Sweep when asked, for ever; first of all what a crash interrupted."""
        await self._resume()
        while True:
            await self._asked.wait()
            self._asked.clear()
            if self._next is None:
                continue
            (run, full, who), self._next = self._next, None
            await self._carry_out(run, full, who, Tally())

    async def _resume(self) -> None:
        """Open runs were left by a crash, unless another daemon is at it: go on with the newest, close the others."""
        while True:
            try:
                last = await self._runs.last(KIND, finished=True)
                self.last = last.outcome if last is not None else None
                async with task_lock(self._database, DIGEST_SWEEP) as ours:
                    left = await self._left() if ours else None
            except CutoverError as error:
                self._failed(error)
                await asyncio.sleep(1)
                continue
            if left is not None:
                run, checkpoint = left
                tally = Tally.from_json(checkpoint) if checkpoint else Tally()
                await self._carry_out(run.id, bool(run.parameters.get("full")), run.requested_by, tally)
            return

    async def _left(self) -> tuple[Run, dict[str, Any] | None] | None:
        left = await self._runs.running(KIND)
        for run in left[:-1]:
            await self._runs.finish(run.id, "interrupted", {"why": "superseded by a later one"})
        return (left[-1], await self._runs.last_checkpoint(left[-1].id)) if left else None

    async def _carry_out(self, run: UUID, full: bool, who: str, tally: Tally) -> None:
        started = time.monotonic()
        share = self._policy.load.share if who == "schedule" else self._policy.operator_share
        sweep = DigestRun(self._stores, self._policy, run, tally, share=share, last=self.last)
        self._sweep = sweep
        state, outcome = "finished", dict[str, Any]()
        try:
            async with task_lock(self._database, DIGEST_SWEEP) as ours:
                if not ours:
                    raise OperatorError("another daemon is sweeping this tenant", next_step="cutover sweep list")
                await self._before()
                outcome = await sweep.carry_out(full)
        except CutoverError as error:
            state = "interrupted" if isinstance(error, OperatorError) else "failed"
            outcome = {"outcome": "failed", "trusted": False, "full": full, "why": error.message}
            self._failed(error)
        except asyncio.CancelledError:
            self._sweep = None  # the record stays open: the next start goes on
            raise
        await self._close(run, state, outcome, time.monotonic() - started, sweep)

    async def _close(self, run: UUID, state: str, outcome: dict[str, Any], seconds: float, sweep: "DigestRun") -> None:
        outcome |= {"seconds": round(seconds, 3), **sweep.time_split(seconds)}
        try:
            await self._runs.finish(run, state, outcome)
            await self._stores.findings.prune(int(outcome.get("horizon", 0)))
        except CutoverError as error:
            self._failed(error)
        self._sweep = None
        if state == "finished":
            self.last = outcome
        self._observer(
            SweepFinished(
                self._tenant, "digest", str(outcome["outcome"]), seconds, float(outcome.get("coverage", 0.0)), None
            )
        )
        if canary := outcome.get("canary"):
            self._observer(SweepCanary(self._tenant, "digest", canary["planted"], canary["caught"], outcome["trusted"]))

    def _failed(self, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, "digest_sweep", type(error).__name__, error.message))
