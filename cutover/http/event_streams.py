"""Server-sent events: bounded in number, with a heartbeat, and closed before anything else when the daemon leaves.

A stream holds a connection for as long as somebody looks, so there is a limit; beyond it the answer is 503 in words,
and whoever gets that asks for the page every few seconds instead. A client that does not read is let go.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from pydantic_core import to_json

from cutover.domain.errors import CutoverError
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call

MOST: Final = 24
MOST_PER_PEER: Final = 12
"""For one address: nobody takes all of them. Behind a proxy everybody has the proxy's."""
LOOK_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 5.0
_RETRY_MS: Final = 3000
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

Look = Callable[[], Awaitable[str]]
"""What there is to be shown now."""


class NoStream(CutoverError):
    """No stream is opened now. It is no refusal of memory traffic, and is not counted as one."""

    status = 503
    code = "unavailable"


class EventStreams:
    """All streams of one face."""

    def __init__(
        self,
        most: int = MOST,
        per_peer: int = MOST_PER_PEER,
        look: float = LOOK_SECONDS,
        beat: float = BEAT_SECONDS,
    ) -> None:
        self._most = most
        self._per_peer = per_peer
        self._look = look
        self._beat = beat
        self._peers: Counter[str] = Counter()
        self._closing = asyncio.Event()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._peers.total()

    def close(self) -> None:
        """End every stream; none is opened any more."""
        self._closing.set()

    async def serve(self, call: Call[OpsTenant], look: Look) -> web.StreamResponse:
        """Send `look()` as the event `page` whenever it changed, `beat` when nothing did, until the client or the
        daemon goes. Raises `NoStream` beyond the limit."""
        if self._closing.is_set():
            raise NoStream("the daemon is shutting down", next_step="ask again when it is back")
        request = call.request
        peer = request.remote or ""
        instead = "ask for the page itself every few seconds, or close another console"
        if self.open >= self._most:
            raise NoStream(f"{self._most} event streams are open, which is the limit", next_step=instead)
        if self._peers[peer] >= self._per_peer:
            what = f"{self._per_peer} event streams are open from your address, which is the limit"
            raise NoStream(what, next_step=instead)
        response = web.StreamResponse(headers={**_HEADERS, "X-Request-Id": call.request_id, "Server": "cutover"})
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        self._peers[peer] += 1
        try:
            await response.prepare(request)
            await self._send(response, f"retry: {_RETRY_MS}\n\n")
            await self._run(request, response, look)
            await self._send(response, _event("bye", ""))
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._peers[peer] -= 1
            if not self._peers[peer]:
                del self._peers[peer]
        return response

    async def _run(self, request: web.Request, response: web.StreamResponse, look: Look) -> None:
        """The heart beats whether or not a look comes to an end: the daemon is there, whatever its stores do."""
        shown, told = "", time.monotonic()
        closing = asyncio.ensure_future(self._closing.wait())
        looking = asyncio.ensure_future(look())
        try:
            while not self._closing.is_set():
                beat_in = max(0.0, told + self._beat - time.monotonic())
                await asyncio.wait((looking, closing), timeout=beat_in, return_when=asyncio.FIRST_COMPLETED)
                if self._closing.is_set():
                    return
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError("the client is gone")
                if looking.done() and (seen := looking.result()) != shown:
                    shown, told = seen, time.monotonic()
                    await self._send(response, _event("page", seen))
                elif time.monotonic() - told >= self._beat:
                    told = time.monotonic()
                    await self._send(response, _event("beat", ""))
                if looking.done():
                    await asyncio.wait((closing,), timeout=self._look)
                    looking = asyncio.ensure_future(look())
        finally:
            looking.cancel()
            closing.cancel()

    async def _send(self, response: web.StreamResponse, words: str) -> None:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(words.encode())


def _event(name: str, data: str) -> str:
    """One event. The data is a JSON string, so no line of it can be taken for another field."""
    return f"event: {name}\ndata: {to_json(data).decode()}\n\n"
