"""Reads what `domain/audit.py` judges, in one snapshot."""

import hashlib

from cutover.domain.audit import ChainedEvent, PhaseRow
from cutover.stores.database import Database
from cutover.stores.sql import query


class AuditStore:
    """The phase events and the phase row of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> tuple[list[ChainedEvent], PhaseRow]:
        """All events by seq, and the row. Raises the errors of `Database`."""
        async with self._database.transaction(isolation="repeatable_read") as connection:
            await connection.execute("set local timezone = 'UTC'; set local bytea_output = 'hex'")
            rows = await connection.fetch(query("audit_events"))
            row = await connection.fetchrow(
                "select s.phase, s.epoch, to_jsonb(s.entered_at) #>> '{}' as entered_at from cutover.phase_state s"
            )
        assert row is not None, "cutover.phase_state always has its one row"  # noqa: S101
        events = [
            ChainedEvent(
                each["seq"],
                each["epoch"],
                each["to_phase"],
                each["at"],
                bytes(each["previous_hash"]),
                bytes(each["hash"]),
                hashlib.sha256(each["told"].encode()).digest(),
            )
            for each in rows
        ]
        return events, PhaseRow(row["phase"], row["epoch"], row["entered_at"])
