"""What the record says of the newest sweeps, whichever daemon made them: for metrics that outlive a restart."""

import json
from dataclasses import dataclass
from typing import Any

from cutover.domain.events import RecordedCanary, RecordedSweep
from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class RecordedSweeps:
    """The newest sweep of each kind that came to a result, how the newest digest sweep did on planted faults, and what
    the newest count sweep that ended well came to (`CountSweep.as_json`), also where it could count nothing."""

    by_kind: dict[str, RecordedSweep]
    canary: RecordedCanary | None
    counted: dict[str, Any] | None


async def recorded_sweeps(database: Database) -> RecordedSweeps:
    """By the record. Raises the errors of `Database`."""
    by_kind: dict[str, RecordedSweep] = {}
    canary = counted = None
    for row in await database.fetch(query("sweeps_recorded")):
        if row["ended"] is not None:
            by_kind[row["kind"]] = RecordedSweep(row["ended"], row["coverage"])
        if row["canary"] is not None:
            told = json.loads(row["canary"])
            canary = RecordedCanary(told["planted"], told["caught"], bool(row["trusted"]))
        if row["counted"] is not None:
            counted = json.loads(row["counted"])
    return RecordedSweeps(by_kind, canary, counted)
