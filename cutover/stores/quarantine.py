"""`cutover.quarantine` as operators read and settle it: what cannot be placed, why, and who answers for it (§5)."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cutover.domain.findings import QuarantineFilter
from cutover.stores.database import Database
from cutover.stores.sql import query

_SECONDS = 30.0
_SHOWN = (
    *("memory_id", "workspace_id", "reason", "detail", "rev", "first_seen", "last_seen"),
    *("acknowledged_by", "acknowledged_at", "why", "marked"),
)


@dataclass(frozen=True, slots=True)
class Retried:
    """Memories marked for another delivery, and how many of those that match were left for another call."""

    marked: int
    remaining: int


class QuarantineStore:
    """One tenant's quarantine."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, chosen: QuarantineFilter, *, limit: int, after: UUID | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """Memories by id from behind `after` on, and how many there are from there."""
        rows = await self._database.fetch(query("quarantine_list"), *_arguments(chosen), after, limit, timeout=_SECONDS)
        return [{name: row[name] for name in _SHOWN} for row in rows], rows[0]["matching"] if rows else 0

    async def about(self, memory_id: UUID) -> dict[str, Any]:
        """Who holds the memory, how long its content is, and its mark."""
        row = await self._database.fetchrow(query("quarantine_about"), memory_id)
        assert row is not None  # noqa: S101 - left joins to one row
        told = dict(row)
        told["mark"] = None if row["mark"] is None else json.loads(row["mark"])
        return told

    async def retry(self, chosen: QuarantineFilter, *, epoch: int, limit: int) -> Retried:
        """Mark at most `limit` of them, those that wait for a delivery already left alone."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(query("quarantine_retry"), *_arguments(chosen), limit, timeout=_SECONDS)
            if not rows:
                return Retried(0, 0)
            ids = [row["memory_id"] for row in rows]
            marked = await connection.fetchval(
                "select cutover.mark_for_repair($1, $2::uuid[], $3::text[])",
                epoch,
                ids,
                [None] * len(ids),
                timeout=_SECONDS,
            )
        return Retried(marked, rows[0]["matching"] - len(ids))

    async def acknowledge(self, memory_id: UUID, *, who: str, why: str) -> bool:
        """Note who answers for it; False when it is not there, acknowledged already, or waits for a delivery."""
        return await self._database.fetchval(query("quarantine_acknowledge"), memory_id, who, why) is not None


def _arguments(chosen: QuarantineFilter) -> tuple[object, ...]:
    reason = None if chosen.reason is None else chosen.reason.value
    return (list(chosen.ids) or None, reason, chosen.acknowledged, chosen.workspace_id)
