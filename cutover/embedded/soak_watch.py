"""What the soak reads while it goes: findings, sweeps, the daemon's memory. Read-only, past the daemon."""

import time
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg

_CONFIRMED = """
SELECT memory_id, class, confirmed_at, closed_at, closed_by, state
FROM cutover.divergence WHERE confirmed_at IS NOT NULL
"""
# An interrupted sweep has no outcome. Digests are told apart by what they looked at.
_SWEEPS = """
SELECT kind || CASE WHEN kind <> 'sweep.digest' THEN ''
                    WHEN coalesce(outcome ->> 'full', parameters ->> 'full') = 'true' THEN ', full'
                    ELSE ', incremental' END AS what,
       coalesce(outcome ->> 'outcome', state) AS outcome,
       count(*) AS runs,
       avg(extract(epoch FROM finished_at - started_at))::float8 AS seconds
FROM cutover.task_run WHERE kind LIKE 'sweep.%' GROUP BY 1, 2 ORDER BY 1, 2
"""
_CANARY = """
SELECT count(*) AS sweeps, sum((
           SELECT sum(value::int) FROM jsonb_each_text(outcome -> 'canary' -> 'planted')))::int AS planted,
       sum((SELECT sum(value::int) FROM jsonb_each_text(outcome -> 'canary' -> 'caught')))::int AS caught,
       count(*) FILTER (WHERE outcome ->> 'trusted' = 'false') AS distrusted
FROM cutover.task_run
WHERE kind = 'sweep.digest' AND state = 'finished' AND outcome ->> 'outcome' IN ('clean', 'divergent')
"""
_FAILURES = """
SELECT kind || ': ' || coalesce(outcome ->> 'why', 'no reason given') AS why, count(*) AS runs
FROM cutover.task_run WHERE kind LIKE 'sweep.%' AND coalesce(outcome ->> 'outcome', state) IN ('failed', 'partial')
GROUP BY 1 ORDER BY 2 DESC, 1
"""
_LEAKS = """
SELECT DISTINCT (found ->> 'memory_id')::uuid AS memory_id, found ->> 'direction' AS direction
FROM cutover.task_run, jsonb_array_elements(outcome -> 'findings') AS found
WHERE kind = 'sweep.recall' AND found ->> 'direction' <> 'expected'
"""
_FULL_SINCE = """
SELECT count(*) FROM cutover.task_run
WHERE kind = 'sweep.digest' AND state = 'finished' AND outcome ->> 'full' = 'true'
  AND outcome ->> 'outcome' IN ('clean', 'divergent')
  AND started_at > $1 AND finished_at < coalesce($2, clock_timestamp())
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One confirmed divergence."""

    memory_id: UUID
    name: str
    confirmed: datetime
    closed: datetime | None
    closed_by: str | None


@dataclass(frozen=True, slots=True)
class SweepLine:
    """Sweeps of one kind that ended alike."""

    what: str
    outcome: str
    runs: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Canaries:
    """Faults of the daemon's own planting, over all digest sweeps that came to a result."""

    sweeps: int
    planted: int
    caught: int
    distrusted: int
    """Sweeps that came to a result and do not trust it."""


@dataclass(frozen=True, slots=True)
class MemorySample:
    """The daemon's resident set at one moment; a daemon that was killed begins another life."""

    seconds: float
    life: int
    resident: int


class Watcher:
    """Connections to the tenant's database that only read. An async context manager."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._started = time.monotonic()
        self.memory: list[MemorySample] = []

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._url, min_size=1, max_size=4, server_settings={"application_name": "witness"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._pool is not None:
            await self._pool.close()

    def note_memory(self, life: int, resident: int) -> None:
        """One sample."""
        self.memory.append(MemorySample(time.monotonic() - self._started, life, resident))

    async def findings(self) -> list[Finding]:
        """Everything that was ever confirmed."""
        rows = await self._open().fetch(_CONFIRMED)
        return [
            Finding(row["memory_id"], row["class"], row["confirmed_at"], row["closed_at"], row["closed_by"])
            for row in rows
        ]

    async def sweeps(self) -> list[SweepLine]:
        """All sweeps, by kind and outcome."""
        rows = await self._open().fetch(_SWEEPS)
        return [SweepLine(row["what"], row["outcome"], row["runs"], row["seconds"]) for row in rows]

    async def failures(self) -> dict[str, int]:
        """Why sweeps came to no result, and how often."""
        return {row["why"]: row["runs"] for row in await self._open().fetch(_FAILURES)}

    async def shown_otherwise(self) -> dict[UUID, str]:
        """What recall sweeps found to be visible on one side alone, against the rules: which way, by memory."""
        return {row["memory_id"]: row["direction"] for row in await self._open().fetch(_LEAKS)}

    async def canaries(self) -> Canaries:
        """How the sweeps' own faults fared."""
        row = await self._open().fetchrow(_CANARY)
        if row is None:
            raise LookupError("an aggregate without a row")
        return Canaries(row["sweeps"], row["planted"] or 0, row["caught"] or 0, row["distrusted"])

    async def full_sweeps(self, since: datetime, before: datetime | None) -> int:
        """Full digest sweeps with a result that began after `since` and ended before `before` (None: now)."""
        return int(await self._open().fetchval(_FULL_SINCE, since, before))

    async def contents(self) -> dict[UUID, tuple[str | None, str | None]]:
        """What each memory of either store holds: in legacy, in the plugin."""
        rows = await self._open().fetch(
            "SELECT id, a.content AS legacy, r.content AS plugin"
            " FROM public.agent_memories a FULL JOIN ("
            "   SELECT * FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%'"
            " ) r USING (id)"
        )
        return {row["id"]: (row["legacy"], row["plugin"]) for row in rows}

    async def outcome(self, run: UUID) -> dict[str, Any] | None:
        """The record of one sweep, once it has ended."""
        row = await self._open().fetchrow(
            "SELECT state, outcome::text AS outcome FROM cutover.task_run WHERE id = $1 AND state <> 'running'", run
        )
        return None if row is None else dict(row)

    def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._pool is None:
            raise LookupError("the watcher is not at work")
        return self._pool
