"""One tenant's PostgreSQL: a pool of connections, and the edge where driver errors become ours.

No asyncpg exception passes this module: `translate` is complete over the driver's tree (tested), so callers handle
four cases only: unavailable (outcome unknown), fault (definite), stale epoch, lock time-out.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from cutover.domain.errors import (
    CertificateVoid,
    CutoverError,
    DatabaseFault,
    DatabaseUnavailable,
    IllegalStep,
    LockTimeout,
    StaleEpoch,
    StatementTimeout,
)
from cutover.stores.own_work import CountingConnection, OwnWork

SQLSTATE_STALE_EPOCH = "CU001"
"""Raised by the functions of schema `cutover` when the caller's epoch is not the current one."""
SQLSTATE_NOT_NOW = "CU004"
"""Raised by them when a freeze does not fit what the tenant is in; the words are ours and may be shown."""
SQLSTATE_VOID = "CU005"
"""Raised by migration 011: the certificate is not good for this, or not by this person."""

_END_SECONDS = 1.0
"""For a commit or a rollback that somebody waits for."""
_NO_RIGHT = "42501"
_LOCK_STATES = frozenset({"55P03", "40P01", "40001"})
# 57P0x: shut-down, crash, cannot connect now; 08xxx: connection; 53xxx: resources; 25006: read-only (a failover);
# 25P03: our session sat idle in a transaction for too long and was ended.
_UNAVAILABLE_CLASSES = ("08", "53")
_UNAVAILABLE_STATES = frozenset({"57P01", "57P02", "57P03", "25006", "25P03", "57014"})

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"


def _give_up(connection: Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the driver has done it already
        connection.terminate()


async def _undo(connection: Connection, transaction: asyncpg.transaction.Transaction) -> None:
    try:
        async with asyncio.timeout(_END_SECONDS):
            await transaction.rollback()
    except DRIVER_ERRORS:
        _give_up(connection)
    except BaseException:
        _give_up(connection)
        raise


def own_work(connection: Connection) -> contextlib.AbstractAsyncContextManager[None]:
    """Around a function of schema `cutover` that reads the table and does not tell itself (`CountingConnection`)."""
    made: contextlib.AbstractAsyncContextManager[None] = connection.own_work()  # type: ignore[union-attr]
    return made


def translate(error: Exception) -> CutoverError:
    """Our error for anything the driver (or the socket under it) raises."""
    if isinstance(error, CutoverError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state == SQLSTATE_STALE_EPOCH:
            return StaleEpoch("the tenant's phase changed while this request was on its way")
        if state == SQLSTATE_NOT_NOW:
            return IllegalStep(str(getattr(error, "message", "")), next_step="cutover phase show")
        if state == SQLSTATE_VOID:
            return CertificateVoid(
                f"the database refuses it: {getattr(error, 'message', '')}", next_step="cutover phase certificates"
            )
        if state in _LOCK_STATES:
            return LockTimeout(f"the database could not give a lock in time ({state})", next_step="try again")
        if isinstance(error, asyncpg.QueryCanceledError):
            return StatementTimeout(
                "PostgreSQL cut a statement off (57014)", next_step="try again; is the server busy?"
            )
        if state in _UNAVAILABLE_STATES or state.startswith(_UNAVAILABLE_CLASSES):
            return DatabaseUnavailable(
                f"PostgreSQL is not available ({state})", next_step="check the server, then `cutover doctor`"
            )
        return _fault(error, state)
    if isinstance(error, OverflowError):
        return DatabaseFault("a value could not be read from PostgreSQL", sqlstate="22008")
    if isinstance(error, asyncpg.InterfaceError) and "input" in str(error):
        return DatabaseFault("a value could not be sent to PostgreSQL", sqlstate="22000")
    return DatabaseUnavailable(
        f"PostgreSQL could not be reached or went away ({type(error).__name__})",
        next_step="check DATABASE_URL and the server, then `cutover doctor`",
    )


def _fault(error: asyncpg.PostgresError, state: str) -> DatabaseFault:
    """What waiting does not mend: who we are, what we may, what we asked."""
    if state.startswith("28") or state == "3D000":
        return DatabaseFault(
            f"PostgreSQL does not let us in ({state}): the role, the password or the database's name is wrong",
            sqlstate=state,
            next_step="mend DATABASE_URL (or MEMORY_PLUGIN_DATABASE_URL), then `cutover doctor`",
        )
    if state == _NO_RIGHT:
        return DatabaseFault(
            f"the role in DATABASE_URL lacks a right ({state}{_lacking(error)})",
            sqlstate=state,
            next_step="cutover doctor: it names what to grant",
        )
    return DatabaseFault(f"PostgreSQL refused a statement ({state}{_where(error)})", sqlstate=state)


def _where(error: asyncpg.PostgresError) -> str:
    """Which of our functions, table or constraint it was: names only, because the server's own words quote values."""
    found = re.search(r"PL/pgSQL function (cutover\.\w+)", str(getattr(error, "context", "") or ""))
    names = [found[1] if found else None, *(getattr(error, name, None) for name in ("table_name", "constraint_name"))]
    return "".join(f", {name}" for name in names if name)


def _lacking(error: asyncpg.PostgresError) -> str:
    """Which right, in the server's words where they are of the form that holds nothing but an object's name."""
    said = str(getattr(error, "message", "") or "")
    if re.fullmatch(r"(permission denied for|must be owner of|must be able to SET ROLE) [a-z ]+ [\w\".]+", said):
        return f": {said}"
    return _where(error)


DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    OverflowError,  # a value in a row that Python has no room for, such as a year of five digits
)


async def _reset_if_needed(connection: Connection) -> None:
    """Give a connection back clean. The driver's own reset is a round trip after every statement, on the hot path; and
    nothing of ours outlives its transaction (settings are local, advisory locks are the transaction's)."""
    if connection.is_in_transaction():
        await connection.reset()


class LegacyName:
    """What our statements mean by `public.agent_memories`: the table, or in A4 the empty one that stands where it was
    (migration 014). The one switch of everything that is said from Python; what the database's own functions name is
    switched in the transaction that enters A4."""

    TABLE = "public.agent_memories"
    STAND_IN = "cutover.legacy_stand_in"

    def __init__(self) -> None:
        self.gone = False
        """Set with the phase row (`Ledger.phase`)."""

    def resolve(self, sql: str) -> str:
        """The statement as it has to be sent now."""
        return sql.replace(self.TABLE, self.STAND_IN) if self.gone and self.TABLE in sql else sql


def _connections(legacy: LegacyName, own_work: OwnWork) -> type[CountingConnection]:
    """Connections that send every statement as `legacy` has it, and tell which of them read the table."""

    class NamingConnection(CountingConnection):
        own = own_work

        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().execute(legacy.resolve(query), *args, **options)

        async def executemany(self, command: str, args: Any, **options: Any) -> Any:
            return await super().executemany(legacy.resolve(command), args, **options)

        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetch(legacy.resolve(query), *args, **options)

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetchrow(legacy.resolve(query), *args, **options)

        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            return await super().fetchval(legacy.resolve(query), *args, **options)

        def cursor(self, query: str, *args: Any, **options: Any) -> Any:
            return super().cursor(legacy.resolve(query), *args, **options)

        async def prepare(self, query: str, **options: Any) -> Any:
            return await super().prepare(legacy.resolve(query), **options)

    return NamingConnection


class Database:
    """A pool on one database. Every method takes its own time-out in seconds and raises only our errors."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", application_name: str, legacy: LegacyName, own_work: OwnWork
    ) -> None:
        self._pool = pool
        self.application_name = application_name
        self.legacy = legacy
        self.own_work = own_work

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        application_name: str = "cutover",
        min_size: int = 1,
        max_size: int = 10,
        timeout: float = 10.0,
        settings: dict[str, str] | None = None,
    ) -> Self:
        """Open a pool; raises `DatabaseUnavailable` when the server cannot be reached within `timeout` seconds."""
        legacy, own_work = LegacyName(), OwnWork()
        try:
            pool = await asyncpg.create_pool(
                url,
                connection_class=_connections(legacy, own_work),
                min_size=min_size,
                max_size=max_size,
                timeout=timeout,
                command_timeout=60.0,
                max_inactive_connection_lifetime=300.0,
                reset=_reset_if_needed,
                server_settings={"application_name": application_name, "timezone": "UTC", **(settings or {})},
            )
        except (*DRIVER_ERRORS, ValueError) as error:
            raise translate(error) from None
        assert pool is not None  # noqa: S101 - create_pool is typed as optional for the un-awaited form only
        return cls(pool, application_name, legacy, own_work)

    @property
    def size(self) -> int:
        """How many connections there may be at once."""
        return int(self._pool.get_max_size())

    async def close(self, timeout: float = 5.0) -> None:
        """Close in good order, and after `timeout` seconds by force."""
        try:
            async with asyncio.timeout(timeout):
                await self._pool.close()
        except (*DRIVER_ERRORS,):
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self, *, timeout: float = 5.0) -> AsyncIterator[Connection]:
        """A connection of the pool for several statements; errors inside are translated as well."""
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                yield connection
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    @asynccontextmanager
    async def transaction(self, *, timeout: float = 5.0, isolation: str | None = None) -> AsyncIterator[Connection]:
        """A transaction on one connection; rolled back when the body raises."""
        async with self.connection(timeout=timeout) as connection:
            async with connection.transaction(isolation=isolation):  # type: ignore[arg-type]
                yield connection

    @asynccontextmanager
    async def transaction_within(self, connection: Connection, seconds: float) -> AsyncIterator[Connection]:
        """A transaction that nobody waits for longer than `seconds` and the few that its end may take, however silent
        the server is: a connection that does not answer in time is given up, and its end undoes what it did. Raises
        `StatementTimeout` when the body took too long, `DatabaseUnavailable` when the commit did (was it made?)."""
        transaction = connection.transaction()
        try:
            try:
                async with asyncio.timeout(seconds):
                    await transaction.start()
                    # What goes on in the server when nobody listens any more ends as well.
                    await connection.execute(f"set local statement_timeout = {round(seconds * 1000)}")
                    yield connection
            except BaseException as error:
                await _undo(connection, transaction)
                if isinstance(error, TimeoutError):
                    raise StatementTimeout(f"it took longer than {seconds:g} s") from None
                raise
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await transaction.commit()
            except BaseException:
                _give_up(connection)
                raise
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def fetch(self, sql: str, *args: object, timeout: float = 10.0) -> list[asyncpg.Record]:
        """All rows of one statement."""
        try:
            # Not pool.fetch: its time-out does not cover the wait for a connection, nor giving a dead one back.
            async with self._pool.acquire(timeout=timeout) as connection:
                return await connection.fetch(sql, *args, timeout=timeout)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def fetchrow(self, sql: str, *args: object, timeout: float = 10.0) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                return await connection.fetchrow(sql, *args, timeout=timeout)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def fetchval(self, sql: str, *args: object, timeout: float = 10.0) -> Any:
        """The first column of the first row, or None."""
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                return await connection.fetchval(sql, *args, timeout=timeout)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def execute(self, sql: str, *args: object, timeout: float = 10.0) -> str:
        """Run one statement (or several without arguments); gives back the last command tag."""
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                return await connection.execute(sql, *args, timeout=timeout)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]], timeout: float = 30.0) -> None:
        """One statement for many rows, in one transaction."""
        try:
            async with self._pool.acquire(timeout=timeout) as connection:
                await connection.executemany(sql, rows, timeout=timeout)
        except DRIVER_ERRORS as error:
            raise translate(error) from None
