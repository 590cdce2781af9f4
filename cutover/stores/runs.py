"""`cutover.task_run` and `cutover.task_checkpoint`: what ran, for whom, how far it came and what it came to."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.redaction import redact_note, redact_record
from cutover.stores.database import Connection, Database
from cutover.stores.procedures import packaged_for
from cutover.stores.sql import query
from cutover.stores.task_lock import TaskLock, task_turn

ADD_CHECKPOINT = (
    "insert into cutover.task_checkpoint (run_id, kind, data) values ($1, $2::text::cutover.checkpoint_kind, $3::jsonb)"
)
"""Run, kind, data (`as_record`)."""


_PATIENCE = 10.0
_SCHEDULE_PATIENCE = 600.0
"""Seconds to wait for another daemon that is at the same work."""


class CheckpointKind(StrEnum):
    """`cutover.checkpoint_kind`: never rename a value."""

    PROGRESS = "progress"  # how far it has come
    CONTROL = "control"  # what an operator did to it
    STEP = "step"  # a step that is about to be taken
    DONE = "done"  # that it was taken


_MOST_KEPT = 5_000
"""Strings and keys in one outcome. PostgreSQL looks at each of them for secrets, some 0.2 ms apiece."""


def as_record(value: Mapping[str, Any]) -> str:
    """JSON for the record. What looks like a secret is taken out first: the record refuses it (migration 010), and what
    is told there is never lost for that."""
    return json.dumps(redact_record(value))


def as_outcome(value: Mapping[str, Any]) -> str:
    """The same for what a run came to, which is for people to read: of long lists the beginning is kept, and how many
    entries were left out. (Not for checkpoints: a run goes on from those.)"""
    most = _MOST_KEPT
    told: Mapping[str, Any] = value
    while _texts(told) > _MOST_KEPT and most > 1:
        most //= 2
        told = _shortened(value, most)
    return as_record(told)


def _texts(value: Any) -> int:
    """How many strings and keys there are in it."""
    match value:
        case str():
            return 1
        case Mapping():
            return len(value) + sum(map(_texts, value.values()))
        case list() | tuple():
            return sum(map(_texts, value))
        case _:
            return 0


def _shortened(value: Any, most: int) -> Any:
    """The same with at most so many entries in each list and mapping; what is left out is counted."""
    match value:
        case Mapping():
            kept = {key: _shortened(each, most) for key, each in list(value.items())[:most]}
            return kept if len(value) <= most else {**kept, "left_out": len(value) - most}
        case list() | tuple():
            kept_ones = [_shortened(each, most) for each in value[:most]]
            return kept_ones if len(value) <= most else [*kept_ones, f"{len(value) - most} more were left out"]
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Run:
    """One task run. `outcome` is None while it runs."""

    id: UUID
    kind: str
    state: str
    requested_by: str
    parameters: dict[str, Any]
    outcome: dict[str, Any] | None
    started_at: datetime
    finished_at: datetime | None
    procedure_version: int | None = None


class Runs:
    """The record of one tenant's tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def turn(self, key: int, requested_by: str) -> contextlib.AbstractAsyncContextManager[TaskLock]:
        """For the length of a block nobody else is at the same work, in any daemon of the tenant (`task_turn`). The
        schedule has patience; a person wants to know who is in the way."""
        patience = _SCHEDULE_PATIENCE if requested_by == "schedule" else _PATIENCE
        return task_turn(self._database, key, patience=patience)

    async def fresh_outcome(self, kind: str, seconds: float) -> dict[str, Any] | None:
        """What the newest run of a kind came to that ended by itself at most so many seconds ago."""
        told = await self._database.fetchval(query("runs_fresh_outcome"), kind, seconds)
        return dict(json.loads(told)) if told is not None else None

    async def begin(self, kind: str, requested_by: str, parameters: dict[str, Any]) -> UUID:
        """Open a run."""
        followed = packaged_for(kind, parameters)
        value: UUID = await self._database.fetchval(
            query("runs_begin"),
            kind,
            redact_note(requested_by),
            as_record(parameters),
            followed.name,
            followed.content_hash,
        )
        return value

    async def checkpoint(self, run: UUID, data: dict[str, Any], kind: CheckpointKind = CheckpointKind.PROGRESS) -> None:
        """Append progress, or something else that is to be remembered about a run."""
        await self._database.execute(ADD_CHECKPOINT, run, kind.value, as_record(data))

    @staticmethod
    async def record_ended(
        connection: "Connection | Database",
        kind: str,
        requested_by: str,
        parameters: dict[str, Any],
        state: str,
        outcome: dict[str, Any],
        seconds: float,
    ) -> UUID:
        """A run that is over, `seconds` after it began: with a connection, in the caller's transaction."""
        followed = packaged_for(kind, parameters)
        value: UUID = await connection.fetchval(
            query("runs_record_ended"),
            kind,
            redact_note(requested_by),
            as_record(parameters),
            followed.name,
            followed.content_hash,
            state,
            as_outcome(outcome),
            seconds,
        )
        return value

    async def last_saying(self, run: UUID, key: str) -> dict[str, Any] | None:
        """The newest progress that says something under `key`."""
        return await self._checkpoint(run, key, "desc")

    async def first_saying(self, run: UUID, key: str) -> dict[str, Any] | None:
        """The oldest."""
        return await self._checkpoint(run, key, "asc")

    async def _checkpoint(self, run: UUID, key: str, order: str) -> dict[str, Any] | None:
        data = await self._database.fetchval(
            f"select data from cutover.task_checkpoint where run_id = $1 and data ? $2 order by seq {order} limit 1",
            run,
            key,
        )
        return dict(json.loads(data)) if data is not None else None

    async def finish(self, run: UUID, state: str, outcome: dict[str, Any]) -> None:
        """Close a run: `state` finished, failed or interrupted."""
        await self._database.execute(
            "update cutover.task_run set state = $2, outcome = $3::jsonb, finished_at = now() where id = $1",
            run,
            state,
            as_outcome(outcome),
        )

    async def last(self, kind: str, *, finished: bool = False) -> Run | None:
        """The newest run of a kind; with `finished`, the newest that came to an end by itself."""
        row = await self._database.fetchrow(
            "select * from cutover.task_run where kind = $1 and (not $2 or state = 'finished')"
            " order by started_at desc limit 1",
            kind,
            finished,
        )
        return _run(row) if row else None

    async def running(self, kind: str) -> list[Run]:
        """Runs that were never closed: under way, or left behind by a crash."""
        rows = await self._database.fetch(
            "select * from cutover.task_run where kind = $1 and state = 'running' order by started_at", kind
        )
        return [_run(row) for row in rows]

    async def recent(self, kind: str, *, limit: int, after: UUID | None = None) -> list[Run]:
        """Runs whose kind is like `kind`, newest first, from behind the run `after` on."""
        return [_run(row) for row in await self._database.fetch(query("runs_recent"), kind, after, limit)]

    async def get(self, run: UUID) -> Run | None:
        """One run, whatever its kind."""
        row = await self._database.fetchrow("select * from cutover.task_run where id = $1", run)
        return _run(row) if row else None

    async def last_checkpoint(self, run: UUID, kind: CheckpointKind | None = None) -> dict[str, Any] | None:
        """What was last put down about it; with `kind`, what was last put down of that kind."""
        value = await self._database.fetchval(
            "select data from cutover.task_checkpoint where run_id = $1 and ($2::text is null or kind::text = $2)"
            " order by seq desc limit 1",
            run,
            kind.value if kind is not None else None,
        )
        return None if value is None else json.loads(value)

    async def buckets(self, run: UUID) -> dict[str, Any] | None:
        """What a full sweep looked at, in sum; None for one that kept no buckets."""
        row = await self._database.fetchrow(query("runs_buckets"), run)
        assert row is not None  # noqa: S101 - aggregates give one row
        return dict(row) if row["buckets"] else None

    async def interrupt_older(self, kind: str, seconds: float) -> None:
        """Close runs that a killed daemon left behind: under way for longer than any of the kind can be."""
        await self._database.execute(
            "update cutover.task_run set state = 'interrupted', finished_at = now()"
            " where kind = $1 and state = 'running' and started_at < now() - make_interval(secs => $2)",
            kind,
            seconds,
        )

    async def prune(self, kind: str, keep_days: int) -> None:
        """Old runs of a frequent kind; those with checkpoints stay (append-only)."""
        await self._database.execute(
            "delete from cutover.task_run r where r.kind = $1 and r.started_at < now() - make_interval(days => $2)"
            " and not exists (select from cutover.task_checkpoint c where c.run_id = r.id)",
            kind,
            keep_days,
        )


def _run(row: asyncpg.Record) -> Run:
    outcome = row["outcome"]
    return Run(
        row["id"],
        row["kind"],
        row["state"],
        row["requested_by"],
        json.loads(row["parameters"]),
        json.loads(outcome) if outcome is not None else None,
        row["started_at"],
        row["finished_at"],
        row["procedure_version"],
    )
