"""Health answers, made at most once a second per question and never waited for too long (observability §1)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cutover.domain.check import Check, HealthReport, Status, report
from cutover.http.wire import rfc3339

FRESH_SECONDS = 1.0
RED_FRESH_SECONDS = 0.1
"""A red answer is kept shorter: whoever waits for green (a starting daemon, a returned plugin) must not wait longer
than the thing itself takes, and ten looks a second are still few."""
PATIENCE_SECONDS = 2.0
_MAX_QUESTIONS = 512

Question = Callable[[], Awaitable[HealthReport | None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A report and the moment it was made; `report` None: there is no such check."""

    report: HealthReport | None
    made_at: str

    def as_json(self) -> dict[str, Any]:
        """The health JSON; only for an answer that has a report."""
        assert self.report is not None  # noqa: S101 - callers have answered 404 before
        return self.report.as_json(self.made_at)


class HealthCache:
    """Concurrent and repeated questions share one look at the stores: a hundred probes a second cost one."""

    def __init__(
        self, fresh: float = FRESH_SECONDS, patience: float = PATIENCE_SECONDS, red_fresh: float = RED_FRESH_SECONDS
    ) -> None:
        self._fresh = fresh
        self._red_fresh = red_fresh
        self._patience = patience
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Task[Answer]]] = {}

    async def ask(self, tenant: str, name: str, question: Question) -> Answer:
        """The answer to `name` about `tenant`. A look that takes too long is an answer too: a failed check."""
        key = (tenant, name)
        now = time.monotonic()
        known = self._asked.get(key)
        if known is None or (known[1].done() and now - known[0] >= self._keeps(known[1])):
            if len(self._asked) >= _MAX_QUESTIONS:
                self._asked.clear()
            task = asyncio.create_task(self._look(tenant, question), name=f"health {tenant} {name}")
            known = (now, task)
            self._asked[key] = known
        return await asyncio.shield(known[1])

    def _keeps(self, done: asyncio.Task[Answer]) -> float:
        """How long a finished look counts, in seconds from when it was asked for."""
        failed = done.cancelled() or done.exception() is not None
        made = None if failed else done.result().report
        red = failed or (made is not None and made.status is Status.FAIL)
        return min(self._fresh, self._red_fresh) if red else self._fresh

    async def _look(self, tenant: str, question: Question) -> Answer:
        try:
            async with asyncio.timeout(self._patience):
                made = await question()
        except TimeoutError:
            why = f"the checks took longer than {self._patience:g} s"
            late = Check("checks", Status.FAIL, None, "seconds", f"<= {self._patience:g}", why, "cutover doctor")
            made = report(tenant, None, None, (late,))
        return Answer(made, rfc3339(datetime.now(UTC)))

    def forget(self, tenant: str) -> None:
        """Ask again next time: something about `tenant` was just changed."""
        for key in [key for key in self._asked if key[0] == tenant]:
            del self._asked[key]
