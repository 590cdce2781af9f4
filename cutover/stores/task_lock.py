"""One daemon at a time for work that must not be done twice at once, such as a digest sweep of a tenant.

A lock of the session, not of a transaction: the work takes minutes, and a transaction that long would hold back vacuum
in the tenant's database. It ends with the session, so a daemon that dies leaves nothing locked. A session can end under
the work, too (a pooler, an idle time-out), therefore long work asks now and then whether it still has the lock.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cutover.domain.errors import OperatorError
from cutover.stores.database import DRIVER_ERRORS, Connection, Database

DIGEST_SWEEP = 7304916220481577225
ARCHIVE = 7304916220481577241
COUNT_SWEEP = 7304916220481577251
RECALL_SWEEP = 7304916220481577252
_TURN_SECONDS = 0.2
REHEARSAL = 7304916220481577303
_HOLDER = """
select left(coalesce(nullif(a.application_name, ''), 'unnamed'), 64) || ' (pid ' || l.pid
       || coalesce(', from ' || host(a.client_addr), '') || ')'
from pg_locks l left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
  and l.database = (select d.oid from pg_database d where d.datname = current_database())
  and (l.classid::bigint << 32) | l.objid::bigint = $1
limit 1
"""
"""Who has the lock: the session as PostgreSQL knows it."""
_HELD = """
select exists (select from pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted
               and l.objsubid = 1 and (l.classid::bigint << 32) | l.objid::bigint = $1)
"""


@dataclass(frozen=True, slots=True)
class TaskLock:
    """`ours`: whether we got it."""

    ours: bool
    key: int
    connection: Connection

    async def check(self) -> None:
        """Raises `OperatorError` when the lock is lost."""
        try:
            held = bool(await self.connection.fetchval(_HELD, self.key, timeout=10.0))
        except DRIVER_ERRORS:
            held = False
        if not held:
            raise OperatorError("the lock on this work was lost with its connection", next_step="it is tried again")


@contextlib.asynccontextmanager
async def task_lock(database: Database, key: int) -> AsyncIterator[TaskLock]:
    """Try to be the one; the lock is held for the length of the block."""
    async with database.connection() as connection:
        ours = bool(await connection.fetchval("select pg_try_advisory_lock($1)", key))
        try:
            yield TaskLock(ours, key, connection)
        finally:
            if ours:
                with contextlib.suppress(*DRIVER_ERRORS):  # the session is gone, and the lock with it
                    await connection.execute("select pg_advisory_unlock($1)", key)


@contextlib.asynccontextmanager
async def task_turn(database: Database, key: int, *, patience: float) -> AsyncIterator[TaskLock]:
    """Wait for the lock, without keeping a connection meanwhile; raises `OperatorError` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        async with task_lock(database, key) as lock:
            if lock.ours:
                yield lock
                return
        if time.monotonic() >= deadline:
            holder = await database.fetchval(_HOLDER, key) or "nobody any more"
            raise OperatorError(
                f"another daemon of this tenant is at the same work: the lock is held by {holder}",
                next_step="try again; if that daemon hangs or is stopped, end it: its lock goes with its session",
            )
        await asyncio.sleep(_TURN_SECONDS)
