"""The count sweep: the drift ledger, every minute (architecture §4).

Drift is only reported as unexplained when it is certain: one snapshot of both sides, or two looks that agree.

Of several daemons one sweeps at a time, and what one has found a moment ago the others take over from its record, so
a tenant is swept as often as with one daemon and each of them knows the result.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cutover.domain.drift import DriftLedger, confirmed_unexplained
from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, SweepFinished
from cutover.stores.drift import DriftCounter
from cutover.stores.runs import Runs
from cutover.stores.task_lock import COUNT_SWEEP

KIND = "sweep.count"
SCHEDULE = "schedule"
_SECOND_LOOK_AFTER = 1.0
_KEEP_DAYS = 7


@dataclass(frozen=True, slots=True)
class CountSweep:
    """What one count sweep came to. `outcome`: clean, drift, partial (nothing could be compared), failed."""

    outcome: str
    ledger: DriftLedger | None
    unexplained: int | None
    coverage: float
    seconds: float
    finished_at: datetime
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the ops API, the CLI and `cutover.task_run`."""
        body: dict[str, Any] = {
            "outcome": self.outcome,
            "unexplained": self.unexplained,
            "coverage": self.coverage,
            "seconds": round(self.seconds, 3),
            "finished_at": self.finished_at.isoformat(),
            "why": self.why,
        }
        if self.ledger is not None:
            body |= {"legacy": self.ledger.legacy, "plugin": self.ledger.plugin, "causes": self.ledger.causes()}
            body["rows"] = {f"{store}.{kind}": count for (store, kind), count in sorted(self.ledger.rows.items())}
        return body


def recorded_ledger(told: dict[str, Any]) -> DriftLedger | None:
    """The ledger of a sweep from its record; None where it could count nothing."""
    if "causes" not in told:
        return None
    causes = {cause: rows for cause, rows in told["causes"].items() if cause != "unexplained"}
    rows = {(key.partition(".")[0], key.partition(".")[2]): count for key, count in told["rows"].items()}
    return DriftLedger(legacy=told["legacy"], plugin=told["plugin"], rows=rows, **causes)


def _recorded(told: dict[str, Any]) -> CountSweep:
    """A sweep from its record: the inverse of `as_json`."""
    return CountSweep(
        told["outcome"], recorded_ledger(told), told["unexplained"], told["coverage"], told["seconds"],
        datetime.fromisoformat(told["finished_at"]), told["why"],
    )  # fmt: skip


class CountSweeper:
    """Runs count sweeps for one tenant. `counter` is None for a contract-only plugin: nothing can be counted there.
    `fresh`: a scheduled sweep is content with another daemon's that ended so many seconds ago."""

    def __init__(
        self,
        tenant: str,
        counter: DriftCounter | None,
        runs: Runs,
        observer: Observer,
        *,
        keep_days: int = _KEEP_DAYS,
        fresh: float = 0.0,
    ) -> None:
        self._keep_days = max(keep_days, _KEEP_DAYS)
        self._fresh = fresh
        self._tenant = tenant
        self._counter = counter
        self._runs = runs
        self._observer = observer
        self._lock = asyncio.Lock()
        self.last: CountSweep | None = None

    async def run(self, requested_by: str) -> CountSweep:
        """Sweep now. Two at once would count the same thing, so the second waits for the first, in whichever daemon."""
        async with self._lock, self._runs.turn(COUNT_SWEEP, requested_by):
            if requested_by == SCHEDULE and (known := await self._another_ones()) is not None:
                return known
            started = time.monotonic()
            run = await self._runs.begin(KIND, requested_by, {})
            try:
                sweep = await self._sweep(started)
            except CutoverError as error:
                sweep = CountSweep(
                    "failed", None, None, 0.0, time.monotonic() - started, datetime.now(UTC), error.message
                )
            self.last = sweep
            await self._runs.finish(run, "failed" if sweep.outcome == "failed" else "finished", sweep.as_json())
            await self._runs.prune(KIND, self._keep_days)
            self._observer(
                SweepFinished(self._tenant, "count", sweep.outcome, sweep.seconds, sweep.coverage, sweep.ledger)
            )
            return sweep

    async def _another_ones(self) -> CountSweep | None:
        """What another daemon found a moment ago, if there is something we do not know. It was that daemon's sweep: it
        has told of it, and the gauges of this one come from the record (`Vitals`)."""
        told = await self._runs.fresh_outcome(KIND, self._fresh)
        if told is None or (self.last is not None and told["finished_at"] == self.last.finished_at.isoformat()):
            return None
        self.last = _recorded(told)
        return self.last

    async def _sweep(self, started: float) -> CountSweep:
        if self._counter is None:
            why = "the plugin's database cannot be reached, and the contract cannot count"
            return CountSweep("partial", None, None, 0.0, time.monotonic() - started, datetime.now(UTC), why)
        look = await self._counter.look()
        unexplained = look.ledger.unexplained
        if unexplained and not look.one_snapshot:
            await asyncio.sleep(_SECOND_LOOK_AFTER)
            again = await self._counter.look(still=True)
            unexplained = confirmed_unexplained(look.ledger, again.ledger)
            look = again
        outcome = "drift" if unexplained else "clean"
        return CountSweep(outcome, look.ledger, unexplained, 1.0, time.monotonic() - started, datetime.now(UTC))
