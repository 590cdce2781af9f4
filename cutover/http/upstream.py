"""Pass-through to workspace-server (`CUTOVER_UPSTREAM_URL`): whatever is no memory route or memory tool call.

Nothing is changed on the way: path and query byte for byte, headers both ways but for the hop-by-hop ones, bodies as
a stream in both directions, server-sent events as they come, WebSockets message by message. The caller's `Host` goes
along, so that origin checks and absolute links behind us see what the caller typed. Redirects are the caller's to
follow and cookies the caller's to keep. One request out per request in: nothing is tried again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from cutover.domain.errors import CutoverError
from cutover.http import wire
from cutover.http.server import RequestTimedOut

CONNECT_SECONDS = 3.0
EXCHANGE_SECONDS = 30.0
"""For an answer that is read whole, to be merged with ours (`tools/list`)."""
STALL_SECONDS = 30.0
"""The longest pause in a request's body; the body itself may take as long as it likes."""
MAX_WEBSOCKET_MESSAGE = 64 * 1024 * 1024
_CLIENT_LOOK_SECONDS = 1.0
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "expect",  # ours to answer: the client waits for us, not for the upstream
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SKIPPED = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_UPSTREAM_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)


class UpstreamFailed(CutoverError):
    """workspace-server did not answer."""

    status = 502
    code = "unavailable"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the upstream, read whole."""

    status: int
    headers: CIMultiDict[str]
    body: bytes
    content_type: str

    def response(self) -> web.Response:
        """The same answer for our client."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)


class _Sending:
    """A request's body on its way through. A client that stops sending in the middle is not waited for."""

    def __init__(self, request: web.Request, stall_seconds: float) -> None:
        self._content = request.content
        self._stall_seconds = stall_seconds
        self.stalled = False

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    chunk = await self._content.readany()
            except TimeoutError:
                self.stalled = True
                raise
            if not chunk:
                return
            yield chunk


class Upstream:
    """One workspace-server. Create it inside a running loop.

    On the way down: `end_streams()` first, for what would never end by itself, then `close()`.
    """

    def __init__(self, url: str, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._base = url.rstrip("/")
        self._stall_seconds = stall_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            skip_auto_headers=_SKIPPED,
            auto_decompress=False,
            trust_env=False,
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
        )
        self._endless: set[Callable[[], None]] = set()

    async def end_streams(self) -> None:
        """End event streams and WebSockets; other answers go on."""
        for end in tuple(self._endless):
            end()

    async def close(self) -> None:
        """End everything."""
        await self.end_streams()
        await self._session.close()

    async def forward(
        self, request: web.Request, *, path: str | None = None, body: bytes | None = None
    ) -> web.StreamResponse:
        """Pass `request` on and stream the answer back. Raises `UpstreamFailed` while nothing has been answered.

        `path` replaces the request's own path and query; `body` is given where it has been read already.
        """
        target = self._target(request, path)
        if request.headers.get("Upgrade", "").lower() == "websocket" and request.method == "GET":
            return await self._tunnel(request, target)
        sending = _Sending(request, self._stall_seconds)
        data = body if body is not None else sending.chunks() if request.body_exists else None
        try:
            answer = await self._session.request(
                request.method, target, headers=_onward(request.headers), data=data, allow_redirects=False
            )
        except _UPSTREAM_ERRORS as error:
            if sending.stalled:
                raise RequestTimedOut("the body of the request did not arrive in time") from error
            raise _failed(error) from error
        async with answer:
            return await self._stream(request, answer)

    async def exchange(self, request: web.Request, body: bytes, *, path: str | None = None) -> Answer:
        """Pass `request` on with `body`, and read the whole answer. Raises `UpstreamFailed`."""
        headers = _onward(request.headers)
        headers.popall("Content-Length", None)
        # What comes back is read here, so it must not be compressed.
        headers["Accept-Encoding"] = "identity"
        try:
            async with (
                asyncio.timeout(EXCHANGE_SECONDS),
                self._session.request(
                    request.method, self._target(request, path), headers=headers, data=body, allow_redirects=False
                ) as answer,
            ):
                raw = await answer.read()
                fields = _onward(answer.headers)
                fields.popall("Content-Length", None)
                return Answer(answer.status, fields, raw, answer.content_type)
        except _UPSTREAM_ERRORS as error:
            raise _failed(error) from error

    def _target(self, request: web.Request, path: str | None) -> URL:
        raw = path if path is not None else path_of(request)
        return URL(self._base + raw, encoded=True)

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_onward(answer.headers))
        endless = answer.content_type == "text/event-stream"
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._watched(request, answer.close))
            if endless:
                stack.enter_context(self._ends_with_us(answer.close))
            await response.prepare(request)
            try:
                while chunk := await answer.content.readany():
                    await response.write(chunk)
            except _UPSTREAM_ERRORS:
                await _cut(request)
                raise ConnectionResetError("the answer was cut short") from None
            await response.write_eof()
        return response

    @contextlib.contextmanager
    def _watched(self, request: web.Request, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` when the client goes away, which nothing would tell us while the upstream is silent."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if request.transport is None or request.transport.is_closing():
                end()
            else:
                timer = loop.call_later(_CLIENT_LOOK_SECONDS, look)

        timer = loop.call_later(_CLIENT_LOOK_SECONDS, look)
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _ends_with_us(self, end: Callable[[], None]) -> Iterator[None]:
        self._endless.add(end)
        try:
            yield
        finally:
            self._endless.discard(end)

    async def _tunnel(self, request: web.Request, target: URL) -> web.StreamResponse:
        offered = [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        headers = CIMultiDict(
            (name, value)
            for name, value in _onward(request.headers).items()
            if not name.lower().startswith("sec-websocket-")
        )
        try:
            upstream = await self._session.ws_connect(
                target,
                protocols=[part for part in offered if part],
                headers=headers,
                autoping=False,
                max_msg_size=MAX_WEBSOCKET_MESSAGE,
            )
        except aiohttp.WSServerHandshakeError as error:
            return wire.json_response(error.status, {"error": "the upstream refused the WebSocket"})
        except _UPSTREAM_ERRORS as error:
            raise _failed(error) from error
        chosen = (upstream.protocol,) if upstream.protocol else ()
        client = web.WebSocketResponse(protocols=chosen, autoping=False, max_msg_size=MAX_WEBSOCKET_MESSAGE)
        try:
            await client.prepare(request)
            await self._pump_both(client, upstream)
        finally:
            await upstream.close()
        return client

    async def _pump_both(self, client: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
        pumps = {asyncio.create_task(_pump(client, upstream)), asyncio.create_task(_pump(upstream, client))}

        def end() -> None:
            for pump in pumps:
                pump.cancel()

        try:
            with self._ends_with_us(end):
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            end()
            await asyncio.wait(pumps)
        await upstream.close(code=_close_code(client.close_code))
        await client.close(code=_close_code(upstream.close_code))


async def _pump(
    source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
) -> None:
    """Carry messages until the source closes or the sink is gone."""
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for message in source:
            if message.type is aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is aiohttp.WSMsgType.PING:
                await sink.ping(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                await sink.pong(message.data)


def _close_code(seen: int | None) -> int:
    """The other side's close code, where it is one that may be sent."""
    return seen if seen is not None and seen not in (1005, 1006, 1015) else 1000


def path_of(request: web.Request) -> str:
    """The path and query exactly as they were sent."""
    raw = request.raw_path
    if raw.startswith("/"):
        return raw
    _, _, rest = raw.partition("://")  # the absolute form, as proxies get it
    return "/" + rest.partition("/")[2]


def _onward(headers: "CIMultiDictProxy[str]") -> CIMultiDict[str]:
    """The headers that go on: all but the hop-by-hop ones and those that `Connection` names."""
    named = {part.strip().lower() for value in headers.getall("Connection", ()) for part in value.split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _HOP_BY_HOP and (name.lower() not in named)
    )


async def _cut(request: web.Request) -> None:
    """Hang up on the client in the middle of an answer, so that it cannot take it for a whole one."""
    if request.transport is not None:
        request.transport.abort()
    for _ in range(10):
        if request.transport is None:
            return
        await asyncio.sleep(0)


def _failed(error: Exception) -> UpstreamFailed:
    return UpstreamFailed(
        f"workspace-server did not answer ({type(error).__name__})",
        next_step="check CUTOVER_UPSTREAM_URL and that workspace-server runs",
    )
