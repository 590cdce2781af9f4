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
from typing import Any
from uuid import UUID

from cutover.domain.divergence import DivergenceState
from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, SweepCanary, SweepFinished, TaskFailed
from cutover.domain.evidence import DigestEvidence
from cutover.engine.digest_run import DigestRun
from cutover.engine.digest_tally import DigestPolicy, DigestStores, Tally
from cutover.stores.database import Database
from cutover.stores.runs import Run, Runs
from cutover.stores.task_lock import DIGEST_SWEEP, task_lock

KIND = "sweep.digest"
_RETRY_SECONDS = 2.0
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
        self._ended: tuple[UUID, dict[str, Any]] | None = None
        self._next_end = asyncio.Event()
        """Set, and replaced, whenever a sweep has ended."""

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

    async def due(self) -> None:
        """The schedule asks for an incremental sweep; while one is under way it is content with that one."""
        if not self._busy:
            await self.request(full=False, requested_by="schedule")

    async def swept(self, requested_by: str, seconds: float) -> dict[str, Any]:
        """Have an incremental sweep run, after the one under way, and wait for its outcome. Raises `OperatorError` when
        it has not ended within `seconds` (it goes on, then)."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    while self._busy:
                        await self._next_end.wait()
                    run = await self.request(full=False, requested_by=requested_by)
                    while self._ended is None or self._ended[0] != run:
                        await self._next_end.wait()
                    if self._ended[1]["outcome"] != "failed":
                        return self._ended[1]
                    await asyncio.sleep(_RETRY_SECONDS)  # another daemon sweeps, or the phase changed
        except TimeoutError:
            doing = f"{self.progress['compared']} memories compared" if self.progress is not None else "none ended"
            raise OperatorError(f"no digest sweep ended within {seconds:g} s ({doing})") from None

    async def full_due(self, seconds: float) -> None:
        """The schedule asks for a full sweep, if the last one is older than `seconds` or was not to be trusted. It is
        wanted until one has come to a result. Raises the errors of `Database`."""
        last = await self._stores.findings.last_full()
        if last is None or last[1] >= seconds or not last[0]["trusted"]:
            self.wish("schedule")

    def wish(self, requested_by: str) -> None:
        """A full sweep is wanted after the one under way, if any: a backfill has ended, say."""
        self._wished_by = requested_by
        self._asked.set()

    async def evidence(self, epoch: int) -> DigestEvidence | None:
        """What the last full sweep proves since the phase was entered (`epoch`), and how much is open: from the record,
        whichever daemon swept. None: there was no full sweep. Raises the errors of `Database`."""
        last = await self._stores.findings.last_full()
        if last is None or last[0].get("epoch") != epoch:
            return None
        outcome, age, newer_bad = last
        return DigestEvidence(
            str(outcome["outcome"]),
            bool(outcome["trusted"]),
            float(outcome["coverage"]),
            age,
            await self.open_findings(),
            newer_bad,
        )

    async def open_findings(self) -> int:
        """Confirmed differences, and repaired ones that no sweep has found in order yet; raises the errors of
        `Database`."""
        open_ = await self._stores.findings.count_open()
        return sum(sum(open_[state].values()) for state in (DivergenceState.CONFIRMED, DivergenceState.REPAIRED))

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
        await self._remember()
        resumed = False
        while True:
            # Not at once, perhaps: the session of a daemon that was killed may hold the lock for a while.
            resumed = resumed or await self._resume()
            again = not resumed or self._wished_by is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS if again else None):
                    await self._asked.wait()
            self._asked.clear()
            if self._next is None and self._wished_by is not None:
                await self._open_wished(self._wished_by)
            if self._next is not None:
                (run, full, who), self._next = self._next, None
                self._asked.clear()  # asked for is this one: if it fails, the next try waits
                await self._carry_out(run, full, who, Tally())

    async def _remember(self) -> None:
        while True:
            try:
                self.last = await self._stores.findings.last_trusted()
            except CutoverError as error:
                self._failed(error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _open_wished(self, who: str) -> None:
        """Begin the full sweep that is wanted, unless somebody else holds the lock: then it stays wanted."""
        try:
            async with task_lock(self._database, DIGEST_SWEEP) as lock:
                free = lock.ours
            if free:
                await self.request(full=True, requested_by=who)
                self._wished_by = None
        except CutoverError as error:
            self._failed(error)

    async def _resume(self) -> bool:
        """Open runs were left by a crash: go on with the newest, close the others. False: somebody may be at it."""
        try:
            async with task_lock(self._database, DIGEST_SWEEP) as lock:
                left = await self._left() if lock.ours else None
                ours = lock.ours
        except CutoverError as error:
            self._failed(error)
            return False
        if left is not None:
            run, checkpoint = left
            await self._carry_out(run.id, bool(run.parameters.get("full")), run.requested_by, _tally(checkpoint))
        return ours

    async def _left(self) -> tuple[Run, dict[str, Any] | None] | None:
        asked_here = self._next[0] if self._next is not None else None
        left = [run for run in await self._runs.running(KIND) if run.id != asked_here]
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
            async with task_lock(self._database, DIGEST_SWEEP) as lock:
                if not lock.ours:
                    raise OperatorError(
                        "another sweep or verification of this tenant is under way", next_step="cutover sweep list"
                    )
                sweep.still_ours = lock.check
                await self._before()
                outcome = await sweep.carry_out(full)
        except CutoverError as error:
            state = "interrupted" if isinstance(error, OperatorError) else "failed"
            outcome = {"outcome": "failed", "trusted": False, "full": full, "why": error.message}
            self._failed(error)
        except asyncio.CancelledError:
            self._sweep = None  # the record stays open: the next start goes on
            raise
        await self._close(run, who, state, outcome, time.monotonic() - started, sweep)

    async def _close(
        self, run: UUID, who: str, state: str, outcome: dict[str, Any], seconds: float, sweep: DigestRun
    ) -> None:
        outcome |= {"seconds": round(seconds, 3), **sweep.time_split(seconds)}
        try:
            await self._runs.finish(run, state, outcome)
            if outcome.get("full") and outcome["trusted"]:
                await self._stores.findings.prune(outcome["snapshot"])
        except CutoverError as error:
            self._failed(error)
        self._sweep = None
        self._ended = (run, outcome)
        self._next_end.set()
        self._next_end = asyncio.Event()
        if state == "finished" and outcome["trusted"]:
            self.last = outcome  # what a blind sweep has looked at is looked at again
        elif state != "finished" and bool(outcome.get("full")) and who in _UNHURRIED and self._wished_by is None:
            self._wished_by = who  # still wanted
        self._observer(
            SweepFinished(
                self._tenant, "digest", str(outcome["outcome"]), seconds, float(outcome.get("coverage", 0.0)), None
            )
        )
        if canary := outcome.get("canary"):
            self._observer(SweepCanary(self._tenant, "digest", canary["planted"], canary["caught"], outcome["trusted"]))

    def _failed(self, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, "digest_sweep", type(error).__name__, error.message))


def _tally(checkpoint: dict[str, Any] | None) -> Tally:
    """What a killed sweep had come to; one whose checkpoint cannot be read begins anew."""
    try:
        return Tally.from_json(checkpoint) if checkpoint is not None else Tally()
    except (ValueError, TypeError, AttributeError, KeyError):
        return Tally()
