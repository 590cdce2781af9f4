"""The backfill's cursor and its two kinds of chunk: typed calls of migrations 005 (marks) and 008 (set-based copy).

Every chunk moves the cursor in its own transaction, so a crash between two of them loses and repeats nothing.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from cutover.stores.database import Database
from cutover.stores.sql import query
from cutover.stores.task_lock import task_lock

_ALONE_KEY = 7304916220481577220
"""Any constant of our own; advisory locks are per database."""


@dataclass(frozen=True, slots=True)
class BackfillCursor:
    """How far a scope has come. Counts are rows; `total` was exact when it began; `copied` by the database delivery."""

    scope: str
    generation: int
    last_id: UUID | None
    done: bool
    scanned: int
    marked: int
    copied: int
    total: int


@dataclass(frozen=True, slots=True)
class MarkedChunk:
    """Rows of one chunk of `--via contract`: looked at, and newly marked (the others had a mark)."""

    scanned: int
    marked: int
    done: bool


@dataclass(frozen=True, slots=True)
class CopiedChunk:
    """Rows of one chunk of `--via database`; see the comment of type `cutover.copied_chunk`."""

    scanned: int
    copied: int
    unchanged: int
    already: int
    quarantined: int
    handed_over: int
    done: bool
    blocked: bool


class BackfillStore:
    """One tenant's backfill as the database keeps it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, epoch: int, scope: str, workspace_id: UUID | None) -> BackfillCursor:
        """The cursor of a scope, begun anew when it belongs to an earlier generation. Raises `StaleEpoch`."""
        row = await self._database.fetchrow(
            "select * from cutover.open_backfill($1, $2, $3)", epoch, scope, workspace_id, timeout=60.0
        )
        assert row is not None  # noqa: S101 - a function that returns a row
        return cursor_of(row)

    async def cursors(self) -> list[BackfillCursor]:
        """All cursors, of whatever generation."""
        return [cursor_of(row) for row in await self._database.fetch("select * from cutover.backfill_cursor")]

    async def left(self) -> int:
        """Rows that the newest run has still to take up, whichever daemon carries it out, or nobody any more."""
        return int(await self._database.fetchval(query("backfill_left")) or 0)

    async def mark_chunk(self, epoch: int, scope: str, workspace_id: UUID | None, limit: int) -> MarkedChunk:
        """Mark the next `limit` rows. Raises `StaleEpoch`, `LockTimeout`."""
        row = await self._database.fetchrow(
            "select * from cutover.backfill_chunk($1, $2, $3, $4)", epoch, scope, workspace_id, limit, timeout=60.0
        )
        assert row is not None  # noqa: S101
        return MarkedChunk(row["scanned"], row["marked"], row["done"])

    async def copy_chunk(
        self, epoch: int, scope: str, workspace_id: UUID | None, limit: int, *, timeout: float
    ) -> CopiedChunk:
        """Copy the next `limit` rows in one transaction. Raises `StaleEpoch`, `LockTimeout`, and `DatabaseFault` for a
        row that PostgreSQL cannot copy; after `timeout` seconds `DatabaseUnavailable`, with nothing done."""
        row = await self._database.fetchrow(
            "select * from cutover.copy_chunk($1, $2, $3, $4)", epoch, scope, workspace_id, limit, timeout=timeout
        )
        assert row is not None  # noqa: S101
        return CopiedChunk(**dict(row))

    async def bring_namespaces_up_to_date(self, epoch: int) -> int:
        """Definitions that clients changed while nothing was forwarded; gives how many were behind."""
        return int(await self._database.fetchval("select cutover.copy_namespaces($1)", epoch))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        """Whether no other daemon carries out a backfill of this tenant; while the body runs, none can. A lost
        connection loses this too, which is no harm: chunks of two daemons wait for each other at the cursor."""
        async with task_lock(self._database, _ALONE_KEY) as lock:
            yield lock.ours

    async def carried_out_elsewhere(self) -> bool:
        """Whether somebody is at it, for who is not. Looks only: trying the lock would take it from one who begins."""
        return bool(await self._database.fetchval(query("backfill_under_way"), _ALONE_KEY))

    async def shares_database_with(self, other: Database) -> bool:
        """Whether `other` is a connection to the same database, by whatever address and role. Advisory locks belong to
        one database: where the second is not to be had, it is the same."""
        key = secrets.randbits(62)
        ask = "select pg_try_advisory_xact_lock($1)"
        async with self._database.transaction() as here, other.transaction() as there:
            await here.fetchval(ask, key)
            return not await there.fetchval(ask, key)

    async def missing_rights(self) -> str:
        """The first of the plugin's tables that our role may not write; empty when it may."""
        return str(await self._database.fetchval(query("backfill_missing_rights")) or "")

    async def bring_times_up_to_date(
        self, plugin: Database, after: UUID | None, limit: int, *, timeout: float
    ) -> tuple[UUID | None, int]:
        """Give the next `limit` of the plugin's rows the `created_at` that they carry in `propagation.cutover`; the
        last id looked at (None at the end) and how many were mended."""
        row = await plugin.fetchrow(query("backfill_mend_times"), after, limit, timeout=timeout)
        assert row is not None  # noqa: S101 - an aggregate gives one row
        return row["last_id"], row["mended"]


def cursor_of(row: asyncpg.Record) -> BackfillCursor:
    """A row of `cutover.backfill_cursor`."""
    return BackfillCursor(
        row["scope"],
        row["generation"],
        row["last_id"],
        row["done"],
        row["scanned"],
        row["marked"],
        row["copied"],
        row["total"],
    )
