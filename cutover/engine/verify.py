"""Verify: is everything copied, exactly? (architecture §5; domain §4.3)

The same comparison as a full digest sweep, with one difference: what the backfill has not reached counts as missing.
It has a table of its own for what it finds, because a row that is not copied yet is a mismatch here and no divergence.
The tool it replaces listed at most 100 rows of a workspace and so called every larger one a mismatch; this one is exact
at any size, and says for each workspace how many memories it compared.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, SweepFinished, TaskFailed
from cutover.engine.digest_run import DigestRun
from cutover.engine.digest_tally import DigestPolicy, DigestScope, DigestStores, Tally
from cutover.stores.database import Database
from cutover.stores.digest_findings import DigestFindings
from cutover.stores.runs import Runs
from cutover.stores.task_lock import DIGEST_SWEEP, TaskLock, task_lock
from cutover.stores.verify_findings import Mismatch, VerifyFindings

KIND = "verify"
_TABLE = "cutover.verify_finding"
_RETRY_SECONDS = 0.5
_GIVE_UP_SECONDS = 600.0


class Verifier:
    """Verifies one tenant, one run at a time, in a task of its own. Ends with a restart: it is asked for again."""

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
        self._before = before
        self._make_run = make_run
        self._tenant = tenant
        self._database = database
        self._record = DigestFindings(database, _TABLE)
        self._found = VerifyFindings(database)
        self._stores = replace(stores, findings=self._record)
        self._runs = runs
        self._observer = observer
        self._policy = policy
        self._asked: asyncio.Queue[tuple[UUID, UUID | None, int | None]] = asyncio.Queue(maxsize=1)
        self._run: DigestRun | None = None
        self._waiting = ""
        self._opening = False

    async def request(self, *, workspace_id: UUID | None, requested_by: str, sample: int | None = None) -> UUID:
        """Have a verification run; gives its run. Raises `OperatorError` while one runs.

        `sample`: as in `DigestScope`; nothing is sampled where the plugin's database can be read.
        """
        if self._opening or self._run is not None or self._waiting or not self._asked.empty():
            raise OperatorError("a verification is under way already", next_step="wait for it, or cutover sweep list")
        self._opening = True  # before the first await: of two that ask at once one is refused
        try:
            parameters = {"workspace": str(workspace_id) if workspace_id is not None else None, "sample": sample}
            run = await self._runs.begin(KIND, requested_by, parameters)
            self._asked.put_nowait((run, workspace_id, sample))
        finally:
            self._opening = False
        return run

    @property
    def progress(self) -> dict[str, Any] | None:
        """The run under way, or None."""
        return self._run.progress() if self._run is not None else None

    async def status(self, run: UUID) -> dict[str, Any] | None:
        """How a run goes, or what it came to; None for a run that is not one of these."""
        record = await self._runs.get(run)
        if record is None or record.kind != KIND:
            return None
        told = {"run": str(run), "state": record.state, "waiting_for": "", **(record.outcome or {})}
        if record.state == "running":
            told |= {"progress": self.progress, "waiting_for": self._waiting}
        return told

    async def mismatches(self, run: UUID, past: Mismatch | None, limit: int) -> list[Mismatch]:
        """What a run found, ascending by id and class. Raises `OperatorError` for a run that is not the last one."""
        last = await self._runs.last(KIND)
        if last is None or last.id != run:
            raise OperatorError(
                "only the mismatches of the last verification are kept", next_step="cutover backfill --verify"
            )
        return await self._found.page(past, limit)

    async def run(self) -> None:
        """Verify when asked, for ever."""
        await self._close_old()
        while True:
            run, workspace_id, sample = await self._asked.get()
            started = time.monotonic()
            try:
                state, outcome = "finished", await self._carry_out(run, workspace_id, sample)
            except CutoverError as error:
                state, outcome = "failed", {"outcome": "failed", "trusted": False, "why": error.message}
                self._failed(error)
            finally:
                ended, self._run, self._waiting = self._run, None, ""
            seconds = time.monotonic() - started
            outcome |= {"seconds": round(seconds, 3), **(ended.time_split(seconds) if ended is not None else {})}
            try:
                await self._runs.finish(run, state, outcome)
            except CutoverError as error:
                self._failed(error)
            coverage = float(outcome.get("coverage", 0.0))
            self._observer(SweepFinished(self._tenant, "verify", str(outcome["outcome"]), seconds, coverage, None))

    async def _carry_out(self, run: UUID, workspace_id: UUID | None, sample: int | None) -> dict[str, Any]:
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        self._waiting = "a digest sweep is under way"
        while True:
            async with task_lock(self._database, DIGEST_SWEEP) as lock:
                if lock.ours:
                    self._waiting = ""
                    return await self._verify(lock, run, workspace_id, sample)
            if time.monotonic() >= deadline:
                raise OperatorError("a digest sweep was under way all the time", next_step="cutover sweep list")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _verify(self, lock: TaskLock, run: UUID, workspace_id: UUID | None, sample: int | None) -> dict[str, Any]:
        await self._before()
        await self._record.forget_all()
        tally = Tally()
        scope = DigestScope(everything=True, workspace_id=workspace_id, sample=sample)
        self._run = self._make_run(
            self._stores, self._policy, run, tally, share=self._policy.operator_share, scope=scope
        )
        self._run.still_ours = lock.check
        outcome = await self._run.carry_out(full=True)
        by_workspace = await self._found.by_workspace()
        quarantined = await self._found.quarantined(workspace_id)
        outcome["mismatches"] = sum(outcome.get("confirmed", {}).values())
        outcome["workspaces"] = [
            {
                "workspace": str(each) if each is not None else None,
                "memories": tally.workspaces.get(each, 0),
                "quarantined": quarantined.get(each, 0),
                "mismatches": by_workspace.get(each, 0),
            }
            for each in sorted(
                {*tally.workspaces, *by_workspace, *quarantined}, key=lambda each: (each is None, str(each))
            )
        ]
        return outcome

    async def _close_old(self) -> None:
        """Close what a crash left open; not while another daemon is at it."""
        try:
            async with task_lock(self._database, DIGEST_SWEEP) as lock:
                for left in await self._runs.running(KIND) if lock.ours else ():
                    outcome = {"outcome": "failed", "trusted": False, "why": "the daemon was restarted"}
                    await self._runs.finish(left.id, "interrupted", outcome)
        except CutoverError as error:
            self._failed(error)

    def _failed(self, error: CutoverError) -> None:
        self._observer(TaskFailed(self._tenant, "verify", type(error).__name__, error.message))
