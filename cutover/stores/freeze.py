"""The freeze of `agent_memories` in the tenant's database (migration 012, decision 0020)."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cutover.stores import migrate
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

_LOCK_TIMEOUT_MS = 400
_REMOVAL_MS = 100
"""Who waits for an exclusive lock makes all others wait behind him; and nobody minds the triggers that are left."""
_VACUUM_TIMEOUT = "2s"
"""Longer than `deadlock_timeout` (1 s), after which PostgreSQL ends an autovacuum that is in somebody's way."""
_FUNCTION = re.compile(r"^create (function cutover\.refuse_frozen\(\).*?^end \$\$;)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class FreezeState:
    """As it is in the database now. `over`: nobody is refused any more, the triggers only wait to be removed."""

    number: int
    mode: str
    since: datetime
    until: datetime | None
    actor: str
    reason: str
    over: bool

    @property
    def screaming(self) -> bool:
        """Whether a scream test is under way."""
        return self.mode == "scream" and not self.over


class FreezeStore:
    """Raises the errors of `Database`; `IllegalStep` where the database says that a freeze does not fit now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def state(self) -> FreezeState | None:
        """The freeze there is, or None."""
        row = await self._database.fetchrow(
            "select f.*, f.mode = 'open' or coalesce(f.until <= clock_timestamp(), false) as over from cutover.freeze f"
        )
        if row is None:
            return None
        return FreezeState(
            row["number"], row["mode"], row["since"], row["until"], row["actor"], row["reason"], row["over"]
        )

    async def faults(self) -> list[str]:
        """What is wrong with the freeze that the phase asks for; empty when it is intact or none is asked for."""
        rows = await self._database.fetch("select * from cutover.freeze_faults() as t (fault)", timeout=5.0)
        return [row["fault"] for row in rows]

    async def attempts(self) -> int:
        """Statements refused since the present freeze began."""
        return int(
            await self._database.fetchval(
                "select coalesce(sum(r.attempts), 0)::bigint from cutover.freeze_refusal r"
                " where r.number = (select max(l.number) from cutover.freeze_log l)"
            )
        )

    async def fold(self) -> dict[str, int]:
        """Read the counters; what is new since somebody (any daemon) read them last, by writer."""
        rows = await self._database.fetch("select * from cutover.fold_refused()")
        return {row["writer"]: row["attempts"] for row in rows}

    async def look_at_capture(self) -> list[str]:
        """The capture triggers that are missing, disabled or not ours; when it is any, the time is noted."""
        return list(await self._database.fetchval("select cutover.look_at_capture()"))

    async def purge_once_more(self) -> int:
        """Look again for memories of workspaces that were deleted with an old snapshot; how many workspaces."""
        return int(await self._database.fetchval("select cutover.purge_once_more()"))

    async def refusals(self, number: int | None) -> list[dict[str, Any]]:
        """Who was refused by one freeze (None: the last), most attempts first."""
        rows = await self._database.fetch(query("freeze_refusals"), number)
        return [dict(row) for row in rows]

    async def log(self, number: int | None) -> dict[str, Any] | None:
        """One freeze (None: the last) as it is recorded."""
        row = await self._database.fetchrow(
            "select l.*, l.ended_at is not null or coalesce(l.until <= clock_timestamp(), false) as over"
            " from cutover.freeze_log l where $1::bigint is null or l.number = $1 order by l.number desc limit 1",
            number,
        )
        return dict(row) if row is not None else None

    async def freeze(self, mode: str, actor: str, reason: str, *, seconds: float | None = None) -> int:
        """Freeze in a transaction of its own; gives the number. For a scream test the phase is held still meanwhile."""
        async with self._database.transaction() as connection:
            await connection.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}")
            await connection.execute("select pg_advisory_xact_lock_shared(cutover.phase_lock_key())")
            return await self.freeze_in(connection, mode, actor, reason, seconds=seconds)

    @staticmethod
    async def freeze_in(
        connection: Connection, mode: str, actor: str, reason: str, *, seconds: float | None = None
    ) -> int:
        """Freeze in the caller's transaction. Waits for the writers under way, as long as its `lock_timeout` allows."""
        value = await connection.fetchval("select cutover.freeze_now($1, $2, $3, $4)", mode, seconds, actor, reason)
        return int(value)

    @staticmethod
    async def ease_in(connection: Connection, mode: str, actor: str) -> None:
        """`thawing`: our own path passes. `open`: everybody passes, and the triggers are removed when they can be."""
        await connection.execute("select cutover.ease_freeze($1, $2)", mode, actor)

    async def end_scream(self, actor: str) -> None:
        """End a scream test before its time."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "update cutover.freeze_log l set ended_at = clock_timestamp(), ended_by = $1 from cutover.freeze f"
                " where l.number = f.number and f.mode = 'scream' and l.ended_at is null",
                actor,
            )
            await connection.execute("update cutover.freeze set until = clock_timestamp() where mode = 'scream'")

    async def remove(self) -> bool:
        """Take the triggers off a table that is not frozen any more. Raises `LockTimeout`: later, then."""
        async with self._database.transaction() as connection:
            await connection.execute(f"set local lock_timeout = {_REMOVAL_MS}")
            return bool(await connection.fetchval("select cutover.remove_freeze()"))

    async def restore_function(self) -> None:
        """Bring the trigger function back as this version ships it."""
        for migration in migrate.available():
            if found := _FUNCTION.search(migration.up):
                await self._database.execute(f"create or replace {found[1]}")
                return
        raise AssertionError("migration 012 holds the function")

    async def send_vacuum_away(self) -> None:
        """An autovacuum of the table would hold the freeze up for longer than writes can be held. One that somebody
        waits for gives way after a second, so wait for it here, with a lock that no reader or writer minds."""
        if not await self._database.fetchval(query("freeze_vacuum")):
            return
        async with self._database.transaction() as connection:
            await connection.execute(f"set local lock_timeout = '{_VACUUM_TIMEOUT}'")
            await connection.execute("lock table public.agent_memories in share update exclusive mode")

    async def in_the_way(self) -> list[str]:
        """Who holds locks on the table that a freeze has to wait for, longest first: name, role, state, age."""
        return [row["who"] for row in await self._database.fetch(query("freeze_in_the_way"))]
