"""The freeze of `agent_memories` while it lasts: is it intact, whom has it refused, and tidying up after it (§6).

Tampering is reported, never mended by itself: somebody who disabled the trigger had a reason, and what was written
meanwhile has to be looked for before the table counts as frozen again. `cutover phase refreeze` mends it, with a name.
"""

import asyncio
import contextlib
from typing import Any

from cutover.domain.errors import CutoverError, IllegalStep, LockTimeout
from cutover.domain.events import FreezeLooked, FrozenWritesRefused, Observer, TaskFailed
from cutover.domain.evidence import CaptureEvidence, FreezeEvidence
from cutover.domain.phase import Phase
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.freeze import FreezeStore

_LOOK_SECONDS = 5.0
_COUNT_SECONDS = 1.0
SCREAM_PHASES = (Phase.A1, Phase.A2)
_TRIES = 5


class Freeze:
    """One tenant's. `run` is the task; the rest is for operators and the gates."""

    def __init__(self, tenant: str, store: FreezeStore, phase: PhaseWatch, observer: Observer) -> None:
        self._tenant = tenant
        self._store = store
        self._phase = phase
        self._observer = observer

    # -- watching ----------------------------------------

    async def run(self) -> None:
        """Count, look and tidy up, for ever."""
        rounds = 0
        while True:
            try:
                await self.count()
                await self._store.purge_once_more()
                if rounds % round(_LOOK_SECONDS / _COUNT_SECONDS) == 0:
                    await self.look()
                    await self.capture()
                    await self.tidy_up()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "freeze", type(error).__name__, error.message))
            rounds += 1
            await asyncio.sleep(_COUNT_SECONDS)

    async def count(self) -> None:
        """Tell of statements that were refused since somebody counted last."""
        for writer, attempts in (await self._store.fold()).items():
            self._observer(FrozenWritesRefused(self._tenant, writer, attempts))

    async def look(self) -> FreezeEvidence:
        """The evidence as of now, told to whoever listens as well."""
        evidence = await self.evidence()
        self._observer(FreezeLooked(self._tenant, evidence.wanted, evidence.intact, evidence.why))
        return evidence

    async def evidence(self) -> FreezeEvidence:
        """Whether the freeze that the phase asks for is there and whole. Raises the errors of `Database`."""
        state = self._phase.state
        wanted = state is not None and state.phase.plugin_is_authority
        faults = await self._store.faults()
        return FreezeEvidence(wanted, not faults, "; ".join(faults), await self._store.attempts() if wanted else 0)

    async def capture(self) -> CaptureEvidence:
        """Whether all capture triggers are there and whole. Raises the errors of `Database`."""
        return CaptureEvidence(tuple(await self._store.look_at_capture()))

    async def tidy_up(self) -> None:
        """Remove what is left of a freeze that is over, if the table can be had for a moment."""
        freeze = await self._store.state()
        if freeze is not None and freeze.over:
            await self.count()  # what was refused belongs to this freeze
            with contextlib.suppress(LockTimeout):  # a reader has the table; nobody is refused meanwhile
                await self._store.remove()

    # -- operators ----------------------------------------

    async def before_a_step(self, actor: str, *, back: bool) -> None:
        """A scream test that is under way ends before a way back, which must not wait for it. Forward it raises
        `IllegalStep`."""
        freeze = await self._store.state()
        if freeze is not None and freeze.screaming:
            if back:
                await self._store.end_scream(actor)
                return
            raise IllegalStep(
                f"a scream test of {freeze.actor} is under way until {freeze.until:%H:%M:%S} UTC",
                next_step="wait for it, or end it: cutover phase scream-test --stop",
            )

    async def scream(self, seconds: float, actor: str, reason: str) -> dict[str, Any]:
        """Freeze `agent_memories` for everybody but ourselves, for `seconds`. Raises `IllegalStep`."""
        state = self._phase.current()
        if state.phase not in SCREAM_PHASES:
            raise IllegalStep(
                f"a scream test belongs into A1 or A2, where others may still write; the tenant is in {state.phase}",
                next_step="cutover phase show",
            )
        await self.count()
        number = await self._frozen("scream", actor, reason, seconds=seconds)
        return await self.told(number)

    async def stop_scream(self, actor: str) -> dict[str, Any]:
        """End it before its time."""
        freeze = await self._store.state()
        if freeze is None or not freeze.screaming:
            raise IllegalStep("no scream test is under way", next_step="cutover phase show")
        await self._store.end_scream(actor)
        await self.tidy_up()
        return await self.told(freeze.number)

    async def refreeze(self, actor: str, reason: str) -> dict[str, Any]:
        """Make a freeze that was tampered with whole again. Raises `IllegalStep` where none is asked for."""
        state = self._phase.current()
        if not state.phase.plugin_is_authority:
            raise IllegalStep(f"nothing is frozen in {state.phase}", next_step="cutover phase show")
        before = await self._store.faults()
        await self.count()
        await self._store.restore_function()
        number = await self._frozen("frozen", actor, reason)
        await self.look()
        return {**await self.told(number), "mended": before}

    async def told(self, number: int | None = None) -> dict[str, Any]:
        """One freeze (None: the last) with whom it refused."""
        await self.count()
        log = await self._store.log(number)
        state = self._phase.state
        faults = await self._store.faults()
        shown: dict[str, Any] = {
            "wanted": state is not None and state.phase.plugin_is_authority,
            "intact": not faults,
            "faults": faults,
            "freeze": None,
            "refused": [],
        }
        if log is not None:
            shown["freeze"] = {
                **{key: log[key] for key in ("number", "mode", "actor", "reason", "over", "ended_by")},
                **{key: _time(log[key]) for key in ("since", "until", "ended_at")},
            }
            shown["refused"] = [
                {**row, "first_seen": _time(row["first_seen"]), "last_seen": _time(row["last_seen"])}
                for row in await self._store.refusals(log["number"])
            ]
        return shown

    async def _frozen(self, mode: str, actor: str, reason: str, *, seconds: float | None = None) -> int:
        for attempt in range(_TRIES):
            try:
                return await self._store.freeze(mode, actor, reason, seconds=seconds)
            except LockTimeout as error:
                if attempt == _TRIES - 1:
                    raise IllegalStep(
                        f"agent_memories could not be locked in {_TRIES} tries; in the way:"
                        f" {'; '.join(await self._store.in_the_way()) or 'nobody any more'}",
                        next_step="wait for those transactions or end them, then try again",
                    ) from error
                await asyncio.sleep(0.3)
        raise AssertionError("unreachable")


def _time(at: Any) -> str | None:
    return None if at is None else at.isoformat()
