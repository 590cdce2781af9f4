"""Other people's transactions: what a session that nobody here controls has locked, and who waits for it."""

import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg

from cutover.embedded.processes import until
from cutover.stores.database import Database

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@contextlib.asynccontextmanager
async def foreign_transaction(database_url: str) -> AsyncIterator[Connection]:
    """An open transaction of a stranger. Ended (rolled back) with the block; the test may end it earlier itself."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


async def waiting(database: Database, statement: str) -> int:
    """How many sessions wait for a lock with a statement that contains `statement`."""
    return int(
        await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND pid <> pg_backend_pid() AND position($1 IN query) > 0",
            statement,
        )
    )


async def until_waiting(database: Database, statement: str) -> None:
    """Wait for such a session."""

    async def condition() -> bool:
        return await waiting(database, statement) > 0

    await until(condition, f"somebody who waits with {statement!r}", timeout=5, every=0.005)
