"""The journal on its way into legacy: typed calls of migration 013."""

from dataclasses import dataclass
from uuid import UUID

from cutover.stores.database import Connection, Database, own_work
from cutover.stores.sql import query

_CHUNK_SECONDS = 60.0
_COUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """`seen`: memories with a word that legacy has not heard; `moved`: those whose word went into legacy."""

    seen: int
    moved: int
    last_id: UUID | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """Memories by what legacy was told of them."""

    upserted: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Natives:
    """Memories that v1 has no form for: how many, and the first of them as `id (kind in namespace)`."""

    total: int
    shown: tuple[str, ...]


class WayBackStore:
    """One tenant's. Raises the errors of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replay_ahead(self, epoch: int, after: UUID | None, limit: int) -> Chunk:
        """A chunk in A3, in its own transaction; raises `StaleEpoch` in any other phase."""
        async with self._database.connection() as connection, own_work(connection):
            row = await connection.fetchrow(
                "select * from cutover.replay_ahead($1, $2, $3)", epoch, after, limit, timeout=_CHUNK_SECONDS
            )
        assert row is not None  # noqa: S101 - the function gives one row
        return Chunk(row["seen"], row["moved"] or 0, row["last_id"])

    async def end_of_chunk(self, after: UUID | None, limit: int) -> UUID | None:
        """Where the chunk behind `after` ends; None when it is the last."""
        row = await self._database.fetchrow(
            "select count(*) as seen, max(x.memory_id::text)::uuid as last_id from ("
            " select distinct j.memory_id from cutover.journal j where j.state in ('intent', 'applied')"
            " and not j.in_legacy and j.memory_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')"
            " order by j.memory_id limit $2) x",
            after,
            limit,
            timeout=_CHUNK_SECONDS,
        )
        assert row is not None  # noqa: S101 - aggregates give one row
        return row["last_id"] if row["seen"] == limit else None

    @staticmethod
    async def waiting(connection: Connection, limit: int) -> int:
        """How many words, of `limit` at most, legacy has not heard."""
        return int(
            await connection.fetchval(
                "select count(*) from (select from cutover.journal j"
                " where j.state in ('intent', 'applied') and not j.in_legacy limit $1) x",
                limit,
            )
        )

    @staticmethod
    async def replay_rest(connection: Connection, *, timeout: float) -> int:
        """What is left, in the step's transaction; gives how many memories that were."""
        async with own_work(connection):
            return int(await connection.fetchval("select left_over from cutover.replay_journal()", timeout=timeout))

    async def replayed(self, epoch: int) -> Replayed:
        """What a stay in A3 that is over came to."""
        row = await self._database.fetchrow("select * from cutover.replayed($1)", epoch, timeout=_COUNT_SECONDS)
        assert row is not None  # noqa: S101 - aggregates give one row
        return Replayed(row["upserted"], row["deleted"])

    async def natives(self, limit: int) -> Natives:
        """What stays plugin-only."""
        rows = await self._database.fetch(query("way_back_natives"), limit, timeout=_COUNT_SECONDS)
        shown = tuple(f"{row['memory_id']} ({row['kind']} in {row['namespace']})" for row in rows)
        return Natives(rows[0]["total"] if rows else 0, shown)

    async def thaw(self, actor: str) -> bool:
        """Let everybody write agent_memories again; False when nothing thaws."""
        return bool(await self._database.fetchval("select cutover.thaw($1)", actor))

    async def silence(self, limit: int) -> int:
        """Put aside some of the journal's words that legacy has taken over; 0: none is left."""
        return int(await self._database.fetchval("select cutover.silence_chunk($1)", limit, timeout=_CHUNK_SECONDS))
