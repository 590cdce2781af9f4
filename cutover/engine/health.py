"""Is the plugin well enough for traffic? The probe loop, the breaker, and the canary that lets traffic back.

Two witnesses: `/v1/health` asked every interval, with hysteresis, and the outcomes of real requests in the breaker.
Either can close the door; only canaries open it (see `domain/breaker.py`). A canary is a real write: namespace put,
memory committed and forgotten in a reserved namespace, because a plugin whose every upsert fails can still answer
`/v1/health` with ok (domain §4.5).
"""

import asyncio
import random
import time
import uuid
from uuid import UUID

from cutover.domain.breaker import (
    Admission,
    Breaker,
    BreakerPolicy,
    BreakerState,
    Probe,
    ProbeHysteresis,
    ProbePolicy,
    Transition,
)
from cutover.domain.errors import PluginError, PluginMisspoke, PluginUnreachable
from cutover.domain.events import BreakerChanged, Observer, PluginProbed
from cutover.domain.memory import Kind, PluginCommit, PluginHealth, Source
from cutover.domain.requests import PutNamespace
from cutover.stores.plugin import PluginClient

CANARY_NAMESPACE = "custom:cutover-canary"
"""Reserved: nothing but canaries lives in it, and sweeps leave it out."""
_FIRST_INTERVAL = 0.05
_CANARY_EVERY = 15.0
"""Seconds between whole round trips while all is well: the gate of A1 wants a recent one."""
_CANARY_AGAIN = 2.0
"""The same after one that failed: a plugin that is back is not to be told from one that fails otherwise."""
CANARY_MAX_AGE = 4 * _CANARY_EVERY
"""Seconds after which the last round trip says nothing any more."""
_CANARY_SPACE = uuid.UUID("6f0a4a52-6c5e-4f0c-9d6b-0b9a5c1f7d11")


class PluginHealthMonitor:
    """Probes one tenant's plugin and holds its breaker. One task runs `run`."""

    def __init__(
        self,
        tenant: str,
        client: PluginClient,
        observer: Observer,
        *,
        interval: float,
        timeout: float,
        probe_policy: ProbePolicy,
        breaker_policy: BreakerPolicy,
        owner: UUID,
    ) -> None:
        self._tenant = tenant
        self._client = client
        self._observer = observer
        self._interval = interval
        self._timeout = timeout
        self._hysteresis = ProbeHysteresis(probe_policy)
        self._canary_id = uuid.uuid5(_CANARY_SPACE, str(owner))
        self.breaker = Breaker(breaker_policy, random=random.random, on_transition=self._transition)
        self.last: PluginHealth | None = None
        """What the plugin last said of itself; None when it could not be asked."""
        self.why = "the plugin has not been probed yet"
        """Why it is not up, in words for an operator; empty when it is."""
        self.last_canary: str | None = None
        """None before the first canary, "" after a good one, else why the last one failed."""
        self.last_round_trip: str | None = None
        """The same for canaries that were searched for as well: those that bring traffic back are not."""
        self._round_trip_at: float | None = None
        self._began = time.monotonic()
        self._healthy_since: float | None = None
        self.recovered_in: float | None = None
        """Seconds from the first good probe after an outage to full admission, of the last recovery."""
        self._first_good: float | None = None
        self.settled = asyncio.Event()
        """Set once the first verdict is in."""
        self._wake = asyncio.Event()

    @property
    def away(self) -> bool:
        """Whether the breaker keeps callers out altogether (open, or trying canaries)."""
        return self.breaker.state in (BreakerState.OPEN, BreakerState.HALF_OPEN)

    @property
    def up(self) -> bool:
        """The probe's verdict."""
        return self._hysteresis.up is True

    @property
    def healthy_seconds(self) -> float | None:
        """How long the probe's verdict has been good and the breaker closed, without a break; None: they are not.

        One bad probe is no break: that is what the verdict's hysteresis is for.
        """
        return None if self._healthy_since is None else time.monotonic() - self._healthy_since

    @property
    def watched_seconds(self) -> float:
        """How long this monitor has been looking; of the time before it knows nothing."""
        return time.monotonic() - self._began

    @property
    def round_trip_age(self) -> float | None:
        """Seconds since the last canary that was written, searched for and forgotten, or failed at it."""
        return None if self._round_trip_at is None else time.monotonic() - self._round_trip_at

    def admit(self) -> Admission:
        """Whether a caller's request may go to the plugin now."""
        if not self.up:
            return Admission(ok=False, generation=0, reason=self.why or "the plugin is down", retry_after=1.0)
        return self.breaker.admit(time.monotonic())

    @property
    def generation(self) -> int:
        """Counts the breaker's openings. Read when a request is sent and given back with its outcome, so that a
        request from before an outage, timing out late, cannot undo the recovery."""
        return self.breaker.generation

    def succeeded(self, generation: int) -> None:
        """A real request was answered."""
        self.breaker.record_success(time.monotonic(), generation)

    def failed(self, generation: int) -> None:
        """A real request failed or timed out."""
        self.breaker.record_failure(time.monotonic(), generation)
        if self.breaker.state is not BreakerState.CLOSED:
            self._wake.set()

    async def probe(self) -> bool:
        """Ask `/v1/health` once and count the answer; True when it said ok."""
        started = time.monotonic()
        try:
            self.last = await self._client.health(timeout=self._timeout)
            probe = Probe.OK if self.last.status == "ok" else Probe.FAILED
            why = "" if probe is Probe.OK else f"the plugin says its status is {self.last.status}"
        except PluginError as error:
            self.last = None
            probe = Probe.REFUSED if isinstance(error, PluginUnreachable) else Probe.FAILED
            why = error.message
        if probe is Probe.OK and self._first_good is None and self._hysteresis.up is False:
            self._first_good = started
        verdict = self._hysteresis.observe(probe)
        if probe is not Probe.OK:
            self._first_good = None
        if not self.up or why:
            self.why = why or "the plugin answered, but not often enough in a row yet"
        else:
            self.why = ""
        if verdict is False:
            self.breaker.trip(time.monotonic(), "the health probe says the plugin is down")
        self._note_health()
        if verdict is not None:
            self.settled.set()
        if self._hysteresis.up is not None:  # undecided is neither up nor down, and lasts a probe or two
            self._observer(PluginProbed(self._tenant, self.up, time.monotonic() - started, self.why))
        return probe is Probe.OK

    async def canary(self, *, searched: bool = False) -> None:
        """Write one memory in the reserved namespace, find it (if `searched`), and forget it.

        Raises `PluginError` when any of it fails, and says why in `last_canary`.
        """
        definition = PutNamespace(CANARY_NAMESPACE, "custom", None, {"purpose": "cutover canary"})
        commit = PluginCommit(
            self._canary_id, CANARY_NAMESPACE, "cutover canary", Kind.CHECKPOINT, Source.RUNTIME,
            propagation={"cutover": {"canary": True}},
        )  # fmt: skip
        try:
            self._client.forget_known_namespace(CANARY_NAMESPACE)  # the upsert itself is what once failed
            await self._client.commit_ensuring_namespace(commit, definition, timeout=self._timeout)
            if searched:
                found = await self._client.search([CANARY_NAMESPACE], limit=100, timeout=self._timeout)
                if self._canary_id not in {memory.id for memory in found}:
                    raise PluginMisspoke("the canary was committed but a search does not find it")
            await self._client.forget(self._canary_id, CANARY_NAMESPACE, timeout=self._timeout)
        except PluginError as error:
            self.last_canary = self.last_round_trip = error.message
            self._round_trip_at = time.monotonic()
            raise
        self.last_canary = ""
        if searched:
            self.last_round_trip, self._round_trip_at = "", time.monotonic()

    async def run(self) -> None:
        """Probe for ever, and send canaries while the breaker asks for them."""
        next_probe = next_canary = time.monotonic()
        while True:
            if time.monotonic() >= next_probe:
                began = time.monotonic()
                await self.probe()
                # At the start, the first verdict is wanted soon: it takes more than one probe.
                undecided = self._hysteresis.up is None
                next_probe = began + (min(self._interval, _FIRST_INTERVAL) if undecided else self._interval)
            if self.up and self.breaker.wants_canary(time.monotonic()):
                await self._send_canary()
            elif not self.up or self.breaker.state is not BreakerState.CLOSED:
                next_canary = time.monotonic()  # a whole round trip as soon as it is back: the gate of A1 asks for one
            elif time.monotonic() >= next_canary:
                next_canary = time.monotonic() + _CANARY_EVERY
                try:
                    await self.canary(searched=True)
                except PluginError:  # what it found is in last_canary, and gates read it
                    next_canary = time.monotonic() + _CANARY_AGAIN
            pause = max(0.0, next_probe - time.monotonic())
            if self.away:
                pause = min(pause, self.breaker.policy.canary_interval / 2)
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _send_canary(self) -> None:
        try:
            await self.canary()
        except PluginError as error:
            self.breaker.canary_failed(time.monotonic())
            self.why = f"a canary write failed: {error.message}"
            return
        self.breaker.canary_succeeded(time.monotonic())
        self.why = ""

    def _note_health(self) -> None:
        if not self.up or self.breaker.state is not BreakerState.CLOSED:
            self._healthy_since = None
        elif self._healthy_since is None:
            self._healthy_since = time.monotonic()

    def _transition(self, transition: Transition) -> None:
        self._note_health()  # an opening between two probes is a break, too
        if transition.to is BreakerState.RAMP and self._first_good is not None:
            self.recovered_in = transition.at - self._first_good
            self._first_good = None
        self._observer(BreakerChanged(self._tenant, transition.from_.value, transition.to.value, transition.reason))
