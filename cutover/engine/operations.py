"""What an operator can ask of one tenant (the ops API's control routes). Answers are JSON-able, without content."""

from typing import Any, Protocol
from uuid import UUID

from cutover.domain.errors import OperatorError
from cutover.domain.phase import Phase
from cutover.engine.backfill import Backfill
from cutover.engine.creation_times import CreationTimes
from cutover.engine.sweep import CountSweeper
from cutover.engine.transition import Transition


class DigestSweeps(Protocol):
    """Digest sweeps run in a task of their own; asking for one gives the id of its run."""

    async def request(self, *, full: bool, requested_by: str) -> UUID: ...


class Operations:
    """One tenant's controls."""

    def __init__(
        self,
        transition: Transition,
        sweeper: CountSweeper,
        backfill: Backfill,
        creation_times: CreationTimes,
        digests: DigestSweeps | None = None,
    ) -> None:
        self._digests = digests
        self._transition = transition
        self._sweeper = sweeper
        self._backfill = backfill
        self._creation_times = creation_times

    async def change_phase(self, target: Phase, *, actor: str, reason: str, expected_epoch: int) -> dict[str, Any]:
        """Go one step; raises `IllegalStep`."""
        return (await self._transition.change(target, actor, reason, expected_epoch)).as_json()

    async def run_count_sweep(self) -> dict[str, Any]:
        """Sweep now and give the result."""
        await self._creation_times.flush()
        return (await self._sweeper.run("operator")).as_json()

    async def start_digest_sweep(self, *, full: bool, actor: str) -> dict[str, Any]:
        """Ask for a digest sweep; it runs by itself and its run says how it goes."""
        if self._digests is None:
            raise OperatorError("this daemon has no digest sweeps", next_step="cutover sweep run --kind count")
        return {"run": str(await self._digests.request(full=full, requested_by=actor)), "kind": "digest", "full": full}

    async def run_recall_sweep(self) -> dict[str, Any]:
        """Compare what both stores answer to recent queries, now."""
        raise OperatorError("this daemon has no recall sweeps", next_step="cutover sweep run --kind count")

    async def start_backfill(
        self, *, apply: bool, workspace_id: UUID | None, limit: int | None, actor: str
    ) -> dict[str, Any]:
        """Begin a backfill, or (not `apply`) say what it would do."""
        if not apply:
            return {"dry_run": True, **(await self._backfill.plan(workspace_id)).as_json()}
        return (await self._backfill.start(actor, workspace_id, limit)).as_json()

    async def backfill_status(self) -> dict[str, Any]:
        """The run under way, or the last one of this process."""
        progress = self._backfill.progress
        complete = await self._backfill.complete()
        if progress is None:
            return {"state": "idle", "complete": complete}
        return {**progress.as_json(), "complete": complete}

    async def pause_backfill(self, *, paused: bool, actor: str) -> dict[str, Any]:
        """Hold the run under way, or let it go on."""
        del actor
        progress = self._backfill.progress
        if progress is None or progress.state not in ("running", "paused"):
            raise OperatorError("no backfill is under way", next_step="cutover backfill --apply")
        self._backfill.hold(paused)
        return progress.as_json()
