"""The drop of `agent_memories` as the tenant's database knows it (migration 014, decision 0022)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cutover.domain.errors import OperatorError
from cutover.stores.database import Connection, Database, own_work

_CHUNK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class DropState:
    """Where the drop stands. `state`: none, aside (held), cancelled, dropped. `remaining`: seconds of the hold that are
    left, by the database's clock; None unless it is held."""

    state: str
    relation: str = ""
    hold_until: datetime | None = None
    remaining: float | None = None
    actor: str = ""
    at: datetime | None = None
    blocked: str = ""

    @property
    def told(self) -> str:
        """As it is shown: none, held, blocked (held beyond its time), cancelled, dropped."""
        if self.state == "aside":
            return "blocked" if self.blocked and not self.remaining else "held"
        return self.state

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "state": self.told,
            "relation": self.relation or None,
            "hold_until": self.hold_until.isoformat() if self.hold_until is not None else None,
            "remaining_seconds": round(self.remaining, 1) if self.remaining is not None else None,
            "since": self.at.isoformat() if self.at is not None else None,
            "actor": self.actor or None,
            "blocked": self.blocked or None,
        }


@dataclass(frozen=True, slots=True)
class Dependant:
    """An object that keeps the table from being dropped, or would break without it."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class DropStore:
    """Reads and takes the steps of one tenant's drop."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def state(self, *, timeout: float = 3.0) -> DropState:
        """Where it stands."""
        row = await self.database.fetchrow("select * from cutover.drop_state", timeout=timeout)
        if row is None:
            return DropState("none")
        return DropState(
            row["state"], row["relation"], row["hold_until"], row["remaining"], row["actor"], row["at"],
            row["blocked"] or "",
        )  # fmt: skip

    async def look(self) -> DropState:
        """The same, and the hold is that much longer: what lies between two looks counts, up to a minute."""
        await self.database.execute("select cutover.look_at_hold()")
        return await self.state()

    async def history(self) -> list[dict[str, Any]]:
        """Every recorded step, oldest first."""
        rows = await self.database.fetch(
            "select at, event, relation, actor, detail from cutover.drop_event order by seq"
        )
        return [{**dict(row), "at": row["at"].isoformat()} for row in rows]

    async def dependants(self, *, timeout: float = 10.0) -> tuple[Dependant, ...]:
        """What stands in the way, by kind and name."""
        rows = await self.database.fetch("select kind, name from cutover.legacy_dependants()", timeout=timeout)
        return tuple(Dependant(row["kind"], row["name"]) for row in rows)

    async def adopt_chunk(self, epoch: int, after: UUID | None, limit: int) -> tuple[int, int, UUID | None]:
        """Take over the next rows: how many were looked at, how many are new, and the last one's id."""
        async with self.database.connection() as connection, own_work(connection):
            row = await connection.fetchrow(
                "select * from cutover.adopt_chunk($1, $2, $3)", epoch, after, limit, timeout=_CHUNK_SECONDS
            )
        assert row is not None  # noqa: S101 - the function gives one row
        return row["scanned"], row["adopted"], row["last_id"]

    async def disown_chunk(self, epoch: int, limit: int) -> int:
        """Give up some of what was taken over, in A3; 0 when nothing is left. Raises `StaleEpoch`."""
        return int(await self.database.fetchval("select cutover.disown($1, $2)", epoch, limit, timeout=_CHUNK_SECONDS))

    async def unplaced(self) -> int:
        """Legacy rows that no namespace can be derived for: they are not taken over."""
        return int(
            await self.database.fetchval(
                "select count(*) from public.agent_memories a left join public.workspaces w on w.id = a.workspace_id"
                " where w.id is null",
                timeout=_CHUNK_SECONDS,
            )
        )

    async def note(self, event: str, actor: str, detail: str = "") -> None:
        """Append one step that changes nothing by itself: dropping, blocked, retiring."""
        await self.database.execute(
            "insert into cutover.drop_event (event, relation, actor, detail)"
            " values ($1, coalesce((select d.relation from cutover.drop_state d), ''), $2, $3)",
            event,
            actor,
            detail[:4000],
        )

    async def drop(self, actor: str, lock_timeout_ms: int) -> bool:
        """Drop the table, if it is held and the hold is over; in one transaction with its record. Raises `LockTimeout`
        and `DatabaseFault`."""
        async with self.database.transaction() as connection:
            await _impatient(connection, lock_timeout_ms)
            return bool(await connection.fetchval("select cutover.drop_legacy($1)", actor, timeout=60.0))

    async def take_back(self, actor: str, detail: str, lock_timeout_ms: int) -> bool:
        """Call the hold off. Raises `OperatorError` where somebody else has the name."""
        async with self.database.transaction() as connection:
            await _impatient(connection, lock_timeout_ms)
            if await connection.fetchval(
                "select to_regclass('public.\"agent_memories\"') is not null"
                " and exists (select from cutover.drop_state d where d.state = 'aside')"
            ):
                raise OperatorError(
                    "another public.agent_memories was made during the hold: the held table cannot have its name back",
                    next_step="find out who made it (an application that creates its tables when it starts?) and what"
                    " is in it, rename or drop it, then cutover drop cancel",
                )
            return bool(await connection.fetchval("select cutover.take_legacy_back($1, $2)", actor, detail))

    async def set_aside_again(self, seconds: float, actor: str, detail: str, lock_timeout_ms: int) -> str:
        """Begin the hold anew after it was called off; gives the table's name."""
        async with self.database.transaction() as connection:
            await _impatient(connection, lock_timeout_ms)
            return await set_aside(connection, seconds, actor, detail)


async def set_aside(connection: Connection, seconds: float, actor: str, detail: str) -> str:
    """Rename the table for `seconds` of hold, in the caller's transaction; gives its name."""
    async with own_work(connection):
        name: str = await connection.fetchval("select cutover.set_legacy_aside($1, $2, $3)", seconds, actor, detail)
    return name


async def _impatient(connection: Connection, milliseconds: int) -> None:
    await connection.execute(f"set local lock_timeout = {int(milliseconds)}")
