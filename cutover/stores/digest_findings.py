"""What digest sweeps write into `cutover.divergence`: suspicions, second looks, endings (architecture §4).

Each stretch of a sweep is put down in one transaction with its checkpoint, so a sweep that is killed has lost and
repeats nothing. Operators' side of the same table (listing, accepting, repairing) is `stores/findings.py`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cutover.domain.divergence import DivergenceClass, DivergenceState, Held
from cutover.stores.database import Connection, Database
from cutover.stores.digest import ExpectedRow, Situation
from cutover.stores.runs import ADD_CHECKPOINT, CheckpointKind, as_record
from cutover.stores.sql import query

Pair = tuple[UUID, DivergenceClass]
KEEP_RUNS = 60
"""Full sweeps whose buckets are kept: two months of daily ones."""
_PRUNED_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One memory that one look found to differ, with both sides as far as they may be shown."""

    memory_id: UUID
    classes: frozenset[DivergenceClass]
    expected: ExpectedRow | None
    held: Held | None
    writer: str | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """One open class of one memory. `snapshot` and `looked_at` are those of the look that a second one follows."""

    memory_id: UUID
    what: DivergenceClass
    state: DivergenceState
    looked_at: datetime
    snapshot: str


@dataclass(frozen=True, slots=True)
class BucketRows:
    """One bucket of one stretch: rows per side, and how many ids differed."""

    bucket: int
    expected: int
    held: int
    differing: int


def bucket_of(memory_id: UUID) -> int:
    """The bucket of an id: its first 12 bits."""
    return memory_id.int >> 116


class DigestFindings:
    """The record of one tenant's digest sweeps; with `table`, of another run that finds in the same way (verify)."""

    def __init__(self, database: Database, table: str = "cutover.divergence") -> None:
        self._database = database
        self._table = table

    def _query(self, name: str) -> str:
        return query(name).replace("cutover.divergence", self._table)

    async def forget_all(self) -> None:
        """Empty the table: what is found from now on is one run's."""
        await self._database.execute(f"truncate {self._table}")

    async def stretch(
        self,
        run: UUID,
        situation: Situation,
        suspicions: Sequence[Suspicion],
        buckets: Sequence[BucketRows],
        checkpoint: dict[str, Any],
    ) -> None:
        """Put down one stretch of a sweep: what it found, its buckets, and how far the sweep has come."""
        async with self._database.transaction() as connection:
            if suspicions:
                await self._suspect(connection, run, situation, suspicions)
            if buckets:
                await connection.execute(
                    query("findings_buckets"),
                    run,
                    situation.at,
                    [b.bucket for b in buckets],
                    [b.expected for b in buckets],
                    [b.held for b in buckets],
                    [b.differing for b in buckets],
                )
            await connection.execute(ADD_CHECKPOINT, run, CheckpointKind.PROGRESS.value, as_record(checkpoint))

    async def suspect(self, run: UUID, situation: Situation, suspicions: Sequence[Suspicion]) -> None:
        """Put down what one look found."""
        if suspicions:
            async with self._database.transaction() as connection:
                await self._suspect(connection, run, situation, suspicions)

    async def open(self, past: UUID | None, limit: int) -> list[OpenFinding]:
        """Open findings of the next `limit` memories past an id, in id order."""
        rows = await self._database.fetch(self._query("findings_open"), past, limit, timeout=30.0)
        return [
            OpenFinding(
                row["memory_id"], DivergenceClass(row["class"]), DivergenceState(row["state"]), row["looked_at"],
                row["snapshot"],
            )
            for row in rows
        ]  # fmt: skip

    async def settle(
        self,
        run: UUID,
        situation: Situation,
        *,
        confirmed: Iterable[Pair] = (),
        renewed: Iterable[Pair] = (),
        gone: Iterable[Pair] = (),
        closed_by: str | None = None,
    ) -> None:
        """What a second look came to, in one transaction. `closed_by`: None says by itself, or by a repair."""
        async with self._database.transaction() as connection:
            if pairs := list(confirmed):
                await connection.execute(self._query("findings_confirm"), *_columns(pairs), run)
            if pairs := list(renewed):
                await connection.execute(
                    self._query("findings_renew"), *_columns(pairs), situation.at, situation.snapshot, run
                )
            if pairs := list(gone):
                await connection.execute(self._query("findings_close"), *_columns(pairs), closed_by)

    async def count_open(self) -> dict[str, dict[str, int]]:
        """Open findings: by state, memories by class."""
        rows = await self._database.fetch(
            f"select state, class, count(*) as rows from {self._table} where closed_at is null group by 1, 2"
        )
        found: dict[str, dict[str, int]] = {state.value: {} for state in DivergenceState}
        for row in rows:
            found[row["state"]][row["class"]] = row["rows"]
        return found

    async def last_trusted(self) -> dict[str, Any] | None:
        """The outcome of the last sweep that came to a trusted result, full or not."""
        found = await self._database.fetchval(
            "select r.outcome from cutover.task_run r where r.kind = 'sweep.digest' and r.state = 'finished'"
            " and (r.outcome ->> 'trusted')::boolean order by r.started_at desc limit 1"
        )
        return json.loads(found) if found is not None else None

    async def last_full(self) -> tuple[dict[str, Any], float, str] | None:
        """The last full sweep that came to a result: its outcome, its age in seconds, and what a later sweep says
        against it (empty: nothing)."""
        row = await self._database.fetchrow(query("digest_last_full"))
        return (json.loads(row["outcome"]), row["age"], row["newer_bad"] or "") if row is not None else None

    async def prune(self, snapshot: str, keep_days: int = 3) -> None:
        """Forget buckets of old sweeps, and deliveries that were swept (seen whole by `snapshot`) and are old. Bit by
        bit, so that no statement takes long."""
        await self._database.execute(
            "delete from cutover.sweep_bucket b where b.run_id not in (select r.id from cutover.task_run r"
            " where r.kind in ('sweep.digest', 'verify')"
            " and exists (select from cutover.sweep_bucket x where x.run_id = r.id)"
            " order by r.started_at desc limit $1)",
            KEEP_RUNS,
            timeout=60.0,
        )
        while True:
            done = await self._database.execute(
                query("delivery_log_prune"), snapshot, keep_days, _PRUNED_AT_ONCE, timeout=60.0
            )
            if done != f"DELETE {_PRUNED_AT_ONCE}":
                return

    async def _suspect(
        self, connection: Connection, run: UUID, situation: Situation, suspicions: Sequence[Suspicion]
    ) -> None:
        found = [(each, what) for each in suspicions for what in sorted(each.classes)]
        await connection.execute(
            self._query("findings_suspect"),
            [each.memory_id for each, _ in found],
            [what.value for _, what in found],
            [_source(each) for each, _ in found],
            [_namespace(each) for each, _ in found],
            [each.expected.workspace_id if each.expected else None for each, _ in found],
            [each.writer for each, _ in found],
            [each.delivered_at for each, _ in found],
            [each.expected.state.content_hash if each.expected else None for each, _ in found],
            [each.held.content_hash if each.held else None for each, _ in found],
            [each.expected.state.content_length if each.expected else None for each, _ in found],
            [each.held.content_length if each.held else None for each, _ in found],
            [bucket_of(each.memory_id) for each, _ in found],
            str(situation.generation),
            run,
            situation.at,
            situation.snapshot,
        )


def _source(each: Suspicion) -> str:
    """What kind of thing it is; what nobody expects says so itself."""
    if each.expected is not None:
        return each.expected.source
    return each.held.source if each.held is not None else "memory"


def _namespace(each: Suspicion) -> str | None:
    """Where the plugin holds it, because that is where a repair has to look; else where it belongs."""
    if each.held is not None:
        return each.held.namespace
    return each.expected.state.namespace if each.expected is not None else None


def _columns(pairs: Sequence[Pair]) -> tuple[list[UUID], list[str]]:
    return [memory_id for memory_id, _ in pairs], [what.value for _, what in pairs]
