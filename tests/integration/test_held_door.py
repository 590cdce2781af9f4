"""The door is shut for a moment only: whatever the pool, a connection or the server does during a step."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from cutover.domain.errors import CutoverError
from cutover.domain.phase import Phase
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD

PATIENT: dict[str, Any] = {"delivery_deadline": 3.0, "plugin_timeout": 3.0}


def _socket(directory: str) -> Path:
    return next(Path(directory).glob(".s.PGSQL.*[0-9]"))


@dataclass
class Wire:
    """In front of PostgreSQL: from the statement that holds `word` on, that one connection says nothing any more."""

    word: bytes = b""
    silent: bool = False

    @contextlib.asynccontextmanager
    async def before(self, url: str) -> AsyncIterator[str]:
        """The URL to use instead of `url`."""
        directory = parse_qs(urlsplit(url).query)["host"][0]
        socket = _socket(directory)
        with tempfile.TemporaryDirectory(dir="/tmp") as place:

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    far_reader, far_writer = await asyncio.open_unix_connection(socket)
                except OSError:
                    writer.transport.abort()
                    return
                mute = asyncio.Event()

                async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, *, watched: bool) -> None:
                    with contextlib.suppress(OSError):
                        while chunk := await source.read(65536):
                            if watched and self.word and not self.silent and self.word in chunk:
                                self.silent = True
                                mute.set()
                            if not mute.is_set():
                                to.write(chunk)
                                await to.drain()
                    to.transport.abort()

                await asyncio.gather(
                    pass_on(reader, far_writer, watched=True), pass_on(far_reader, writer, watched=False)
                )

            server = await asyncio.start_unix_server(accept, Path(place) / socket.name)
            try:
                yield url.replace(directory, place)
            finally:
                server.close()


async def test_one_silent_connection_during_the_flip_does_not_shut_the_door(database: str) -> None:
    wire = Wire()
    rows = [(uuid4(), CHILD, "a memory", "LOCAL")]
    async with scene(database, phase=Phase.A2, rows=rows, proxied=False, **PATIENT) as s, wire.before(database) as url:
        await s.quiet()
        await s.daemons[-1].stop()
        await s.daemon(database_url=url)
        wire.word = b"freeze_now"
        began = time.monotonic()
        step = asyncio.create_task(s.step(Phase.A3))
        while not wire.silent:  # noqa: ASYNC110 - set by another task, soon
            await asyncio.sleep(0.01)
        written = 0.0
        while not written and time.monotonic() < began + 40:
            with contextlib.suppress(CutoverError):
                await s.create(CHILD, "meanwhile")
                written = time.monotonic() - began
        assert 0 < written < 20, "writes go on long before the driver gives the connection up"
        # It is tried again, on another connection.
        assert (await asyncio.wait_for(step, 40))["to"] == "A3"
        await s.quiet()
        assert await s.differences() == []


async def test_while_the_pool_has_no_connection_to_spare_nobody_waits_at_the_door(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(database, phase=Phase.A0, proxied=False, **PATIENT) as s:
        own = s.tenant._database
        whole = type(s.tenant._stand_up).calm

        async with contextlib.AsyncExitStack() as taken:

            async def calm(step: Any) -> None:
                await whole(step)
                for _ in range(own.size):  # all there are, once the step has come so far
                    with contextlib.suppress(CutoverError):
                        await taken.enter_async_context(own.connection(timeout=0.5))

            monkeypatch.setattr(type(s.tenant._stand_up), "calm", calm)
            step = asyncio.create_task(s.step(Phase.A1))
            shut = 0
            for _ in range(40):
                await asyncio.sleep(0.05)
                shut += not s.tenant.admission._unheld.is_set()
            assert shut == 0
            assert not step.done()
            monkeypatch.undo()
        assert (await step)["to"] == "A1"
