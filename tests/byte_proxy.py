"""A link to PostgreSQL that can be cut: from one unix socket to another, byte by byte."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

_CHUNK = 65536


class ByteProxy:
    """Stands in the place of the server that `database_url` names (`?host=` its socket's directory)."""

    def __init__(self, database_url: str) -> None:
        self._upstream = database_url
        host = Path(parse_qs(urlsplit(database_url).query)["host"][0])
        self._socket = next(host.glob(".s.PGSQL.*[0-9]"))
        self._directory = Path(tempfile.mkdtemp(prefix="cut-", dir="/tmp"))
        self.url = database_url.replace(str(host), str(self._directory))
        self._server: asyncio.Server | None = None
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._waiting: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._how: Literal["closed", "silent"] = "closed"

    async def __aenter__(self) -> Self:
        self._open.set()
        self._server = await asyncio.start_unix_server(self._accept, self._directory / self._socket.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self._abort()
        self._open.set()
        shutil.rmtree(self._directory, ignore_errors=True)

    def cut(self, how: Literal["closed", "silent"]) -> None:
        """`closed`: connections end, new ones are refused. `silent`: nothing passes any more, and nobody is told."""
        self._how = how
        self._open.clear()
        if how == "closed":
            self._abort()

    def heal(self) -> None:
        """New connections pass. Those from before the cut are lost, with what was on its way in them."""
        self._abort()
        self._open.set()

    def _abort(self) -> None:
        for writer in [*self._waiting, *(end for link in self._links for end in link)]:
            writer.transport.abort()
        self._links.clear()
        self._waiting.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._open.is_set():
            if self._how == "silent":
                self._waiting.add(writer)  # as a server that no packet reaches
            else:
                writer.transport.abort()
            return
        try:
            there_reader, there = await asyncio.open_unix_connection(self._socket)
        except OSError:
            writer.transport.abort()
            return
        link = (writer, there)
        self._links.add(link)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass(reader, there), self._pass(there_reader, writer))
        self._links.discard(link)
        for end in link:
            end.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(_CHUNK):
            await self._open.wait()
            if target.transport.is_closing():
                return
            target.write(chunk)
            await target.drain()
        target.close()
