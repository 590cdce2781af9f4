"""LISTEN on one channel, on a connection of its own that is opened again whenever it breaks."""

import asyncio
import contextlib
from typing import Any

import asyncpg

from cutover.stores.database import DRIVER_ERRORS, translate


class Notifications:
    """`wait(seconds)` returns at a notification on `channel`, or after the time; raises our errors only."""

    def __init__(self, url: str, channel: str, *, application_name: str) -> None:
        self._url = url
        self._channel = channel
        self._application_name = application_name
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._arrived = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for the next notification, at most `seconds`."""
        if self._connection is None or self._connection.is_closed():
            await self._connect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        self._arrived.clear()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                await connection.close(timeout=2)
            except DRIVER_ERRORS:
                connection.terminate()

    async def _connect(self) -> None:
        try:
            self._connection = await asyncpg.connect(
                self._url, timeout=5, server_settings={"application_name": self._application_name}
            )
            await self._connection.add_listener(self._channel, self._heard)
        except (*DRIVER_ERRORS, ValueError) as error:
            raise translate(error) from None
        # What was said before we listened is not repeated: have the caller look.
        self._arrived.set()

    def _heard(self, *_: Any) -> None:
        self._arrived.set()
