"""What an operator can ask of one tenant (the ops API's control routes). Answers are JSON-able, without content."""

from typing import Any
from uuid import UUID

from cutover.domain.backfill import BackfillRequest, RowSource, Via
from cutover.domain.phase import Phase
from cutover.engine.backfill import Backfill
from cutover.engine.creation_times import CreationTimes
from cutover.engine.digest_sweep import DigestSweeper
from cutover.engine.recall_sweep import RecallSweeper
from cutover.engine.sweep import CountSweeper
from cutover.engine.transition import Transition
from cutover.engine.verify import Verifier
from cutover.stores.verify_findings import Mismatch


class Operations:
    """One tenant's controls."""

    def __init__(
        self,
        transition: Transition,
        sweeper: CountSweeper,
        backfill: Backfill,
        creation_times: CreationTimes,
        digests: DigestSweeper,
        recall: RecallSweeper,
        verifier: Verifier,
    ) -> None:
        self._transition = transition
        self._sweeper = sweeper
        self._backfill = backfill
        self._creation_times = creation_times
        self._digests = digests
        self._recall = recall
        self._verifier = verifier

    async def change_phase(self, target: Phase, *, actor: str, reason: str, expected_epoch: int) -> dict[str, Any]:
        """Go one step; raises `IllegalStep`."""
        return (await self._transition.change(target, actor, reason, expected_epoch)).as_json()

    async def run_count_sweep(self) -> dict[str, Any]:
        """Sweep now and give the result."""
        await self._creation_times.flush()
        return (await self._sweeper.run("operator")).as_json()

    async def start_digest_sweep(self, *, full: bool, actor: str) -> dict[str, Any]:
        """Have a digest sweep run; gives its run. Raises `OperatorError` while one runs."""
        return {"run": str(await self._digests.request(full=full, requested_by=actor)), "kind": "digest", "full": full}

    async def run_recall_sweep(self, actor: str) -> dict[str, Any]:
        """Repeat sampled reads on both stores now; the outcome (`engine/recall_sweep.py`), queries left out."""
        return await self._recall.sweep(actor)

    async def start_verify(self, *, workspace_id: UUID | None, actor: str, sample: int | None = None) -> dict[str, Any]:
        """Have everything (or one workspace) verified; gives the run. Raises `OperatorError` while one runs.

        `sample`: memories to look up in each namespace of more than 100, where the plugin's database is not reachable.
        """
        run = await self._verifier.request(workspace_id=workspace_id, requested_by=actor, sample=sample)
        return {"run": str(run)}

    async def verify_status(self, run: UUID) -> dict[str, Any] | None:
        """How a verification goes, or what it came to; None for a run that is not one."""
        return await self._verifier.status(run)

    async def verify_mismatches(self, run: UUID, *, after: str | None, limit: int) -> dict[str, Any]:
        """What it found, a page at a time; `next` is what to give as `after`, or None."""
        found = await self._verifier.mismatches(run, Mismatch.from_key(after) if after else None, limit)
        return {
            "mismatches": [each.as_json() for each in found],
            "next": found[-1].key if len(found) == limit else None,
        }

    async def start_backfill(
        self,
        *,
        apply: bool,
        workspace_id: UUID | None = None,
        limit: int | None = None,
        via: Via | None = None,
        rate: float | None = None,
        pause_file: str | None = None,
        source: RowSource = RowSource.MEMORIES,
        actor: str,
    ) -> dict[str, Any]:
        """Begin a backfill, or (not `apply`) say what it would do."""
        request = BackfillRequest(workspace_id, limit, via, rate, pause_file, source)
        if not apply:
            return {"dry_run": True, **(await self._backfill.plan(request)).as_json()}
        return (await self._backfill.start(actor, request)).as_json()

    async def backfill_status(self) -> dict[str, Any]:
        """The run under way, or the last one of this process."""
        progress = self._backfill.progress
        complete = await self._backfill.complete()
        if await self._backfill.elsewhere():
            return {"state": "elsewhere", "why": "another daemon of this tenant carries it out", "complete": complete}
        if progress is None:
            return {"state": "idle", "complete": complete}
        return {**progress.as_json(), "complete": complete}

    async def pause_backfill(self, *, paused: bool, actor: str) -> dict[str, Any]:
        """Hold the run under way, or let it go on; recorded with who asked for it."""
        return (await (self._backfill.pause(actor) if paused else self._backfill.resume(actor))).as_json()

    async def abort_backfill(self, *, actor: str) -> dict[str, Any]:
        """End the run under way where it is; recorded with who asked for it."""
        return (await self._backfill.abort(actor)).as_json()
