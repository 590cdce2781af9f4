"""Memories that cutover once delivered and that legacy no longer holds, found in the plugin's own database."""

from uuid import UUID

from cutover.stores.database import Database
from cutover.stores.ledger import Ledger

_CHUNK = 5000


class PluginStrays:
    """Walks the built-in plugin's records in id order."""

    def __init__(self, plugin: Database) -> None:
        self._plugin = plugin

    async def mark(self, ledger: Ledger) -> int:
        """Mark every delivered memory that legacy does not have, so that it is forgotten; gives their number."""
        marked = 0
        after: UUID | None = None
        while True:
            rows = await self._plugin.fetch(
                "select id, namespace from memory_plugin.memory_records"
                " where ($1::uuid is null or id > $1) and propagation ? 'cutover' and namespace !~ '^custom:'"
                " order by id limit $2",
                after,
                _CHUNK,
                timeout=60.0,
            )
            if not rows:
                return marked
            after = rows[-1]["id"]
            marked += await ledger.mark_strays([row["id"] for row in rows], [row["namespace"] for row in rows])
