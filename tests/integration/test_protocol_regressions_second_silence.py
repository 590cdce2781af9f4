"""A database that goes silent: connections that stay open and answer nothing any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import pytest

from cutover.domain.errors import DatabaseUnavailable
from cutover.stores.database import Database

Ask: TypeAlias = Callable[[Database], Coroutine[Any, Any, object]]
_POOL = 4
_PATIENCE = 10.0
"""Seconds: a call that is bound to end within two or three has not by then."""


@dataclass
class Forwarder:
    """Passes bytes between a port of its own and PostgreSQL, until it is told to keep them."""

    address: str
    """A unix socket's path, or host:port."""
    port: int = 0
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    """Clear: new connections are taken and get no answer."""
    silent: set[asyncio.Event] = field(default_factory=set)
    """One per connection; a connection whose event is cleared never passes anything again."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def hush(self) -> None:
        """Every connection, and every one that comes now, goes silent for good."""
        self.passing.clear()
        for each in self.silent:
            each.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.writers.append(writer)
        speaks = asyncio.Event()
        if self.passing.is_set():
            speaks.set()
        self.silent.add(speaks)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            inside, outside = await self._open()
            self.writers.append(outside)
            await asyncio.gather(_pump(reader, outside, speaks), _pump(inside, writer, speaks))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.address.startswith("/"):
            return await asyncio.open_unix_connection(self.address)
        host, _, port = self.address.rpartition(":")
        return await asyncio.open_connection(host, int(port))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, speaks: asyncio.Event) -> None:
    while data := await reader.read(65536):
        await speaks.wait()
        writer.write(data)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def forwarding(database_url: str) -> AsyncIterator[tuple[Forwarder, str]]:
    """A forwarder before the database, and the URL that leads through it."""
    parts = urlsplit(database_url)
    host = parse_qs(parts.query).get("host", [parts.hostname or "127.0.0.1"])[0]
    port = int(parse_qs(parts.query).get("port", [str(parts.port or 5432)])[0])
    forwarder = Forwarder(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else f"{host}:{port}")
    forwarder.passing.set()
    server = await asyncio.start_server(forwarder.serve, "127.0.0.1", 0)
    forwarder.port = server.sockets[0].getsockname()[1]
    try:
        yield forwarder, f"postgresql://{parts.username or 'postgres'}@127.0.0.1:{forwarder.port}{parts.path}"
    finally:
        server.close()
        for writer in forwarder.writers:
            writer.transport.abort()


async def _plainly(database: Database) -> object:
    return await database.fetchval("SELECT 1", timeout=1.0)


async def _on_a_connection(database: Database) -> object:
    async with database.connection(timeout=1.0) as connection:
        return await connection.fetchval("SELECT 1", timeout=1.0)


@pytest.mark.parametrize("ask", [_plainly, _on_a_connection], ids=["statement", "connection"])
async def test_every_call_ends_and_new_ones_work_once_it_answers_again(database: str, ask: Ask) -> None:
    async with forwarding(database) as (forwarder, url):
        silenced = await Database.connect(url, min_size=_POOL, max_size=_POOL, timeout=2.0)
        try:
            assert await ask(silenced) == 1
            forwarder.hush()
            # Twice as many as there are connections: half of them wait for one. Each has 1 s for that and 1 s to run.
            calls = [asyncio.create_task(ask(silenced)) for _ in range(2 * _POOL)]
            _, hanging = await asyncio.wait(calls, timeout=_PATIENCE)
            assert not hanging
            assert [type(call.exception()) for call in calls] == [DatabaseUnavailable] * len(calls)
            forwarder.passing.set()
            answers = [asyncio.create_task(ask(silenced)) for _ in range(_POOL)]
            _, hanging = await asyncio.wait(answers, timeout=_PATIENCE)
            assert not hanging
            assert [answer.result() for answer in answers] == [1] * _POOL
        finally:
            await silenced.close(timeout=1.0)
