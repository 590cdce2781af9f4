"""Both stores as digest sweeps see them: canonical rows, digested inside each database (architecture §4).

Content never leaves a database here: what comes back are counts, keyed hashes and lengths. The two sides may be two
databases, on different servers and of different versions of PostgreSQL; nothing is installed on the plugin's side.
Every statement has a time-out of its own, because a sweep must never be what a tenant's database is busy with.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.divergence import Expected, Held
from cutover.domain.phase import Phase
from cutover.stores.database import Database
from cutover.stores.digest_kv import NO_ROWS, KvExpectation, KvRows
from cutover.stores.sql import query

FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=(1 << 128) - 1)
_DIGEST = """sha256($1::bytea || uuid_send(c.id)
    || coalesce(int4send(length(c.namespace)) || convert_to(c.namespace, 'UTF8'), int4send(-1))
    || CASE WHEN c.created_at IS NULL THEN '\\x00'::bytea ELSE '\\x01' || timestamptz_send(c.created_at) END
    || CASE WHEN c.embedding THEN '\\x01'::bytea ELSE '\\x00' END
    || int4send(length(c.provenance)) || convert_to(c.provenance, 'UTF8')
    || convert_to(c.content, 'UTF8'))"""
_EXPIRY_MARGIN = timedelta(seconds=60)
_RANGE = "BETWEEN $2::uuid AND $3::uuid"
_IDS = "= ANY ($2::uuid[])"


@dataclass(slots=True)
class Clock:
    """Where a sweep's time went, in seconds: in the servers, and between their answer and ours."""

    database: float = 0.0
    transfer: float = 0.0

    def note(self, rows: list[asyncpg.Record], elapsed: float) -> None:
        """One statement: its rows carry the server's own time in `seconds`, if there are any."""
        inside = min(elapsed, max((row["seconds"] for row in rows), default=elapsed))
        self.database += inside
        self.transfer += elapsed - inside


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the tenant stands at one instant. `snapshot`: tells a later reader which deliveries came after it."""

    phase: Phase
    epoch: int
    generation: int
    everything_reached: bool
    reached_to: UUID | None
    snapshot: str
    at: datetime
    generation_began: datetime | None = None

    def reached(self, memory_id: UUID) -> bool:
        """Whether the backfill has been there."""
        return self.everything_reached or (self.reached_to is not None and memory_id <= self.reached_to)


@dataclass(frozen=True, slots=True)
class Bucket:
    """One side's digest of one bucket: rows, and 64 bits."""

    rows: int
    digest: int


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """One expected memory; `source` is memory, native or kv."""

    state: Expected
    source: str
    workspace_id: UUID | None


@dataclass(frozen=True, slots=True)
class About:
    """What else is known of a memory. `quarantined`: the reason. `delivered`: since the snapshot that was asked for.
    `planted`: a sweep's fault, of whichever sweep."""

    marked: bool
    deleted: bool
    quarantined: str | None
    delivered: bool
    delivered_at: datetime | None
    writer: str | None
    planted: bool = False


_NOTHING = About(False, False, None, False, None, None)


@dataclass(slots=True)
class Limits:
    """`statement` seconds per statement; a sweep raises it when its smallest chunk takes longer."""

    statement: float = 10.0
    as_of: datetime | None = None
    """What expires by then is left out on both sides; set anew before every comparison (`at_one_instant`)."""
    clock: Clock = field(default_factory=Clock)

    def at_one_instant(self, situation: "Situation") -> None:
        """Compare as of now by the tenant's clock, and a margin: the two databases' clocks need not agree, and neither
        side must still hold what the other has just let expire."""
        self.as_of = situation.at + _EXPIRY_MARGIN


class DigestReader:
    """Reads both sides of one tenant. `leaving_out`: plugin namespaces that hold no memories.

    Raises the errors of `Database`; `StatementTimeout` when a statement took longer than `limits.statement`.
    """

    def __init__(self, tenant: Database, plugin: Database, *, leaving_out: tuple[str, ...]) -> None:
        self._tenant = tenant
        self._plugin = plugin
        self._leaving_out = list(leaving_out)
        self._embedding: str | None = None
        self._kv = KvExpectation(tenant)

    # -- the situation ------------------------------------------------------------------------------------------

    async def situation(self) -> Situation:
        """Phase, reach of the backfill and snapshot, now."""
        row = await self._tenant.fetchrow(query("digest_situation"))
        assert row is not None  # noqa: S101 - phase_state has its one row
        return Situation(
            Phase(row["phase"]), row["epoch"], row["generation"], row["everything"], row["last_id"], row["snapshot"],
            row["at"], row["generation_began"],
        )  # fmt: skip

    async def about(self, ids: Collection[UUID], snapshot: str) -> dict[UUID, About]:
        """Marks, tombstones and deliveries of `ids`; every id is there."""
        rows = await self._tenant.fetch(query("digest_about"), list(ids), snapshot, timeout=30.0)
        found = {
            row["id"]: About(
                row["marked"],
                row["deleted"],
                row["quarantined"],
                row["delivered"],
                row["delivered_at"],
                row["writer"],
                row["planted"],
            )
            for row in rows
        }
        return {memory_id: found.get(memory_id, _NOTHING) for memory_id in ids}

    async def delivered_since(self, since: Mapping[UUID, str]) -> frozenset[UUID]:
        """Which memories were delivered after their own snapshot, by id."""
        rows = await self._tenant.fetch(
            query("digest_delivered_since"), list(since.keys()), list(since.values()), timeout=30.0
        )
        return frozenset(row["id"] for row in rows)

    async def delivered(self, since: str, before: str, past: UUID | None, limit: int) -> list[UUID]:
        """Memories delivered by transactions from `since` on and below `before`, ascending, past an id."""
        rows = await self._tenant.fetch(query("digest_delivered"), since, before, past, limit, timeout=30.0)
        return [row["memory_id"] for row in rows]

    async def delivered_count(self, since: str, before: str, most: int) -> int:
        """Deliveries by transactions from `since` on and below `before`, counted up to `most`."""
        sql = (
            "select count(*) from (select from cutover.delivery_log l"
            " where l.xid >= pg_snapshot_xmin($1::text::pg_snapshot)"
            " and l.xid < pg_snapshot_xmax($2::text::pg_snapshot)"
            " and not pg_visible_in_snapshot(l.xid, $1::text::pg_snapshot) limit $3) x"
        )
        return int(await self._tenant.fetchval(sql, since, before, most, timeout=30.0))

    async def expected_count(self, low: UUID, high: UUID, limits: Limits) -> int:
        """Rows of `agent_memories` in a range."""
        sql = "select count(*) as rows from public.agent_memories where id between $1 and $2"
        return int((await self._timed(self._tenant, sql, limits, low, high))[0]["rows"])

    async def expected_workspaces(self, low: UUID, high: UUID, limits: Limits) -> dict[UUID | None, int]:
        """Expected memories of a range by workspace; None: of no workspace."""
        sql, kv = await self._expected("digest_workspaces", _RANGE, 4, await self._kv.between(low, high))
        rows = await self._timed(self._tenant, sql, limits, b"", low, high, *kv)
        return {row["workspace_id"]: row["rows"] for row in rows}

    async def expected_of(self, workspace_id: UUID) -> list[UUID]:
        """Ids of one workspace's memories in legacy and the journal, whatever became of them there."""
        rows = await self._tenant.fetch(query("digest_expected_of"), workspace_id, timeout=60.0)
        return [row["id"] for row in rows]

    async def held_of(self, workspace_id: UUID) -> list[UUID]:
        """Ids of what the plugin holds as one workspace's: by its provenance or in its own namespace."""
        rows = await self._plugin.fetch(
            query("digest_held_of"), str(workspace_id), f"workspace:{workspace_id}", timeout=60.0
        )
        return [row["id"] for row in rows]

    async def waiting(self, workspace_id: UUID | None, seconds: float) -> int:
        """Marks older than `seconds` (of one workspace's memories, if given)."""
        return int(await self._tenant.fetchval(query("digest_waiting"), workspace_id, seconds, timeout=30.0))

    async def busy(self) -> tuple[int, int]:
        """Sessions of others at work, and of those the ones that wait for a lock: the worse of both databases."""
        worst = (0, 0)
        for database in {id(each): each for each in (self._tenant, self._plugin)}.values():
            row = await database.fetchrow(query("digest_busy"))
            if row is not None:
                worst = (max(worst[0], row["active"]), max(worst[1], row["waiting"]))
        return worst

    async def begin_full(self) -> None:
        """A full sweep begins: what has to be looked for once per sweep."""
        await self._kv.scan()

    # -- ranges -------------------------------------------------------------------------------------------------

    async def edge(self, low: UUID, rows: int, limits: Limits) -> UUID:
        """The end of a range from `low` that holds at most `rows` rows on either side (`LAST_ID`: the rest)."""
        here = await self._timed(self._tenant, query("digest_edge_expected"), limits, low, rows)
        there = await self._timed(self._plugin, query("digest_edge_held"), limits, low, rows)
        edges = [row["edge"] for row in (*here, *there) if row["rows"] >= rows]
        return min(edges, default=LAST_ID)

    async def must_be_there(self, low: UUID, high: UUID, limits: Limits) -> list[UUID]:
        """Memories of a range that the plugin must hold whether or not the backfill has been there."""
        return [row["id"] for row in await self._timed(self._tenant, query("digest_must"), limits, low, high)]

    async def held_ids(self, low: UUID, high: UUID, limits: Limits) -> list[UUID]:
        """What the plugin holds in a range."""
        rows = await self._timed(self._plugin, query("digest_held_ids"), limits, low, high, self._leaving_out)
        return [row["id"] for row in rows]

    async def marked(self, low: UUID, high: UUID, limits: Limits) -> list[UUID]:
        """Marked memories of a range."""
        return [row["memory_id"] for row in await self._timed(self._tenant, query("digest_marked"), limits, low, high)]

    async def expected_buckets(self, salt: bytes, low: UUID, high: UUID, limits: Limits) -> dict[int, Bucket]:
        """The expected side of a range, digested by bucket."""
        sql, kv = await self._expected("digest_buckets", _RANGE, 4, await self._kv.between(low, high))
        return _buckets(await self._timed(self._tenant, sql, limits, salt, low, high, *kv))

    async def held_buckets(
        self, salt: bytes, low: UUID, high: UUID, leave_out: Collection[UUID], limits: Limits
    ) -> dict[int, Bucket]:
        """The plugin's side of a range, digested by bucket."""
        sql = _held("digest_buckets", _RANGE, 4)
        return _buckets(
            await self._timed(self._plugin, sql, limits, salt, low, high, self._leaving_out, list(leave_out))
        )

    async def expected_hashes(
        self, salt: bytes, low: UUID, high: UUID, buckets: Collection[int], limits: Limits
    ) -> dict[UUID, bytes]:
        """Id and hash of every expected row in some buckets of a range."""
        sql, kv = await self._expected("digest_hashes", _RANGE, 5, await self._kv.between(low, high))
        sql = sql.replace("{buckets}", "$4")
        rows = await self._timed(self._tenant, sql, limits, salt, low, high, list(buckets), *kv)
        return {row["id"]: row["digest"] for row in rows}

    async def held_hashes(
        self, salt: bytes, low: UUID, high: UUID, buckets: Collection[int], leave_out: Collection[UUID], limits: Limits
    ) -> dict[UUID, bytes]:
        """Id and hash of every row the plugin holds in some buckets of a range."""
        sql = _held("digest_hashes", _RANGE, 4).replace("{buckets}", "$6")
        rows = await self._timed(
            self._plugin, sql, limits, salt, low, high, self._leaving_out, list(leave_out), list(buckets)
        )
        return {row["id"]: row["digest"] for row in rows}

    # -- single memories ----------------------------------------------------------------------------------------

    async def expected(
        self, salt: bytes, ids: Collection[UUID], situation: Situation, limits: Limits, *, reached: bool = False
    ) -> dict[UUID, ExpectedRow]:
        """What is expected of `ids`, field by field. `reached`: all of them are known to have been delivered once."""
        sql, kv = await self._expected("digest_states", _IDS, 3, await self._kv.among(ids))
        rows = await self._timed(self._tenant, sql, limits, salt, list(ids), *kv)
        return {
            row["id"]: ExpectedRow(
                Expected(
                    row["namespace"], row["content_hash"], row["content_length"], row["created_at"], row["embedding"],
                    row["provenance_hash"],
                    reached or row["source"] in ("native", "kv") or situation.reached(row["id"]),
                ),
                row["source"],
                row["workspace_id"],
            )
            for row in rows
        }  # fmt: skip

    async def held(self, salt: bytes, ids: Collection[UUID], limits: Limits) -> dict[UUID, Held]:
        """What the plugin holds of `ids`, field by field."""
        sql = _held("digest_states", _IDS, 3)
        rows = await self._timed(self._plugin, sql, limits, salt, list(ids), self._leaving_out, [])
        return {
            row["id"]: Held(
                row["namespace"], row["content_hash"], row["content_length"], row["created_at"], row["embedding"],
                row["provenance_hash"], row["source"],
            )
            for row in rows
        }  # fmt: skip

    # -- statements ---------------------------------------------------------------------------------------------

    async def _expected(
        self, outer: str, these: str, next_parameter: int, kv: KvRows | None
    ) -> tuple[str, list[list[Any]]]:
        """The statement, and the last of its parameters."""
        if self._embedding is None:
            has = await self._tenant.fetchval(query("legacy_has_embedding"))
            self._embedding = "a.embedding IS NOT NULL" if has else "false"
        rows = query("digest_expected").replace("{these}", these).replace("{embedding}", self._embedding)
        if kv is None:
            return _compose(outer, rows.replace("{kv}", NO_ROWS)), []
        wanted = query("digest_kv_rows")
        for place, name in enumerate(("ids", "workspaces", "keys"), next_parameter):
            wanted = wanted.replace("{" + name + "}", f"${place}")
        return _compose(outer, rows.replace("{kv}", wanted)), [kv.ids, kv.workspaces, kv.keys]

    async def _timed(self, database: Database, sql: str, limits: Limits, *arguments: Any) -> list[asyncpg.Record]:
        """One statement under its own time-out, with its time put down to the server or the way."""
        async with database.transaction() as connection:
            await connection.execute(
                f"set local statement_timeout = {max(1, round(limits.statement * 1000))};"
                f"{_as_of(limits)} set local plan_cache_mode = force_custom_plan; set local jit = off;"
                " set local max_parallel_workers_per_gather = 0"
            )
            started = time.monotonic()
            rows = await connection.fetch(sql, *arguments, timeout=limits.statement + 30)
            limits.clock.note(rows if rows and "seconds" in rows[0] else [], time.monotonic() - started)
        return rows


def _as_of(limits: Limits) -> str:
    return f" set local cutover.as_of = '{limits.as_of.isoformat()}';" if limits.as_of is not None else ""


def _held(outer: str, these: str, next_parameter: int) -> str:
    rows = query("digest_held").replace("{these}", these)
    rows = rows.replace("{leaving_out}", f"${next_parameter}").replace("{except}", f"${next_parameter + 1}")
    return _compose(outer, rows)


def _compose(outer: str, rows: str) -> str:
    """The statement `outer` over the canonical rows of one side."""
    return query(outer).replace("{digest}", _DIGEST).replace("{rows}", "\n" + rows)


def _buckets(rows: list[asyncpg.Record]) -> dict[int, Bucket]:
    return {row["bucket"]: Bucket(row["rows"], row["digest"]) for row in rows}


def differing_buckets(expected: Mapping[int, Bucket], held: Mapping[int, Bucket]) -> list[int]:
    """Buckets whose two digests are not the same, ascending."""
    return sorted(each for each in expected.keys() | held.keys() if expected.get(each) != held.get(each))


def differing_ids(expected: Mapping[UUID, bytes], held: Mapping[UUID, bytes]) -> list[UUID]:
    """Ids that only one side has, or whose hashes differ, ascending."""
    return sorted(each for each in expected.keys() | held.keys() if expected.get(each) != held.get(each))
