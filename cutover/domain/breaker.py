"""The circuit breaker in front of one tenant's plugin, and the hysteresis of its health probe.

```
            too many failures
  closed ─────────────────────▶ open ◀──────────────┐
    ▲                            │ delay over       │ a failure (the next delay is longer)
    │ ramp over                  ▼                  │
   ramp ◀──────────────────── half_open ────────────┤
    │      k canaries in a row                      │
    └───────────────────────────────────────────────┘
```

Why it looks like this: a caller's request must never be the one that finds out whether the plugin is back, because a
failed one costs the tenant a minute of memory (domain §2). So half-open admits nobody; the engine sends synthetic
canaries, and only when several succeeded in a row does traffic come back, a growing share of it first. Each relapse
doubles the delay up to a cap, and only staying closed for a while forgets it: that is the hysteresis.

Pure: no I/O, no clock, no randomness of its own. `now` is monotonic seconds and never goes back. Each transition is
handed to `on_transition`, for logs and metrics.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """Label values of the metric `cutover_breaker_state`."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMP = "ramp"


_LEGAL = frozenset(
    {
        (BreakerState.CLOSED, BreakerState.OPEN),
        (BreakerState.OPEN, BreakerState.HALF_OPEN),
        (BreakerState.HALF_OPEN, BreakerState.OPEN),
        (BreakerState.HALF_OPEN, BreakerState.RAMP),
        (BreakerState.RAMP, BreakerState.OPEN),
        (BreakerState.RAMP, BreakerState.CLOSED),
    }
)


class BreakerInvariantBroken(AssertionError):
    """A transition that the diagram does not have: a defect in this module, never an effect of traffic."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and how to come back. Times in seconds.

    With the defaults traffic flows again in full well within 3 s of the plugin's return: the longest delay (1 s), two
    canaries with a pause between them, the ramp (0.4 s). A canary that was on its way when the plugin came back may
    cost its deadline on top, so the engine gives canaries at most 1 s.
    """

    consecutive_failures: int = 5
    failure_ratio: float = 0.5
    window: float = 10.0
    """How far back the ratio looks."""
    minimum_calls: int = 20
    """Fewer outcomes in the window than this say nothing about the ratio."""
    first_delay: float = 0.25
    delay_factor: float = 2.0
    longest_delay: float = 1.0
    jitter: float = 0.2
    """Each delay is shortened by up to this share, so that replicas do not probe in step."""
    canaries: int = 2
    """Successes in a row that half-open asks for."""
    canary_interval: float = 0.1
    """Pause between the starts of two canaries."""
    canary_lost_after: float = 2.0
    """A canary whose result was never reported stops keeping the next one back after this long."""
    ramp: float = 0.4
    ramp_from: float = 0.2
    """Share of traffic admitted when the ramp begins; it grows to 1 in a straight line."""
    forget_after: float = 30.0
    """Closed for this long: the next opening starts with the first delay again."""

    def __post_init__(self) -> None:
        if self.consecutive_failures < 1 or self.minimum_calls < 1 or self.canaries < 1:
            raise ValueError("consecutive_failures, minimum_calls and canaries must be at least 1")
        if not (0 < self.failure_ratio <= 1 and 0 <= self.jitter < 1 and 0 < self.ramp_from <= 1):
            raise ValueError("failure_ratio and ramp_from must be in (0, 1], jitter in [0, 1)")
        if not (0 < self.first_delay <= self.longest_delay and self.delay_factor >= 1):
            raise ValueError("first_delay must be in (0, longest_delay], delay_factor at least 1")
        if self.window <= 0 or min(self.ramp, self.canary_interval, self.canary_lost_after, self.forget_after) < 0:
            raise ValueError("window must be positive; the other times not negative")


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether one request may go to the plugin. `reason` is empty when it may; `retry_after` is in seconds.

    `generation` goes back in with the request's outcome: it counts the openings, so that a request from before the
    last one, timing out late, cannot undo a recovery.
    """

    ok: bool
    generation: int
    reason: str = ""
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state. `at` is monotonic seconds."""

    from_: BreakerState
    to: BreakerState
    reason: str
    at: float


class _Window:
    """Outcomes of the last `length` seconds, in slices of a tenth of it: constant memory at any rate."""

    def __init__(self, length: float) -> None:
        self._slice = length / 10
        self._slices: deque[list[int]] = deque()  # slice number, calls, failures
        self.calls = 0
        self.failures = 0

    def add(self, now: float, *, failed: bool) -> None:
        number = int(now // self._slice)
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append([number, 0, 0])
            while self._slices[0][0] <= number - 10:
                _, calls, failures = self._slices.popleft()
                self.calls -= calls
                self.failures -= failures
        self._slices[-1][1] += 1
        self._slices[-1][2] += failed
        self.calls += 1
        self.failures += failed

    def clear(self) -> None:
        self._slices.clear()
        self.calls = self.failures = 0


def _ignore(transition: Transition) -> None:
    del transition


class Breaker:
    """See the module. One per tenant, used from one event loop.

    `random` gives values in [0, 1) for the jitter of delays; `on_transition` must not raise.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        *,
        random: Callable[[], float],
        on_transition: Callable[[Transition], None] = _ignore,
    ) -> None:
        self.policy = policy
        self._random = random
        self._on_transition = on_transition
        self._state = BreakerState.CLOSED
        self._since = float("-inf")
        self._generation = 0
        self._admitted = Admission(ok=True, generation=0)
        self._consecutive = 0
        self._window = _Window(policy.window)
        self._relapses = 0
        self._opens_until = float("-inf")
        self._canaries_in_a_row = 0
        self._canary_sent: float | None = None
        self._next_canary = float("-inf")
        self._credit = 0.0

    @property
    def state(self) -> BreakerState:
        """The state as of the last call: time alone changes nothing until `admit`, `wants_canary` or a result asks."""
        return self._state

    @property
    def generation(self) -> int:
        """Counts the openings; see `Admission`."""
        return self._generation

    def admit(self, now: float) -> Admission:
        """Whether a caller's request may be sent now."""
        self._finish_ramp(now)
        policy = self.policy
        match self._state:
            case BreakerState.CLOSED:
                return self._admitted
            case BreakerState.RAMP:
                return self._ramped(now)
            case BreakerState.OPEN:
                reason = "the plugin failed too often; the breaker is open"
                wait = max(0.0, self._opens_until - now) + policy.canary_interval * policy.canaries
            case BreakerState.HALF_OPEN:
                reason = "the plugin is being tried with canaries"
                missing = policy.canaries - self._canaries_in_a_row
                wait = max(0.0, self._next_canary - now) + policy.canary_interval * missing
        return Admission(ok=False, generation=self._generation, reason=reason, retry_after=wait)

    def record_success(self, now: float, generation: int | None = None) -> None:
        """A caller's request was answered. `generation` is its admission's; None means it was sent just now."""
        self._finish_ramp(now)
        if self._counts(generation):
            self._consecutive = 0
            self._window.add(now, failed=False)

    def record_failure(self, now: float, generation: int | None = None) -> None:
        """A caller's request failed or timed out. Opens when it was one too many, at once in a ramp."""
        self._finish_ramp(now)
        if not self._counts(generation):
            return
        if self._state is BreakerState.RAMP:
            self._open(now, "a request failed while traffic was coming back")
            return
        self._consecutive += 1
        self._window.add(now, failed=True)
        calls, failures = self._window.calls, self._window.failures
        if self._consecutive >= self.policy.consecutive_failures:
            self._open(now, f"{self._consecutive} failures in a row")
        elif calls >= self.policy.minimum_calls and failures >= self.policy.failure_ratio * calls:
            self._open(now, f"{failures} of the last {calls} requests failed")

    def trip(self, now: float, reason: str) -> None:
        """Open for a reason from outside, such as the health probe's verdict. Nothing happens when not admitting."""
        self._finish_ramp(now)
        if self._state in (BreakerState.CLOSED, BreakerState.RAMP):
            self._open(now, reason)

    def wants_canary(self, now: float) -> bool:
        """Whether the engine must send a canary now, and then report it. Turns open into half-open when it is time,
        and ends a ramp that no caller's request comes to end (in A0 there are none)."""
        self._finish_ramp(now)
        if self._state is BreakerState.OPEN and now >= self._opens_until:
            self._canaries_in_a_row = 0
            self._canary_sent = None
            self._next_canary = now
            self._move(BreakerState.HALF_OPEN, "the delay is over", now)
        if self._state is not BreakerState.HALF_OPEN or now < self._next_canary:
            return False
        if self._canary_sent is not None and now < self._canary_sent + self.policy.canary_lost_after:
            return False
        self._canary_sent = now
        self._next_canary = now + self.policy.canary_interval
        return True

    def canary_succeeded(self, now: float) -> None:
        """The canary went through. Enough of them in a row begin the ramp. Ignored when none is on its way."""
        if self._state is not BreakerState.HALF_OPEN or self._canary_sent is None:
            return
        self._canary_sent = None
        self._canaries_in_a_row += 1
        if self._canaries_in_a_row >= self.policy.canaries:
            self._credit = 0.0
            self._move(BreakerState.RAMP, f"{self.policy.canaries} canaries in a row succeeded", now)

    def canary_failed(self, now: float) -> None:
        """The canary did not go through: open again, for longer. Ignored when none is on its way."""
        if self._state is BreakerState.HALF_OPEN and self._canary_sent is not None:
            self._open(now, "a canary failed")

    def _counts(self, generation: int | None) -> bool:
        admitting = self._state in (BreakerState.CLOSED, BreakerState.RAMP)
        return admitting and generation in (None, self._generation)

    def _ramped(self, now: float) -> Admission:
        # Tokens instead of dice: exactly the share is admitted, evenly spread, the same in every run.
        policy = self.policy
        passed = (now - self._since) / policy.ramp
        self._credit += policy.ramp_from + (1 - policy.ramp_from) * passed
        if self._credit >= 1:
            self._credit -= 1
            return self._admitted
        wait = self._since + policy.ramp - now
        return Admission(
            ok=False, generation=self._generation, reason="traffic is coming back step by step", retry_after=wait
        )

    def _finish_ramp(self, now: float) -> None:
        if self._state is BreakerState.RAMP and now - self._since >= self.policy.ramp:
            self._move(BreakerState.CLOSED, "the ramp is over without a failure", now)

    def _open(self, now: float, reason: str) -> None:
        policy = self.policy
        if self._state is BreakerState.CLOSED and now - self._since >= policy.forget_after:
            self._relapses = 0
        # Beyond 2**64 the cap has long won; the bound only keeps the power from overflowing.
        delay = min(policy.longest_delay, policy.first_delay * policy.delay_factor ** min(self._relapses, 64))
        self._opens_until = now + delay * (1 - policy.jitter * self._random())
        self._relapses += 1
        self._generation += 1
        self._admitted = Admission(ok=True, generation=self._generation)
        self._consecutive = 0
        self._window.clear()
        self._move(BreakerState.OPEN, reason, now)

    def _move(self, to: BreakerState, reason: str, now: float) -> None:
        transition = Transition(self._state, to, reason, now)
        if (self._state, to) not in _LEGAL:
            raise BreakerInvariantBroken(f"{self._state} → {to} ({reason})")
        self._state, self._since = to, now
        self._check(now)
        self._on_transition(transition)

    def _check(self, now: float) -> None:
        """What holds right after every transition, in production too."""
        policy, window = self.policy, self._window
        match self._state:
            case BreakerState.OPEN:
                holds = now < self._opens_until <= now + policy.longest_delay and window.calls == 0
            case BreakerState.HALF_OPEN:
                holds = self._opens_until <= now and self._canaries_in_a_row == 0 and self._canary_sent is None
            case BreakerState.RAMP:
                holds = self._canaries_in_a_row == policy.canaries and window.calls == 0
            case BreakerState.CLOSED:
                holds = window.failures == 0 and self._consecutive == 0
        if not holds:
            raise BreakerInvariantBroken(f"the invariant of {self._state} does not hold at {now}")


@dataclass(frozen=True, slots=True)
class ProbePolicy:
    """Probes in a row that change the verdict. `refused` counts refused connections: nobody listens, so no doubt."""

    fall: int = 2
    rise: int = 2
    refused: int = 2

    def __post_init__(self) -> None:
        if min(self.fall, self.rise, self.refused) < 1:
            raise ValueError("fall, rise and refused must be at least 1")


class Probe(StrEnum):
    """What one health probe found."""

    OK = "ok"
    FAILED = "failed"
    REFUSED = "refused"


class ProbeHysteresis:
    """Up or down, from the health probes of one plugin; a single odd probe changes nothing.

    Begins undecided (`up` is None): the boot gate waits for the first verdict, and it takes the same number of probes
    in a row as any other.
    """

    def __init__(self, policy: ProbePolicy) -> None:
        self.policy = policy
        self.up: bool | None = None
        self._good = 0
        self._bad = 0
        self._refused = 0

    def observe(self, probe: Probe) -> bool | None:
        """Count one probe. Gives back the new verdict when this probe changed it, else None."""
        if probe is Probe.OK:
            self._good, self._bad, self._refused = self._good + 1, 0, 0
            return self._settle(verdict=True) if self._good >= self.policy.rise else None
        self._good, self._bad = 0, self._bad + 1
        self._refused = self._refused + 1 if probe is Probe.REFUSED else 0
        down = self._bad >= self.policy.fall or self._refused >= self.policy.refused
        return self._settle(verdict=False) if down else None

    def _settle(self, *, verdict: bool) -> bool | None:
        if self.up is verdict:
            return None
        self.up = verdict
        return verdict
