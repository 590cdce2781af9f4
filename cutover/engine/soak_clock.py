"""The soak clock at work: takes in the sweeps that ended, tells how far it is and what it waits for (architecture §6).

The rule is `domain/soak_clock.py`; where each sweep counts once, whoever made it, is `stores/soak.py`. Nothing is kept
here but what was last seen, so a daemon may die at any time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, SoakReset, SoakTold, TaskFailed
from cutover.domain.evidence import SoakEvidence
from cutover.domain.soak_clock import Observation, SoakRules, SoakState, advance, earliest, waits_for
from cutover.stores.soak import SoakStore

_LOOK_SECONDS = 5.0
_NOT_IN_A3 = "A3: the clock runs there and nowhere else"


class SoakClock:
    """One tenant's. `want_full` asks for a full digest sweep of this stay in A3, unless there was one."""

    def __init__(
        self,
        tenant: str,
        store: SoakStore,
        rules: SoakRules,
        required: float,
        observer: Observer,
        want_full: Callable[[int], Awaitable[None]],
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._rules = rules
        self._required = required
        self._observer = observer
        self._want_full = want_full
        self._asked_for: int | None = None
        self.last: SoakEvidence | None = None

    async def run(self) -> None:
        """Take in what sweeps found, for ever."""
        while True:
            try:
                await self.take_in()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "soak", type(error).__name__, error.message))
            await asyncio.sleep(min(_LOOK_SECONDS, self._rules.count_gap / 4))

    async def take_in(self) -> SoakEvidence:
        """Move the clock by the sweeps that ended since; raises the errors of `Database`."""
        before = await self._store.read()
        told = await self._store.take_in(partial(_advance, self._rules))
        if told.state is not None and before.state is not None and told.state.resets > before.state.resets:
            self._observer(SoakReset(self._tenant, told.state.last_reset_why, before.state.green_seconds))
        if told.state is not None and told.state.full.until is None and self._asked_for != told.state.epoch:
            await self._want_full(told.state.epoch)
            self._asked_for = told.state.epoch
        return self._told(told.state, told.now)

    async def evidence(self) -> SoakEvidence:
        """For the gate: as the record says, whichever daemon moved the clock."""
        told = await self._store.read()
        return self._told(told.state, told.now)

    def status(self) -> dict[str, Any] | None:
        """What was last seen, for `cutover status`; None before the first look."""
        seen = self.last
        if seen is None:
            return None
        return {
            "green_seconds": round(seen.green_seconds, 1),
            "required_seconds": seen.required_seconds,
            "running": seen.running,
            "waits_for": seen.waits_for,
            "earliest": seen.earliest.isoformat(timespec="seconds") if seen.earliest is not None else None,
            "last_reset_why": seen.last_reset_why,
        }

    def _told(self, state: SoakState | None, now: datetime) -> SoakEvidence:
        if state is None:
            seen = SoakEvidence(0.0, self._required, running=False, waits_for=_NOT_IN_A3)
        else:
            waiting = waits_for(state, now, self._rules)
            seen = SoakEvidence(
                state.green_seconds,
                self._required,
                running=not waiting,
                waits_for=waiting,
                earliest=earliest(state, now, self._required),
                last_reset_why=state.last_reset_why,
            )
        self.last = seen
        self._observer(SoakTold(self._tenant, seen.green_seconds, seen.required_seconds))
        return seen


def _advance(rules: SoakRules, state: SoakState, seen: Observation) -> SoakState:
    return advance(state, seen, rules)
