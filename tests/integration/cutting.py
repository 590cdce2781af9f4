"""A database whose next transaction can be watched and cut statement by statement, BEGIN and COMMIT among them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cutover.domain.errors import DatabaseUnavailable
from cutover.stores.database import Connection, Database, own_work
from tests.integration.protocol_scene import Scene

Act = Callable[[Connection], Awaitable[None]]


@dataclass
class Cutting(Database):
    """Runs `act` right before (or after) statement number `at`. `seen`: the statements, in order."""

    inner: Database
    at: int = -1
    after: bool = False
    act: Act | None = None
    seen: list[str] = field(default_factory=list)
    torn: bool = False
    """Whether the connection is found dead when it is given back, after the last statement."""

    def __getattribute__(self, name: str) -> Any:
        if name in (
            "transaction_within",
            "connection",
            "torn",
            "inner",
            "at",
            "after",
            "act",
            "seen",
            "step",
            "__class__",
            "__dict__",
        ):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "inner"), name)

    async def step(self, connection: Connection, what: str, run: Callable[[], Awaitable[Any]]) -> Any:
        """One statement."""
        self.seen.append(what)
        mine = self.act is not None and len(self.seen) - 1 == self.at
        if mine and not self.after:
            assert self.act is not None
            await self.act(connection)
        answer = await run()
        if mine and self.after:
            assert self.act is not None
            await self.act(connection)
        return answer

    @asynccontextmanager
    async def connection(self, *, timeout: float = 5.0) -> AsyncIterator[Connection]:
        """As the real one."""
        async with self.inner.connection(timeout=timeout) as connection:
            yield connection
        if self.torn:
            raise DatabaseUnavailable("the connection was gone when it was given back", next_step="look again")

    @asynccontextmanager
    async def transaction_within(self, connection: Connection, seconds: float) -> AsyncIterator[Connection]:
        """As the real one."""
        watched: Any = _Watched(self, connection)
        async with Database.transaction_within(self, watched, seconds) as begun:
            yield begun


class _Watched:
    def __init__(self, cutting: Cutting, connection: Connection) -> None:
        self._cutting = cutting
        self._connection = connection

    def transaction(self) -> Any:
        return _WatchedTransaction(self._cutting, self._connection)

    def terminate(self) -> None:
        self._connection.terminate()

    def own_work(self) -> Any:
        return own_work(self._connection)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        async def run(sql: str, *args: Any, **options: Any) -> Any:
            return await self._cutting.step(self._connection, sql, lambda: method(sql, *args, **options))

        return run


class _WatchedTransaction:
    def __init__(self, cutting: Cutting, connection: Connection) -> None:
        self._cutting = cutting
        self._connection = connection
        self._transaction = connection.transaction()

    async def start(self) -> None:
        await self._cutting.step(self._connection, "BEGIN", self._transaction.start)

    async def commit(self) -> None:
        await self._cutting.step(self._connection, "COMMIT", self._transaction.commit)

    async def rollback(self) -> None:
        await self._transaction.rollback()


def cut(s: Scene, at: int = -1, *, after: bool = False, act: Act | None = None) -> Cutting:
    """From now on the newest daemon's changes of phase go through a `Cutting`."""
    transition = s.tenant._transition
    inner = transition._database
    made = Cutting(inner.inner if isinstance(inner, Cutting) else inner, at, after, act)
    transition._database = made
    return made
