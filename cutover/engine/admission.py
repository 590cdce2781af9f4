"""Admission: whether a request may begin at all (architecture §3, step 1). A closed door writes nothing anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from cutover.domain.errors import Refused
from cutover.domain.phase import PhaseState
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch


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
        *,
        refuse: Literal["all", "writes"],
        max_in_flight: int,
        max_backlog: int,
    ) -> None:
        self._phase = phase
        self._health = health
        self._refuse = refuse
        self._max_in_flight = max_in_flight
        self._max_backlog = max_backlog
        self.in_flight = 0
        self.live_marks = 0
        """Live marks at the last look at the backlog (set by the reconciler's watch)."""
        self.draining = False

    @contextmanager
    def write(self) -> Iterator[PhaseState]:
        """Let one write in, or raise `Refused`."""
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
