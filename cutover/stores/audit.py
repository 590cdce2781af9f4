"""Reads what `domain/audit.py` judges, in one snapshot."""

import hashlib
import json
from dataclasses import dataclass

from cutover.domain.audit import ChainedEvent, Guard, PhaseRow, Warrant
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.sql import query

_APPEND_ONLY = (
    "approval", "certificate", "memory_procedure_event", "memory_procedure_version", "phase_event", "task_checkpoint",
)  # fmt: skip
_GUARDS = (
    *((table, name, "refuse_change") for table in _APPEND_ONLY for name in ("append_only", "append_only_truncate")),
    ("approval", "check_approval", "check_approval"),
    ("phase_event", "certified", "certify_event"),
    ("phase_event", "chain", "chain_event"),
    ("phase_state", "phase_has_event", "check_phase_change"),
)
"""Table, trigger and function of schema cutover."""


@dataclass(frozen=True, slots=True)
class RecordAsKept:
    """What `domain.audit.judge` asks for. `warrants` by the certificate's hash in hex."""

    events: list[ChainedEvent]
    row: PhaseRow
    warrants: dict[str, Warrant]
    guards: list[Guard]


class AuditStore:
    """The phase events and the phase row of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> RecordAsKept:
        """All events by seq with what they stand on. Raises the errors of `Database`."""
        async with self._database.transaction(isolation="repeatable_read") as connection:
            await connection.execute("set local timezone = 'UTC'; set local bytea_output = 'hex'")
            rows = await connection.fetch(query("audit_events"))
            row = await connection.fetchrow(
                "select s.phase, s.epoch, to_jsonb(s.entered_at) #>> '{}' as entered_at from cutover.phase_state s"
            )
            kept = await connection.fetch(query("audit_warrants"))
            guards = await connection.fetch(query("audit_guards"), *map(list, zip(*_GUARDS, strict=True)))
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
                each["from_phase"],
                each["certificate"],
                tuple(each["approvers"]) if each["approvers"] is not None else None,
            )
            for each in rows
        ]
        warrants = {
            each["hash"]: Warrant(each["body"], tuple((who, at) for who, at in json.loads(each["approvals"])))
            for each in kept
        }
        # A function with the right name and another body guards nothing.
        packaged = "\n".join(each.up for each in migrate.available())
        looked_at = [
            Guard(each["tab"], each["trig"], bool(each["always"]), bool(each["prosrc"]) and each["prosrc"] in packaged)
            for each in guards
        ]
        return RecordAsKept(events, PhaseRow(row["phase"], row["epoch"], row["entered_at"]), warrants, looked_at)
