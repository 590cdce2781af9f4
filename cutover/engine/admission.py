"""Admission: whether a request may begin at all (architecture §3, step 1). A closed door writes nothing anywhere."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

from cutover.domain.errors import Refused
from cutover.domain.phase import PhaseState
from cutover.domain.requests import Caller
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.shadow_time import WriteTally

HELD_SECONDS = 1.5
"""How long after its arrival a write may wait for a change of phase. Callers give up at 2 s (domain §2)."""
_GRANTED_SECONDS = 0.6
"""How much of that is not counted against the write's delivery: with the delivery's own 1.2 s that stays below 2 s."""


class Admission:
    """The door of one tenant.

    `refuse`: with `all`, an unhealthy plugin refuses reads too; with `writes`, reads that legacy answers completely
    go on in A1 and A2. `max_in_flight` bounds requests inside (waiting beyond it would only make them late), and
    `max_backlog` the live marks that may wait for delivery.
    """

    def __init__(
        self,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        tally: WriteTally,
        *,
        refuse: Literal["all", "writes"],
        max_in_flight: int,
        max_backlog: int,
        on_held: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_held` hears how many writes wait for a change of phase, whenever that changes."""
        self._phase = phase
        self._health = health
        self._tally = tally
        self._refuse = refuse
        self._max_in_flight = max_in_flight
        self._max_backlog = max_backlog
        self._on_held = on_held
        self.in_flight = 0
        self.live_marks = 0
        """Live marks at the last look at the backlog (set by the reconciler's watch)."""
        self.draining = False
        self.held = 0
        """Writes that wait for a change of phase."""
        self._unheld = asyncio.Event()
        """Clear while writes are held."""
        self._unheld.set()

    @contextmanager
    def hold(self, seconds: float) -> Iterator[None]:
        """Let no new write in while this lasts: those that come wait. Reads go on. After `seconds` the door opens by
        itself, whatever the block still waits for: the database lets no write pass in the wrong phase anyway."""
        self._unheld.clear()
        opening = asyncio.get_running_loop().call_later(seconds, self._unheld.set)
        try:
            yield
        finally:
            opening.cancel()
            self._unheld.set()

    async def past_hold(self, caller: Caller) -> Caller:
        """Wait until nothing holds writes; before `write`. Raises `Refused` for whom it takes too long, or who finds
        as many waiting as may be inside. A write that waited is given a part of that time for its delivery.
        """
        if self._unheld.is_set():
            return caller
        if self.held >= self._max_in_flight:
            raise Refused("held", f"{self.held} writes wait already for a change of phase", retry_after=1)
        began, until = time.monotonic(), caller.arrived + HELD_SECONDS
        self.held += 1
        self._on_held(self.held)
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._unheld.wait()
        except TimeoutError:
            raise Refused(
                "held",
                "the tenant's phase is being changed, and this write has waited long enough",
                retry_after=1,
                next_step="try again",
            ) from None
        finally:
            self.held -= 1
            self._on_held(self.held)
        return replace(caller, arrived=caller.arrived + min(_GRANTED_SECONDS, time.monotonic() - began))

    @contextmanager
    def write(self) -> Iterator[PhaseState]:
        """Let one write in, or raise `Refused`. What becomes of it is counted."""
        with self._tally.one(), self._let_in() as state:
            yield state

    @contextmanager
    def _let_in(self) -> Iterator[PhaseState]:
        state = self._open()
        if state.phase.needs_plugin:
            self._plugin()
            if self.live_marks > self._max_backlog:
                raise Refused(
                    "backlog",
                    f"{self.live_marks} memories wait for delivery, more than {self._max_backlog}",
                    retry_after=2,
                    next_step="look at the plugin's latency; `cutover status` shows the backlog",
                )
        self.in_flight += 1
        try:
            yield state
        finally:
            self.in_flight -= 1

    @contextmanager
    def read(self, *, legacy_is_enough: bool = True) -> Iterator[PhaseState]:
        """Let one read in, or raise `Refused`. `legacy_is_enough`: no native can be part of the answer."""
        state = self._open()
        without = self._refuse == "writes" and state.phase.dual_writes and legacy_is_enough
        if state.phase.needs_plugin and not without:
            self._plugin()
        self.in_flight += 1
        try:
            yield state
        finally:
            self.in_flight -= 1

    def why_closed(self) -> Refused | None:
        """The refusal a write would meet right now, for `/readyz`; does not count as traffic."""
        try:
            state = self._phase.current()
        except Refused as refused:
            return refused
        if self.draining:
            return Refused("draining", "the daemon is shutting down")
        if state.phase.needs_plugin and not self._health.up:
            return Refused("plugin_unhealthy", self._health.why)
        if state.phase.needs_plugin and self._health.away:
            return Refused("breaker_open", f"the breaker is {self._health.breaker.state.value}")
        return None

    def _open(self) -> PhaseState:
        if self.draining:
            raise Refused("draining", "the daemon is shutting down", retry_after=1)
        if self.in_flight >= self._max_in_flight:
            raise Refused("overload", f"{self.in_flight} requests are inside already", retry_after=1)
        return self._phase.current()

    def _plugin(self) -> None:
        admission = self._health.admit()
        if not admission.ok:
            reason = "breaker_open" if self._health.up else "plugin_unhealthy"
            raise Refused(
                reason,
                f"memory traffic is refused while the plugin is unhealthy: {admission.reason}",
                retry_after=max(1.0, admission.retry_after),
                next_step="check the plugin; `cutover status` says when it is back",
            )
