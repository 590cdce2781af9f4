"""What a backfill decides without looking at anything: what was asked, how much at once, how fast it really goes.

Pure: no I/O, no clock. `now` is monotonic seconds.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from cutover.domain.phase import Phase

REASONS = (
    "operator",  # somebody paused it
    "pause_file",
    "plugin",  # the probe says it is down
    "breaker",  # not closed
    "latency",  # the plugin is slow, or callers wait for a slot towards it
    "backlog",  # live changes wait for delivery
    "queue",  # the backfill's own marks wait for delivery
    "rate",  # the operator's
    "row_locks",  # a transaction of somebody else has been holding the next row
    "database",  # it did not answer in time; tried again with less
    "delivering",  # all is reached, the last marks are going out
)
"""What may hold a backfill back. Persisted in checkpoints and used as metric labels: never renamed."""


class Via(StrEnum):
    """How rows get to the plugin. Persisted in `task_run.parameters`."""

    AUTO = "auto"
    CONTRACT = "contract"
    DATABASE = "database"


class RowSource(StrEnum):
    """Which rows are copied. Persisted in `task_run.parameters`."""

    MEMORIES = "memories"
    KV = "kv"  # rows of workspace_memory (decision 0014): the whole tenant's, over the contract

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Where there is something to copy. K/V rows stay their table's in A3."""
        return (Phase.A2, Phase.A3, Phase.A4) if self is RowSource.KV else (Phase.A2,)


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What was asked of one run. `rate` rows per second, 0 for none; None leaves it to the settings.
    `pause_file` is a path on the daemon's machine."""

    workspace: UUID | None = None
    limit: int | None = None
    via: Via | None = None
    rate: float | None = None
    pause_file: str | None = None
    source: RowSource = RowSource.MEMORIES

    @property
    def scope(self) -> str:
        """The name of its cursor."""
        if self.source is RowSource.KV:
            return "kv"
        return "tenant" if self.workspace is None else f"workspace:{self.workspace}"

    def as_parameters(self) -> dict[str, Any]:
        """For `task_run.parameters`: a daemon that resumes the run needs nothing else."""
        return {
            "scope": self.scope,
            "workspace": str(self.workspace) if self.workspace else None,
            "limit": self.limit,
            "via": self.via.value if self.via else None,
            "rate": self.rate,
            "pause_file": self.pause_file,
            "source": self.source.value,
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "BackfillRequest":
        """The request that `as_parameters` recorded."""
        workspace, via = parameters.get("workspace"), parameters.get("via")
        return cls(
            UUID(workspace) if workspace else None,
            parameters.get("limit"),
            Via(via) if via else None,
            parameters.get("rate"),
            parameters.get("pause_file"),
            RowSource(parameters.get("source") or RowSource.MEMORIES),
        )


class ChunkSize:
    """Rows per chunk so that one takes about `target` seconds: a live edit waits for one chunk at most.

    Grows at most twofold at once, because one fast chunk may have been one of small or marked rows; shrinks as far as
    the time says, because a slow one hurts somebody.
    """

    def __init__(self, *, start: int, most: int, target: float, least: int = 1) -> None:
        self._rows = float(min(start, most))
        self._most = most
        self._least = least
        self._target = target

    @property
    def rows(self) -> int:
        """For the next chunk."""
        return max(self._least, int(self._rows))

    def took(self, rows: int, seconds: float) -> None:
        """A chunk of `rows` took `seconds`."""
        if rows <= 0:
            return
        fitting = rows * self._target / max(seconds, 1e-6)
        # A chunk that was cut short (by a rate, or the end) says little about larger ones.
        grown = max(self._rows, min(2 * rows, fitting)) if seconds <= self._target else fitting
        self._rows = min(self._most, max(self._least, grown))

    def failed(self) -> None:
        """A chunk was given up: half as much next."""
        self._rows = max(self._least, self._rows / 2)


class RateBudget:
    """The operator's rate: rows may go as they accrue, and unused time is worth a second of them at most, so that a
    pause is not made up for in one burst. `rate` rows per second, 0 for no bound."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._have = 0.0
        self._at = now

    def available(self, now: float) -> int | None:
        """Rows that may be taken up now; None for any number."""
        if self._rate <= 0:
            return None
        self._have = min(max(self._rate, 1.0), self._have + (now - self._at) * self._rate)
        self._at = now
        return int(self._have)

    def spend(self, rows: int) -> None:
        """These were taken up."""
        self._have -= rows


class Pace:
    """Rows per second over the last `window` seconds, and the time left at that pace."""

    def __init__(self, now: float, done: int = 0, *, window: float = 30.0) -> None:
        self._window = window
        self._seen: deque[tuple[float, int]] = deque([(now, done)])

    def at(self, now: float, done: int) -> float:
        """`done` rows have arrived in all by now; gives the rate."""
        # One sample per fiftieth of the window is enough.
        if now - self._seen[-1][0] >= self._window / 50 or len(self._seen) == 1:
            self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window:
            self._seen.popleft()
        then, before = self._seen[0]
        return max(0, done - before) / (now - then) if now > then else 0.0

    @staticmethod
    def left(remaining: int, rate: float) -> float | None:
        """Seconds; None while nothing moves."""
        if remaining <= 0:
            return 0.0
        return remaining / rate if rate > 0 else None
