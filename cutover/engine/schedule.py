"""When periodic work is due (architecture §4): APScheduler decides, supervised tasks do.

A job only sets an event, because APScheduler swallows what happens inside one: an exception or a cancellation there
would go unseen, whereas a task of the daemon's group that ends ends the daemon loudly.
"""

import asyncio
from datetime import UTC

from apscheduler.schedulers.asyncio import AsyncIOScheduler


class Schedule:
    """Events that are set at intervals. Start it inside a running loop."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """End; nothing is waited for, because jobs do nothing."""
        self._scheduler.shutdown(wait=False)

    def every(self, seconds: float, name: str) -> asyncio.Event:
        """An event set every `seconds`, with jitter so that replicas do not work in step. Waiters clear it."""
        due = asyncio.Event()
        self._scheduler.add_job(
            due.set,
            "interval",
            seconds=seconds,
            id=name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
            jitter=min(5.0, seconds / 10),
        )
        return due
