"""The daemon's own reads of `agent_memories`, counted while somebody wants to know who else reads it (decision 0024).

PostgreSQL counts the scans of a table, not who made them. So from A3 on, every statement of ours that names the table
is put between two calls that tell the database how much of it was our own; what the statistics have beyond that was
somebody else. The functions of schema `cutover` that read the table in A3 do the same inside, because they are on the
path of writes, where a round trip counts; elsewhere three more are well spent.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

_TABLE = "agent_memories"
_TIDY_SECONDS = 5.0

if TYPE_CHECKING:
    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection


class OwnWork:
    """Whether our reads are to be counted just now. One for each pool; off until somebody says otherwise."""

    def __init__(self) -> None:
        self.wanted: Callable[[], bool] = lambda: False


class CountingConnection(_Base):
    """A connection that tells of our own reads of the table.

    Not told of: cursors and prepared statements. Whoever reads with those, or calls a function that reads the table and
    does not tell itself, does it within `own_work()`.
    """

    own: OwnWork | None = None
    _within = False

    @contextlib.asynccontextmanager
    async def own_work(self) -> AsyncIterator[None]:
        """What is scanned in this block is our own. In a transaction of its own, unless there is one already; the
        block must not begin one."""
        if self._within or self.own is None or not self.own.wanted():
            yield
            return
        within_another = self.is_in_transaction()
        self._within = True
        try:
            await super().execute("savepoint cutover_own_work" if within_another else "begin")
            try:
                begun = int(await super().fetchval("select cutover.begin_own_work()"))
                try:
                    yield
                except BaseException:
                    # One message, so that the session does not go idle between the two: it would then tell the
                    # statistics what it scanned, and nobody could say any more how much that was.
                    undo = "rollback to savepoint cutover_own_work" if within_another else "rollback"
                    await self._tidy(f"{undo}; select cutover.end_own_work({begun})")
                    raise
            except BaseException:
                if not within_another and self.is_in_transaction():
                    await self._tidy("rollback")
                raise
            await super().execute(
                f"select cutover.end_own_work({begun});"
                f" {'release savepoint cutover_own_work' if within_another else 'commit'}"
            )
        finally:
            self._within = False

    async def _tidy(self, sql: str) -> None:
        """After a failure: a connection that cannot do even this is given up by the pool, and the watch sees that a
        statement never ended."""
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            async with asyncio.timeout(_TIDY_SECONDS):
                await super().execute(sql)

    def _plain(self, sql: str) -> bool:
        return self._within or _TABLE not in sql or self.own is None or not self.own.wanted()

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """As the driver's."""
        if self._plain(query):
            return await super().fetch(query, *args, **options)
        async with self.own_work():
            return await super().fetch(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """As the driver's."""
        if self._plain(query):
            return await super().fetchrow(query, *args, **options)
        async with self.own_work():
            return await super().fetchrow(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """As the driver's."""
        if self._plain(query):
            return await super().fetchval(query, *args, **options)
        async with self.own_work():
            return await super().fetchval(query, *args, **options)

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """As the driver's."""
        if self._plain(query):
            return await super().execute(query, *args, **options)
        async with self.own_work():
            return await super().execute(query, *args, **options)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], **options: Any) -> None:
        """As the driver's."""
        if self._plain(command):
            await super().executemany(command, args, **options)
            return
        async with self.own_work():
            await super().executemany(command, args, **options)

    async def copy_from_query(self, query: str, *args: Any, **options: Any) -> str:
        """As the driver's."""
        if self._plain(query):
            return await super().copy_from_query(query, *args, **options)
        async with self.own_work():
            return await super().copy_from_query(query, *args, **options)

    async def copy_from_table(self, table_name: str, **options: Any) -> str:
        """As the driver's."""
        if self._plain(table_name):
            return await super().copy_from_table(table_name, **options)
        async with self.own_work():
            return await super().copy_from_table(table_name, **options)
