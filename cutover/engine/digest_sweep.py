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
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, SweepCanary, SweepFinished, TaskFailed
from cutover.domain.gate import DigestEvidence
from cutover.engine.digest_run import DigestPolicy, DigestRun, DigestStores, Tally
from cutover.stores.database import Database
from cutover.stores.runs import Run, Runs
from cutover.stores.task_lock import DIGEST_SWEEP, task_lock

KIND = "sweep.digest"
_UNHURRIED = ("schedule", "backfill")
"""Who does not wait for the outcome: such a sweep rests between its statements."""


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
        make_run: type[DigestRun] = DigestRun,
    ) -> None:
        """`before` brings what is pending to the plugin first."""
        self._tenant = tenant
        self._database = database
        self._stores = stores
        self._runs = runs
        self._observer = observer
        self._policy = policy
        self._before = before
        self._make_run = make_run
        self._asked = asyncio.Event()
        self._opening = False
        self._wished_by: str | None = None
        self._next: tuple[UUID, bool, str] | None = None
        self._sweep: DigestRun | None = None
        self.last: dict[str, Any] | None = None
        """The outcome of the last sweep that ended here or, at start, in the record."""
        self._last_full: tuple[dict[str, Any], datetime] | None = None

    # -- asking -------------------------------------------------------------------------------------------------

    async def request(self, *, full: bool, requested_by: str) -> UUID:
        """Have a sweep run as soon as may be; gives the id of its run. Raises `OperatorError` while one runs."""
        if self._busy:
            raise OperatorError("a digest sweep is under way already", next_step="cutover sweep list")
        self._opening = True  # before the first await: of two that ask at once one is refused
        try:
            run = await self._runs.begin(KIND, requested_by, {"full": full})
            self._next = (run, full, requested_by)
        finally:
            self._opening = False
        self._asked.set()
        return run

    async def due(self, *, full: bool) -> None:
        """The schedule asks; while a sweep is under way it is content with that one."""
        if not self._busy:
            await self.request(full=full, requested_by="schedule")

    def wish(self, requested_by: str) -> None:
        """A full sweep is wanted after the one under way, if any: a backfill has ended, say."""
        self._wished_by = requested_by
        self._asked.set()

    def evidence(self, generation: int) -> DigestEvidence | None:
        """What the last full sweep proves in this generation of the move; None: there was none."""
        if self._last_full is None:
            return None
        outcome, ended = self._last_full
        if outcome.get("generation") != str(generation):
            return None
        age = (datetime.now(UTC) - ended).total_seconds()
        return DigestEvidence(str(outcome["outcome"]), bool(outcome["trusted"]), float(outcome["coverage"]), age)

    @property
    def _busy(self) -> bool:
        return self._opening or self._sweep is not None or self._next is not None

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
            if self._next is not None:
                (run, full, who), self._next = self._next, None
                await self._carry_out(run, full, who, Tally())
            elif self._wished_by is not None:
                who, self._wished_by = self._wished_by, None
                with contextlib.suppress(CutoverError):  # the schedule asks again
                    await self.request(full=True, requested_by=who)
            if self._wished_by is not None:
                self._asked.set()

    async def _resume(self) -> None:
        """Open runs were left by a crash, unless another daemon is at it: go on with the newest, close the others."""
        while True:
            try:
                last = await self._runs.last(KIND, finished=True)
                self.last = last.outcome if last is not None else None
                self._last_full = await self._full_on_record()
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

    async def _full_on_record(self) -> tuple[dict[str, Any], datetime] | None:
        for run in await self._runs.recent(KIND, limit=200):
            if run.state == "finished" and run.outcome and run.outcome.get("full") and run.finished_at is not None:
                return run.outcome, run.finished_at
        return None

    async def _left(self) -> tuple[Run, dict[str, Any] | None] | None:
        left = await self._runs.running(KIND)
        for run in left[:-1]:
            await self._runs.finish(run.id, "interrupted", {"why": "superseded by a later one"})
        return (left[-1], await self._runs.last_checkpoint(left[-1].id)) if left else None

    async def _carry_out(self, run: UUID, full: bool, who: str, tally: Tally) -> None:
        started = time.monotonic()
        share = self._policy.load.share if who in _UNHURRIED else self._policy.operator_share
        sweep = self._make_run(self._stores, self._policy, run, tally, share=share, last=self.last)
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
            if outcome.get("full") and "horizon" in outcome:
                await self._stores.findings.prune(int(outcome["horizon"]))
        except CutoverError as error:
            self._failed(error)
        self._sweep = None
        if state == "finished":
            self.last = outcome
            if outcome.get("full"):
                self._last_full = (outcome, datetime.now(UTC))
        self._observer(
            SweepFinished(
                self._tenant, "digest", str(outcome["outcome"]), seconds, float(outcome.get("coverage", 0.0)), None
            )
        )
        if canary := outcome.get("canary"):
            self._observer(SweepCanary(self._tenant, "digest", canary["planted"], canary["caught"], outcome["trusted"]))

    def _failed(self, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, "digest_sweep", type(error).__name__, error.message))
