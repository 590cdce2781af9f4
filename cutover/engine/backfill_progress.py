"""How far a backfill is, told the same way everywhere: API, CLI, status, metrics, and the run's record."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from cutover.domain.backfill import BackfillRequest, Pace, Via
from cutover.engine.backfill_delivery import Step
from cutover.stores.backfill import BackfillCursor


@dataclass(frozen=True, slots=True)
class BackfillLimits:
    """The tenant's settings. `chunk` rows per transaction of marks; `rate` rows per second (0: none); `queue` marks
    that may wait for delivery; `chunk_seconds` that one chunk of a set-based copy should take, `copy_chunk` rows at
    most; `slow` seconds of a delivery beyond which the plugin is left in peace."""

    chunk: int
    rate: float
    queue: int
    pause_file: Path | None
    via: Via = Via.AUTO
    chunk_seconds: float = 0.15
    copy_chunk: int = 5000
    slow: float = 0.5


@dataclass(slots=True)
class Progress:
    """Of the run under way, or the last one. Counts are rows, of the scope as a whole where the cursor keeps them
    (`total`, `scanned`, `marked`), else of this run since the daemon took it up.

    `state`: running, paused, finished, failed, aborted or interrupted.
    """

    run: UUID
    request: BackfillRequest
    requested_by: str
    total: int
    scanned: int
    marked: int
    via: Via
    via_why: str
    state: str = "running"
    begun_at: int = 0
    """`scanned` when this daemon took it up."""
    copied: int = 0
    unchanged: int = 0
    quarantined: int = 0
    times_mended: int = 0
    waiting: int = 0
    """The backfill's marks that are still to be delivered, at the last look."""
    throttled: str = ""
    paused_by: str = ""
    why: str = ""
    rate: float = 0.0
    eta_seconds: float | None = None
    pace: Pace = field(default_factory=lambda: Pace(time.monotonic()))

    @classmethod
    def of(
        cls, run: UUID, request: BackfillRequest, by: str, cursor: BackfillCursor, via: Via, why: str, waiting: int
    ) -> "Progress":
        """At the beginning of a run, or where a crash left it."""
        return cls(
            run, request, by, cursor.total, cursor.scanned, cursor.marked, via, why,
            begun_at=cursor.scanned, waiting=waiting, pace=Pace(time.monotonic(), max(0, cursor.scanned - waiting)),
        )  # fmt: skip

    @property
    def scope(self) -> str:
        """`tenant` or `workspace:<id>`."""
        return self.request.scope

    @property
    def under_way(self) -> bool:
        """Whether it has not ended."""
        return self.state in ("running", "paused")

    @property
    def to_scan(self) -> int:
        """Rows that this run has still to reach, as far as was known when the cursor was opened. For showing only:
        rows that came since are walked, too."""
        left = max(0, self.total - self.scanned)
        return left if self.allowed is None else min(left, self.allowed)

    @property
    def allowed(self) -> int | None:
        """Rows that the run's limit still allows; None without one."""
        if self.request.limit is None:
            return None
        return max(0, self.request.limit - (self.scanned - self.begun_at))

    def add(self, step: Step) -> None:
        """One chunk was done."""
        self.scanned += step.scanned
        self.marked += step.marked
        self.copied += step.copied
        self.unchanged += step.unchanged
        self.quarantined += step.quarantined
        self.waiting += step.marked

    def look(self, now: float, waiting: int) -> None:
        """Rate and time left, as of now. A row has arrived when it is in the plugin, not when it is marked."""
        self.waiting = waiting
        self.rate = self.pace.at(now, max(0, self.scanned - waiting))
        held = self.throttled in ("operator", "pause_file")
        self.eta_seconds = None if held else Pace.left(self.remaining, self.rate)

    @property
    def remaining(self) -> int:
        """Rows that are not in the plugin yet, as far as this run is concerned."""
        return self.to_scan + self.waiting

    def as_json(self) -> dict[str, Any]:
        """For the ops API, the CLI and the record."""
        return {
            "run": str(self.run),
            "scope": self.scope,
            "requested_by": self.requested_by,
            "state": self.state,
            "via": self.via.value,
            "via_why": self.via_why,
            "total": self.total,
            "scanned": self.scanned,
            "remaining": self.remaining,
            "marked": self.marked,
            "copied": self.copied,
            "unchanged": self.unchanged,
            "quarantined_by_copy": self.quarantined,
            "times_mended": self.times_mended,
            "rate_rows_per_second": round(self.rate, 1),
            "eta_seconds": round(self.eta_seconds, 1) if self.eta_seconds is not None else None,
            "throttled": self.throttled,
            "paused_by": self.paused_by,
            "why": self.why,
            "limit": self.request.limit,
            "rate_limit": self.request.rate,
            "pause_file": self.request.pause_file,
        }
