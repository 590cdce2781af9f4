"""What the console tells of the past: the last changes of phase, and since when drift has been unexplained."""

from dataclasses import dataclass
from datetime import datetime

from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """One phase event. `certificate` in hex; None for a way back. `approvers`: names of tokens."""

    seq: int
    epoch: int
    before: str | None
    after: str
    at: datetime
    actor: str
    reason: str
    override: str | None
    approvers: tuple[str, ...]
    certificate: str | None


class HistoryStore:
    """One tenant's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def changes(self, limit: int) -> list[PhaseChange]:
        """The newest changes of phase, newest first."""
        return [
            PhaseChange(
                row["seq"],
                row["epoch"],
                row["from_phase"],
                row["to_phase"],
                row["at"],
                row["actor"],
                row["reason"],
                row["override"],
                tuple(row["approvers"] or ()),
                row["certificate"],
            )
            for row in await self._database.fetch(query("phase_history"), limit)
        ]

    async def unexplained_since(self) -> datetime | None:
        """When the unexplained drift that there is now was first seen; None: there is none."""
        value: datetime | None = await self._database.fetchval(query("unexplained_since"))
        return value
