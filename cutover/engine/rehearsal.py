"""Rehearsing the way back (`cutover phase rehearse-rollback`): on a copy, with the code that will run (decision 0021).

    scratch schema made anew ── rows and journal copied, words invented, the expectation written down
      replay ahead, chunk by chunk ── the rest at once ── every column of every row compared ── schema dropped, recorded

Works in A1, A2 and A3. Nothing of the tenant's is written: the functions that run name the scratch schema only.
"""

import asyncio
import time
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, Rehearsed, TaskFailed
from cutover.domain.evidence import RehearsalEvidence
from cutover.domain.phase import Phase
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.database import Database
from cutover.stores.rehearsal import Rehearsal, RehearsalStore, Scene
from cutover.stores.runs import Runs
from cutover.stores.task_lock import REHEARSAL, task_lock

KIND = "rehearsal"
_SHOWN = 10
_LEFT_BEHIND_SECONDS = 3600.0


class Rehearsals:
    """One tenant's, one at a time, in a task of its own."""

    def __init__(
        self, tenant: str, database: Database, store: RehearsalStore, runs: Runs, phase: PhaseWatch, observer: Observer
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._store = store
        self._runs = runs
        self._phase = phase
        self._observer = observer
        self._asked = asyncio.Event()
        self._next: UUID | None = None
        self._opening = False
        self._doing = ""

    async def request(self, requested_by: str) -> UUID:
        """Have one run; gives its run. Raises `OperatorError` while one runs, or where there is no way back."""
        phase = self._phase.current().phase
        if phase in (Phase.A0, Phase.A4):
            raise OperatorError(
                f"in {phase} there is no way back to rehearse", next_step="rehearse in A1, A2 or A3: cutover phase show"
            )
        if self._opening or self._next is not None or self._doing:
            raise OperatorError("a rehearsal is under way already", next_step="cutover phase rehearse-rollback --show")
        self._opening = True
        try:
            self._next = await self._runs.begin(KIND, requested_by, {"phase": phase.value})
        finally:
            self._opening = False
        self._asked.set()
        return self._next

    async def status(self) -> dict[str, Any]:
        """What is under way (`doing` empty: nothing), and the last that ended."""
        last = await self._store.newest()
        doing = self._doing or ("waiting to begin" if self._next is not None else "")
        return {"doing": doing, "last": last.as_json() if last is not None else None}

    async def evidence(self) -> RehearsalEvidence | None:
        """The last one, by the record."""
        last = await self._store.newest()
        if last is None:
            return None
        self._told(last, fresh=False)
        return RehearsalEvidence(last.ok, last.age_seconds, last.seconds, last.why, last.whole)

    async def run(self) -> None:
        """Rehearse when asked, for ever."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if (run := self._next) is None:
                continue
            self._doing, self._next = "beginning", None
            try:
                await self._carry_out(run)
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "rehearsal", type(error).__name__, error.message))
            finally:
                self._doing = ""

    async def _carry_out(self, run: UUID) -> None:
        async with task_lock(self._database, REHEARSAL) as lock:
            if not lock.ours:
                why = "another daemon of this tenant rehearses"
                await self._runs.finish(run, "interrupted", {"outcome": "failed", "why": why})
                return
            await self._runs.interrupt_older(KIND, _LEFT_BEHIND_SECONDS)
            course = _Course(self._store, self._says)
            phase, began_at = self._phase.current().phase, await self._store.now()
            try:
                await course.run()
            except CutoverError as error:
                course.why = f"{course.doing}: {error.message}"
            finally:
                await self._tidy()
            await self._store.record(
                run, phase.value, began_at, course.scene, course.seconds, course.held_seconds, course.mismatches,
                course.why,
            )  # fmt: skip
            last = await self._store.newest()
            assert last is not None  # noqa: S101 - just recorded
            outcome = {"outcome": "clean" if last.ok else "failed", **last.as_json(), "differences": course.shown}
            await self._runs.finish(run, "finished" if last.ok else "failed", outcome)
            self._told(last, fresh=True)

    async def _tidy(self) -> None:
        try:
            await self._store.tear_down()
        except CutoverError as error:  # the next one drops it
            self._observer(TaskFailed(self._tenant, "rehearsal", type(error).__name__, error.message))

    def _says(self, doing: str) -> None:
        self._doing = doing

    def _told(self, last: Rehearsal, *, fresh: bool) -> None:
        self._observer(Rehearsed(self._tenant, last.ok, last.seconds, last.ended_at.timestamp(), last.why, fresh))


class _Course:
    """One rehearsal from set-up to comparison. `seconds`: the replay; `why`: what went wrong, empty when nothing."""

    def __init__(self, store: RehearsalStore, says: Any) -> None:
        self._store = store
        self._says = says
        self.doing = ""
        self.scene: Scene | None = None
        self.seconds = 0.0
        self.held_seconds = 0.0
        self.mismatches = 0
        self.shown: list[str] = []
        self.why = ""

    async def run(self) -> None:
        """All of it. Raises `CutoverError` where a step cannot be taken."""
        self._begin("setting the scene")
        self.scene = await self._store.set_up()
        if not self.scene.words + self.scene.invented:
            if self.scene.rows:
                self.why = "there was nothing to replay: no words could be invented about the rows"
            return  # a tenant without rows has nothing to lose
        self._begin("replaying the journal")
        began = time.monotonic()
        after = await self._store.replay_chunk(None)
        while after is not None:
            after = await self._store.replay_chunk(after)
        held = time.monotonic()
        await self._store.replay_rest()
        self.held_seconds = time.monotonic() - held
        self.seconds = time.monotonic() - began
        self._begin("comparing")
        self.mismatches, found = await self._store.differences(_SHOWN)
        self.shown = [f"{each.memory_id}: {each.what}" for each in found]
        if self.mismatches:
            self.why = f"{self.mismatches} rows were not what they should be: " + "; ".join(self.shown)

    def _begin(self, doing: str) -> None:
        self.doing = doing
        self._says(doing)
