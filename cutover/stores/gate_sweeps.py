"""What the record says of the sweeps that gates rest on: whichever daemon made them, and before this one started."""

import json
from dataclasses import dataclass
from typing import Any

from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class GateSweeps:
    """Ages are seconds by the tenant's database clock; None: there was none. `newer_failed`: why the newest recall
    sweep failed, when that was after the one that compared something."""

    unexplained: int | None
    count_age: float | None
    recall: dict[str, Any] | None
    recall_age: float | None
    newer_failed: str | None


async def look_at_sweeps(database: Database) -> GateSweeps:
    """By the record. Raises the errors of `Database`."""
    row = await database.fetchrow(query("gate_sweeps"))
    assert row is not None  # noqa: S101 - a select without a table gives one row
    recall = json.loads(row["recall"]) if row["recall"] is not None else None
    return GateSweeps(row["unexplained"], row["count_age"], recall, row["recall_age"], row["newer_failed"])
