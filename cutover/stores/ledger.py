"""Schema `cutover` as the engine sees it: typed calls of its SQL functions (migrations 003–005 hold the rules).

Every write enters through `cutover.enter(epoch)`, so a stale epoch comes back as `StaleEpoch` from any of these.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.redaction import redact_note
from cutover.stores.database import Connection, Database


@dataclass(frozen=True, slots=True)
class WriteResult:
    """`cutover.write_result`: what one write came to, and the state to deliver. See the type's comment for `status`."""

    ordinal: int
    status: str
    memory_id: UUID
    rev: int | None
    lease_id: int | None
    """None when we may not send: somebody else's request is, or may still be, under way."""
    seq: int | None
    namespace: str | None
    workspace_id: UUID | None
    scope: Scope | None
    label: str
    content: str
    kind: str
    source: str
    expires_at: datetime | None
    pin: bool
    propagation: Any
    embedding: tuple[float, ...] | None
    created_at: datetime | None
    updated_at: datetime | None
    fingerprint: bytes | None
    held_in: tuple[str, ...]
    attempts: int
    origin: str
    kv: dict[str, Any] | None = None
    """Key and version, where the state is that of a K/V row; its value is `content`."""


def _result(row: asyncpg.Record) -> WriteResult:
    propagation = row["propagation"]
    embedding = row["embedding"]
    kv = row["kv"]
    return WriteResult(
        ordinal=row["ordinal"] or 0,
        status=row["status"],
        memory_id=row["memory_id"],
        rev=row["rev"],
        lease_id=row["lease_id"],
        seq=row["seq"],
        namespace=row["namespace"],
        workspace_id=row["workspace_id"],
        scope=Scope(row["scope"]) if row["scope"] else None,
        label="general" if row["label"] is None else row["label"],
        content=row["content"] or "",
        kind=row["kind"] or "fact",
        source=row["source"] or "agent",
        expires_at=row["expires_at"],
        pin=bool(row["pin"]),
        propagation=json.loads(propagation) if propagation is not None else None,
        embedding=tuple(json.loads(embedding)) if embedding is not None else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        fingerprint=row["fingerprint"],
        held_in=tuple(row["held_in"] or ()),
        attempts=row["attempts"] or 0,
        origin=row["origin"] or "",
        kv=json.loads(kv) if kv is not None else None,
    )


@dataclass(frozen=True, slots=True)
class LegacyCreate:
    """One row for `create_memories`. `requested` is the contract's namespace, None for a v1 create."""

    id: UUID
    workspace_id: UUID
    scope: Scope
    content: str
    label: str
    requested: str | None = None
    embedding: str | None = None
    source: str = "agent"
    pin: bool = False
    propagation: str | None = None
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class JournalCommit:
    """One row for `begin_commits`. `fresh`: we minted the id. `settled`: a lease we know to be over."""

    id: UUID
    fresh: bool
    workspace_id: UUID | None
    scope: Scope | None
    requested: str | None
    native: bool
    content: str
    label: str | None
    kind: str
    source: str
    expires_at: datetime | None
    pin: bool
    propagation: str | None
    embedding: str | None
    fingerprint: bytes | None
    settled: int | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """The outcome of one delivery, for `settle`. `outcome`: delivered, failed, unsent, ambiguous, quarantined."""

    memory_id: UUID
    rev: int
    lease_id: int
    seq: int | None
    outcome: str
    delay: float = 0.0
    """Seconds before the next try, for `failed` and `unsent`."""
    note: str = ""
    """The error, or `reason:detail` for `quarantined`."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: marks by origin, age in seconds of the oldest of live changes and of the backfill's oldest (0 when
    none), quarantined rows (all, and not acknowledged)."""

    by_origin: dict[str, int]
    oldest_live: float
    oldest_backfill: float
    quarantined: int
    unacknowledged: int

    @property
    def total(self) -> int:
        """All marks."""
        return sum(self.by_origin.values())

    @property
    def oldest_seconds(self) -> float:
        """Age of the oldest of all; 0 when there is none."""
        return max(self.oldest_live, self.oldest_backfill)

    @property
    def live(self) -> int:
        """Marks of live changes, without the backfill's own."""
        return self.total - self.by_origin.get("backfill", 0)


_CREATE = (
    "select * from cutover.create_memories($1, $2, $3, $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],"
    " $9::text[], $10::text[], $11::text[], $12::boolean[], $13::text[], $14::bytea[])"
)
_BEGIN = (
    "select * from cutover.begin_commits($1, $2, $3, $4::bigint[], $5::uuid[], $6::boolean[], $7::uuid[], $8::text[],"
    " $9::text[], $10::boolean[], $11::text[], $12::text[], $13::text[], $14::text[], $15::timestamptz[],"
    " $16::boolean[], $17::text[], $18::text[], $19::bytea[])"
)
_SETTLE = (
    "select * from cutover.settle($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::float8[],"
    " $7::text[])"
)
_BACKLOG = """
select (select coalesce(jsonb_object_agg(o.origin, o.n), '{}') from
          (select origin, count(*) as n from cutover.mark group by origin) o) as by_origin,
       o.oldest_live, o.oldest_backfill,
       (select count(*) from cutover.quarantine) as quarantined,
       (select count(*) from cutover.quarantine where acknowledged_by is null) as unacknowledged
from (select coalesce(extract(epoch from clock_timestamp() - min(marked_at) filter (where origin <> 'backfill')), 0)
                 ::float8 as oldest_live,
             coalesce(extract(epoch from clock_timestamp() - min(marked_at) filter (where origin = 'backfill')), 0)
                 ::float8 as oldest_backfill
      from cutover.mark) o
"""


class Ledger:
    """The SQL functions of schema `cutover`. `owner` is this daemon's id: leases carry it."""

    def __init__(self, database: Database, owner: UUID) -> None:
        self.database = database
        self.owner = owner
        # Writers wait in the database while a phase change holds them, and the change waits for deliveries to be
        # recorded: if writers could take every connection, that would never happen.
        self._entering = asyncio.Semaphore(max(1, database.size // 2))

    # -- phase ----------------------------------------

    async def phase(self) -> PhaseState:
        """The tenant's phase row."""
        row = await self.database.fetchrow(
            "select phase, epoch, entered_at, generation from cutover.phase_state", timeout=3.0
        )
        assert row is not None, "cutover.phase_state always has its one row"  # noqa: S101
        state = PhaseState(Phase(row["phase"]), row["epoch"], row["entered_at"], row["generation"])
        self.database.legacy.gone = state.phase is Phase.A4
        return state

    # -- legacy writes (A0–A2) ----------------------------------------

    async def create(self, epoch: int, quiet: float, rows: Sequence[LegacyCreate]) -> list[WriteResult]:
        """Write a batch of legacy rows in one transaction. `quiet`: seconds until anybody else may send."""
        records = await self._entered(
            _CREATE,
            epoch,
            self.owner,
            quiet,
            [r.id for r in rows],
            [r.workspace_id for r in rows],
            [r.scope.value for r in rows],
            [r.content for r in rows],
            [r.label for r in rows],
            [r.requested for r in rows],
            [r.embedding for r in rows],
            [r.source for r in rows],
            [r.pin for r in rows],
            [r.propagation for r in rows],
            [r.fingerprint for r in rows],
        )
        return [_result(record) for record in records]

    async def edit(
        self, epoch: int, quiet: float, settled: int | None, memory_id: UUID, workspace_id: UUID,
        content: str | None, label: str | None, *, journal: bool = False, lease: bool = True,
    ) -> WriteResult:  # fmt: skip
        """Change content or label; on legacy, or (A3, A4) as a journal intent."""
        name = "begin_edit" if journal else "edit_memory"
        return await self._one(
            f"select * from cutover.{name}($1, $2, $3, $4, $5, $6, $7, $8)",
            epoch, self.owner if lease else None, quiet, settled, memory_id, workspace_id, content, label,
        )  # fmt: skip

    async def delete(
        self, epoch: int, quiet: float, settled: int | None, memory_id: UUID,
        workspace_id: UUID | None, namespace: str | None, *, journal: bool = False, lease: bool = True,
    ) -> WriteResult:  # fmt: skip
        """Delete by workspace (v1) or by namespace (contract); on legacy, or as a journal intent."""
        name = "begin_forget" if journal else "delete_memory"
        return await self._one(
            f"select * from cutover.{name}($1, $2, $3, $4, $5, $6, $7)",
            epoch, self.owner if lease else None, quiet, settled, memory_id, workspace_id, namespace,
        )  # fmt: skip

    async def replace(
        self, epoch: int, quiet: float, settled: int | None, row: LegacyCreate, *, from_native: bool, lease: bool
    ) -> WriteResult:
        """A contract commit over an id that exists: a legacy row replaced, or a native brought into legacy."""
        name = "adopt_native" if from_native else "replace_memory"
        return await self._one(
            f"select * from cutover.{name}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            epoch, self.owner if lease else None, quiet, settled, row.id, row.requested, row.workspace_id,
            row.scope.value, row.content, row.embedding, row.source, row.pin, row.propagation,
        )  # fmt: skip

    # -- journal writes (A3, A4; natives from A1) ----------------------------------------

    async def begin_commits(self, epoch: int, quiet: float, rows: Sequence[JournalCommit]) -> list[WriteResult]:
        """Write a batch of intents in one transaction. Rows must come in id order (locks)."""
        records = await self._entered(
            _BEGIN,
            epoch,
            self.owner,
            quiet,
            [r.settled for r in rows],
            [r.id for r in rows],
            [r.fresh for r in rows],
            [r.workspace_id for r in rows],
            [r.scope.value if r.scope else None for r in rows],
            [r.requested for r in rows],
            [r.native for r in rows],
            [r.content for r in rows],
            [r.label for r in rows],
            [r.kind for r in rows],
            [r.source for r in rows],
            [r.expires_at for r in rows],
            [r.pin for r in rows],
            [r.propagation for r in rows],
            [r.embedding for r in rows],
            [r.fingerprint for r in rows],
        )
        return [_result(record) for record in records]

    async def withdraw(self, result: WriteResult, *, ambiguous: bool, note: str) -> bool:
        """Take an intent back before the caller is told no; False when it was settled meanwhile."""
        return bool(
            await self.database.fetchval(
                "select cutover.withdraw($1, $2, $3, $4, $5)",
                result.seq,
                result.memory_id,
                result.lease_id,
                ambiguous,
                redact_note(note),
            )
        )

    # -- delivery ----------------------------------------

    async def settle(self, settlements: Sequence[Settlement]) -> dict[UUID, bool | None]:
        """Record outcomes; per memory whether its mark is gone.

        False: somebody changed it meanwhile. None: somebody has it locked, so nothing was recorded.
        """
        rows = await self.database.fetch(
            _SETTLE,
            [s.memory_id for s in settlements],
            [s.rev for s in settlements],
            [s.lease_id for s in settlements],
            [s.seq for s in settlements],
            [s.outcome for s in settlements],
            [s.delay for s in settlements],
            [redact_note(s.note) if s.note else "" for s in settlements],  # a plugin's own code may be anything
        )
        return {row["memory_id"]: row["cleared"] for row in rows}

    async def claim(self, epoch: int, quiet: float, limit: int, *, backfill: bool) -> list[WriteResult]:
        """Claim up to `limit` due marks for this daemon, with the state to deliver."""
        records = await self.database.fetch(
            "select * from cutover.claim_marks($1, $2, $3, $4, $5)", epoch, self.owner, limit, quiet, backfill
        )
        return [_result(record) for record in records]

    async def backlog(self) -> Backlog:
        """Counts of what waits."""
        row = await self.database.fetchrow(_BACKLOG)
        assert row is not None  # noqa: S101 - a select without from gives one row
        return Backlog(
            json.loads(row["by_origin"]), row["oldest_live"], row["oldest_backfill"],
            row["quarantined"], row["unacknowledged"],
        )  # fmt: skip

    async def journal_rows(self) -> int:
        """How long the journal is."""
        return int(await self.database.fetchval("select count(*) from cutover.journal", timeout=60.0))

    async def prune_idempotency(self, days: int) -> None:
        """Forget keys older than `days`, some at a time."""
        await self.database.execute(
            "delete from cutover.idempotency where memory_id in (select memory_id from cutover.idempotency"
            " where created_at < now() - make_interval(days => $1) limit 5000)",
            days,
        )
        await self.database.execute("delete from cutover.native where expires_at < now() - interval '1 day'")

    async def marked_among(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which of `ids` carry a mark."""
        rows = await self.database.fetch("select memory_id from cutover.mark where memory_id = any($1)", list(ids))
        return {row["memory_id"] for row in rows}

    async def is_open(self, memory_id: UUID) -> bool:
        """Whether a journal write of this memory has not come to its end."""
        return bool(
            await self.database.fetchval(
                "select exists (select from cutover.journal where memory_id = $1 and state = 'intent')", memory_id
            )
        )

    async def fold_bypass_writes(self) -> dict[str, int]:
        """Foreign writes since the last call, by writer; without those that a foreign key of workspaces made."""
        rows = await self.database.fetch(
            "select writer, sum(writes)::bigint as writes from cutover.fold_bypass_writes(10000)"
            " where operation <> 'CASCADE' group by writer"
        )
        return {row["writer"]: row["writes"] for row in rows}

    # -- strays, keys ----------------------------------------

    async def strays_pending(self) -> bool:
        """Whether the plugin has not been searched yet for what legacy lost in A0."""
        return bool(await self.database.fetchval("select strays_pending from cutover.phase_state"))

    async def strays_done(self) -> None:
        """The plugin has been searched (or cannot be)."""
        await self.database.execute("update cutover.phase_state set strays_pending = false where strays_pending")

    async def key_exists(self, memory_id: UUID) -> bool:
        """Whether an idempotent create of this id is on record."""
        sql = "select exists (select from cutover.idempotency where memory_id = $1)"
        return bool(await self.database.fetchval(sql, memory_id))

    async def mark_strays(self, ids: Sequence[UUID], namespaces: Sequence[str]) -> int:
        """Mark those of `ids` that neither legacy nor the natives know; gives their number."""
        value = await self.database.fetchval(
            "select cutover.mark_strays($1::uuid[], $2::text[])", list(ids), list(namespaces), timeout=30.0
        )
        return int(value)

    # -- inside a caller's transaction ----------------------------------------

    @staticmethod
    async def set_phase(
        connection: Connection, epoch: int, to: Phase, actor: str, reason: str, certificate: str | None = None
    ) -> int:
        """Compare-and-set the phase with its event; gives the new epoch. `certificate`: the hash in hex of the one
        that is consumed; raises `CertificateVoid` where it is not good for this step."""
        value = await connection.fetchval(
            "select cutover.set_phase($1, $2, $3, $4, $5)",
            epoch,
            to.value,
            redact_note(actor),
            redact_note(reason),
            None if certificate is None else bytes.fromhex(certificate),
        )
        return int(value)

    async def _entered(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run one of the functions that begin with `cutover.enter`."""
        async with self._entering:
            return await self.database.fetch(sql, *args)

    async def _one(self, sql: str, *args: object) -> WriteResult:
        rows = await self._entered(sql, *args)
        return _result(rows[0])
