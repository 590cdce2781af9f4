"""A database whose next transaction can be watched and cut statement by statement, BEGIN and COMMIT among them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cutover.stores.database import Connection, Database
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

    def __getattribute__(self, name: str) -> Any:
        if name in ("transaction", "inner", "at", "after", "act", "seen", "step", "__class__", "__dict__"):
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
    async def transaction(self, *, timeout: float = 5.0, isolation: str | None = None) -> AsyncIterator[Connection]:
        """As the real one."""
        async with self.inner.connection(timeout=timeout) as connection:
            transaction = connection.transaction()
            await self.step(connection, "BEGIN", transaction.start)
            try:
                yield _Watched(self, connection)  # type: ignore[misc]
            except BaseException:
                await transaction.rollback()
                raise
            await self.step(connection, "COMMIT", transaction.commit)


class _Watched:
    def __init__(self, cutting: Cutting, connection: Connection) -> None:
        self._cutting = cutting
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        async def run(sql: str, *args: Any, **options: Any) -> Any:
            return await self._cutting.step(self._connection, sql, lambda: method(sql, *args, **options))

        return run


def cut(s: Scene, at: int = -1, *, after: bool = False, act: Act | None = None) -> Cutting:
    """From now on the newest daemon's changes of phase go through a `Cutting`."""
    transition = s.tenant._transition
    inner = transition._database
    made = Cutting(inner.inner if isinstance(inner, Cutting) else inner, at, after, act)
    transition._database = made
    return made
