"""How many requests may be in flight to one plugin: an adaptive limit (architecture §3 step 3).

A plugin has some number of workers that nobody tells us. Below it, more requests in flight mean more throughput;
above it, they only wait inside the plugin, where we can no longer refuse them. Latency tells the two apart: with c
workers and L requests in flight it stays at the service time while L ≤ c, and is L/c times that beyond. So the limit
grows by one while it is in use and latency stays under `tolerance` × the unloaded latency, and shrinks by a factor
when it does not, or when requests fail: it settles between c and `tolerance` × c.

The unloaded latency ("baseline") is the difficult part, because under steady load nobody ever sees it. Requests that
were sent while at most `floor` were in flight are free samples of it. Where those are missing, the limit dips to
`floor` for a few requests now and then. The baseline follows a lower value fast and a higher one slowly, so one
sluggish moment does not become the new normal; at the floor every request is a sample, so a plugin that has become
slower for good is accepted as such soon.

One slow request means nothing: decisions are taken on medians of windows, and only on requests that were sent after
the last shrink, because older ones still tell of the situation that the shrink answered.

Pure: no I/O, no clock. `now` is monotonic seconds.
"""

from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class LimiterPolicy:
    """Bounds and temper of the limit. Times in seconds."""

    floor: int = 2
    start: int = 8
    cap: int = 64
    tolerance: float = 1.8
    """A median latency above this multiple of the baseline means that requests queue inside the plugin."""
    shrink: float = 0.7
    """What remains of the limit after failures; latency alone never takes more than this at once either."""
    window: int = 16
    """Requests per decision; a larger limit uses as many as the limit, one round of it."""
    failure_share: float = 0.1
    """Of a window; fewer failures, and a single one always, are the plugin's normal noise."""
    baseline_window: int = 32
    """Requests per measurement of the baseline."""
    baseline_rise: float = 1.1
    """The baseline grows at most by this factor per window of samples."""
    baseline_lasts: float = 10.0
    """Without free samples for this long, the limit dips for a measurement."""
    dip_at_most: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.floor <= self.start <= self.cap:
            raise ValueError("floor, start and cap must be at least 1 and in this order")
        if self.tolerance <= 1 or self.baseline_rise <= 1:
            raise ValueError("tolerance and baseline_rise must be above 1")
        if not (0 < self.shrink < 1 and 0 < self.failure_share <= 1):
            raise ValueError("shrink must be in (0, 1), failure_share in (0, 1]")
        if min(self.window, self.baseline_window) < 2 or self.baseline_lasts <= 0 or self.dip_at_most <= 0:
            raise ValueError("window and baseline_window must be at least 2, baseline_lasts and dip_at_most positive")


class Limiter:
    """See the module. One per tenant; the engine holds the queue and asks for `limit` before it sends."""

    def __init__(self, policy: LimiterPolicy) -> None:
        self.policy = policy
        self.baseline: float | None = None
        """Seconds that a request takes when hardly anything else is in flight; None until known."""
        self._limit = policy.start
        self._window: list[float] = []
        self._failures = 0
        self._peak = 0
        self._quiet: list[float] = []
        self._baseline_at = float("-inf")
        self._counts_from = float("-inf")
        self._dip_since: float | None = None

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return self._limit if self._dip_since is None else self.policy.floor

    @property
    def measuring(self) -> bool:
        """Whether the limit is lowered for a moment to measure the unloaded latency."""
        return self._dip_since is not None

    def on_result(self, latency_seconds: float, ok: bool, in_flight: int, now: float) -> None:
        """One request to the plugin has ended.

        `ok` is False for time-outs, connection errors and 5xx; a 4xx is an answer like any other. `in_flight` is how
        many were in flight when this one was sent, itself included.
        """
        if now - latency_seconds < self._counts_from:
            return
        if not ok:
            self._failures += 1
            if self._failures >= max(2, ceil(self.policy.failure_share * self._window_size)):
                self._shrink_to(self._limit * self.policy.shrink, now)
            return
        if in_flight <= self.policy.floor:
            self._measure(latency_seconds, now)
        if self._dip_since is not None:
            if now - self._dip_since >= self.policy.dip_at_most:
                self._end_dip(now)
            return
        self._window.append(latency_seconds)
        self._peak = max(self._peak, in_flight)
        if len(self._window) + self._failures >= self._window_size:
            self._decide(now)

    @property
    def _window_size(self) -> int:
        return max(self.policy.window, self._limit)

    def _decide(self, now: float) -> None:
        policy = self.policy
        typical, in_use = median(self._window), self._peak >= 0.9 * self._limit
        self._clear_window()
        if self.baseline is None or now - self._baseline_at >= policy.baseline_lasts:
            # Nothing can be said about latency without a fresh baseline: measure first, then judge.
            self._dip_since = self._counts_from = now
            self._quiet.clear()
        elif typical > policy.tolerance * self.baseline:
            share = policy.tolerance * self.baseline / typical
            self._shrink_to(self._limit * max(policy.shrink, share), now)
        elif in_use:
            self._limit = min(policy.cap, self._limit + 1)

    def _measure(self, latency: float, now: float) -> None:
        self._quiet.append(latency)
        if len(self._quiet) >= self.policy.baseline_window:
            self._settle_baseline(now)
            self._dip_since = None

    def _settle_baseline(self, now: float) -> None:
        seen = median(self._quiet)
        self._quiet.clear()
        self._baseline_at = now
        if self.baseline is None:
            self.baseline = seen
        elif seen < self.baseline:
            # Not all the way: the lowest of many noisy measurements would lie below the truth.
            self.baseline += 0.4 * (seen - self.baseline)
        else:
            self.baseline = min(seen, self.baseline * self.policy.baseline_rise)

    def _end_dip(self, now: float) -> None:
        self._dip_since = None
        if len(self._quiet) >= self.policy.window // 2:
            self._settle_baseline(now)
        # Without a measurement, too, the next dip comes after the usual pause, not at once.
        self._baseline_at = now

    def _shrink_to(self, limit: float, now: float) -> None:
        self._limit = max(self.policy.floor, min(int(limit), self._limit - 1))
        self._counts_from = now
        self._dip_since = None
        self._clear_window()

    def _clear_window(self) -> None:
        self._window.clear()
        self._failures = 0
        self._peak = 0
