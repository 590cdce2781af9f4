"""When to try again, and how often at all: full-jitter delays and a retry budget (architecture §3).

Full jitter, because retries that were caused together must not come back together. A budget, because when everything
fails, retries only multiply the load on what is trying to come back: retries may be a share of first tries, plus a
small reserve that time refills. Pure: randomness and `now` (monotonic seconds) are passed in.
"""

from dataclasses import dataclass


def delay(attempt: int, base: float, cap: float, random: float) -> float:
    """Seconds to wait before try number `attempt` + 1, where `attempt` ≥ 1 counts the tries that failed so far.

    Anywhere in [0, min(cap, base × 2^(attempt-1))), as `random` in [0, 1) says.
    """
    if attempt < 1 or base <= 0 or cap < base:
        raise ValueError(f"attempt must be at least 1 and 0 < base <= cap, not {attempt}, {base}, {cap}")
    # The cap is reached long before 2**64; the bound keeps a mark with a huge attempt count from overflowing.
    return float(min(cap, base * 2 ** min(attempt - 1, 64)) * random)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`share`: retries earned per first try. `per_second`: earned by time alone. `reserve`: the most that is kept."""

    share: float = 0.2
    per_second: float = 1.0
    reserve: float = 20.0

    def __post_init__(self) -> None:
        if self.share < 0 or self.per_second < 0 or self.reserve < 1:
            raise ValueError("share and per_second must not be negative, reserve at least 1")


class RetryBudget:
    """A token bucket that first tries and time fill and that retries drain. Begins full."""

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self.policy = policy
        self._tokens = policy.reserve
        self._at = now

    def first_try(self, now: float) -> None:
        """A request is sent for the first time."""
        self._refill(now)
        self._tokens = min(self.policy.reserve, self._tokens + self.policy.share)

    def take(self, now: float) -> bool:
        """Whether a retry may be sent now; True has taken it from the budget."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        """Seconds until time alone will have earned the next retry: 0 when there is one, infinite when never."""
        self._refill(now)
        missing = 1 - self._tokens
        if missing <= 0:
            return 0.0
        return missing / self.policy.per_second if self.policy.per_second else float("inf")

    def _refill(self, now: float) -> None:
        earned = max(0.0, now - self._at) * self.policy.per_second
        self._tokens = min(self.policy.reserve, self._tokens + earned)
        self._at = max(self._at, now)
