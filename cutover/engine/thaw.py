"""After the way back: agent_memories stays frozen for others until a sweep has found it right (architecture §6).

The step to A2 lets our own path write again; whoever writes past us is refused until a full digest sweep of the new
phase is clean. Whatever a daemon dies at, the next one finds the freeze thawing and goes on here. A sweep that is not
clean keeps the freeze, turns readiness red, and is made again, less and less often; an operator who knows better can
let go by hand (`cutover phase thaw`), which is recorded.
"""

import asyncio
import time
from typing import Any

from cutover.domain.errors import CutoverError, IllegalStep
from cutover.domain.events import Observer, TaskFailed
from cutover.domain.evidence import DigestEvidence
from cutover.domain.phase import Phase
from cutover.engine.digest_sweep import DigestSweeper
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.freeze import FreezeStore
from cutover.stores.runs import Runs
from cutover.stores.way_back import WayBackStore

_LOOK_SECONDS = 1.0
_FIRST_AGAIN, _LAST_AGAIN = 30.0, 600.0
_DAEMON = "cutover"
_REMEDY = "`cutover divergence repair`; a way back to A0 ends it too, as does `cutover phase thaw --reason …` by hand"


class Thaw:
    """One tenant's. `why`: what keeps a thaw from ending; empty when nothing does, or nothing thaws."""

    def __init__(
        self,
        tenant: str,
        freezes: FreezeStore,
        store: WayBackStore,
        digests: DigestSweeper,
        runs: Runs,
        phase: PhaseWatch,
        observer: Observer,
        *,
        contract_only: bool,
    ) -> None:
        self._tenant = tenant
        self._contract_only = contract_only
        self._freezes = freezes
        self._store = store
        self._digests = digests
        self._runs = runs
        self._phase = phase
        self._observer = observer
        self._asked_in: int | None = None
        self._asked_at = 0.0
        self._again = _FIRST_AGAIN
        self.why = ""

    async def run(self) -> None:
        """Bring thaws to their end, for ever."""
        while True:
            try:
                await self.look()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "thaw", type(error).__name__, error.message))
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> bool:
        """End the thaw when a sweep allows it; whether one ended. Raises the errors of `Database`."""
        state, freeze = self._phase.state, await self._freezes.state()
        if state is None or freeze is None or freeze.mode != "thawing" or state.phase.plugin_is_authority:
            self.why = ""
            return False
        if state.phase is Phase.A0:  # legacy is all there is: nothing could differ from it
            return await self._store.thaw(_DAEMON)
        proof = await self._digests.evidence(state.epoch)
        self.why = "" if proof is None else _in_the_way(proof, contract_only=self._contract_only)
        if proof is not None and not self.why:
            return await self._store.thaw(_DAEMON)
        self._ask(state.epoch)
        return False

    async def by_hand(self, actor: str, reason: str) -> dict[str, Any]:
        """Let go without a clean sweep; recorded with who and why. Raises `IllegalStep` when nothing thaws."""
        why, phase = self.why, self._phase.current().phase.value
        if not await self._store.thaw(actor):
            raise IllegalStep("nothing is thawing: agent_memories is either frozen or free", next_step="cutover status")
        record = {"from": phase, "to": phase, "what": "thaw", "reason": reason, "was_in_the_way": why}
        run = await self._runs.begin("phase", actor, record)
        await self._runs.finish(run, "finished", {"outcome": "by hand", **record})
        self.why = ""
        return {"thawed": True, "by": actor, "was_in_the_way": why}

    def _ask(self, epoch: int) -> None:
        """For a full sweep: at once in a new epoch, then less and less often."""
        now = time.monotonic()
        if self._asked_in == epoch and now - self._asked_at < self._again:
            return
        self._again = _FIRST_AGAIN if self._asked_in != epoch else min(_LAST_AGAIN, 2 * self._again)
        self._asked_in, self._asked_at = epoch, now
        self._digests.wish("way_back")


def _in_the_way(proof: DigestEvidence, *, contract_only: bool) -> str:
    """What a sweep after the way back found that keeps others out; empty when nothing does. Through the contract alone
    no sweep is ever whole: one that found nothing in what can be seen is all that there will be."""
    if proof.open_findings:
        return f"after the way back {proof.open_findings} findings are open, so others stay refused: {_REMEDY}"
    if proof.outcome == "clean" and proof.trusted and proof.coverage >= 1:
        return ""
    if contract_only and proof.outcome == "partial" and proof.trusted:
        return ""
    return f"the sweep after the way back was {proof.outcome}, so others stay refused and it is made again: {_REMEDY}"
