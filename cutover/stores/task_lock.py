"""One daemon at a time for work that must not be done twice at once, such as a digest sweep of a tenant.

A lock of the session, not of a transaction: the work takes minutes, and a transaction that long would hold back vacuum
in the tenant's database. It ends with the session, so a daemon that dies leaves nothing locked.
"""

import contextlib
from collections.abc import AsyncIterator

from cutover.domain.errors import CutoverError
from cutover.stores.database import Database

DIGEST_SWEEP = 7304916220481577225


@contextlib.asynccontextmanager
async def task_lock(database: Database, key: int) -> AsyncIterator[bool]:
    """Whether we are the one; the lock is held for the length of the block."""
    async with database.connection() as connection:
        ours = bool(await connection.fetchval("select pg_try_advisory_lock($1)", key))
        try:
            yield ours
        finally:
            if ours:
                with contextlib.suppress(CutoverError, OSError):  # the session is gone, and the lock with it
                    await connection.execute("select pg_advisory_unlock($1)", key)
