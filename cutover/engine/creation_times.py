"""Keeps "newest first" true in the plugin's own database (domain §4.8).

The contract has no way to send `created_at`; it travels in `propagation.cutover`, and where the built-in plugin's
database can be reached it is also set on the row, in batches behind the deliveries. Losing a batch loses nothing but
order: the time is still in the propagation, and a sweep reports the difference.
"""

import asyncio
from datetime import datetime
from uuid import UUID

from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, TaskFailed
from cutover.stores.plugin_database import PluginDatabase

_EVERY_SECONDS = 0.5
_BATCH = 1000
_MOST_PENDING = 100_000


class CreationTimes:
    """Collects creation times of delivered memories and writes them through. `database` None: does nothing."""

    def __init__(self, tenant: str, database: PluginDatabase | None, observer: Observer) -> None:
        self._tenant = tenant
        self._database = database
        self._observer = observer
        self._pending: dict[UUID, datetime] = {}

    def note(self, memory_id: UUID, created_at: datetime) -> None:
        """One memory was delivered."""
        if self._database is not None and len(self._pending) < _MOST_PENDING:
            self._pending[memory_id] = created_at

    async def flush(self) -> None:
        """Write what is pending."""
        if self._database is None:
            return
        while self._pending:
            batch = {key: self._pending.pop(key) for key in list(self._pending)[:_BATCH]}
            try:
                await self._database.set_created_at(batch)
            except CutoverError as error:
                for key, value in batch.items():
                    self._pending.setdefault(key, value)
                self._observer(TaskFailed(self._tenant, "creation_times", type(error).__name__, error.message))
                return

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self.flush()
