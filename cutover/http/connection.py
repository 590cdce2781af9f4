"""One client's connection to a face: the deadlines that aiohttp leaves to us.

aiohttp bounds idle time only. Here the head of a request has a deadline from its first byte to its last, so a client
that drips bytes is cut, and so is one that never reads its answers. Idle connections cost no timer beyond aiohttp's
own, which is what makes ten thousand of them cheap.
"""

import asyncio
import time
from collections import deque
from typing import Any, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from cutover.http.limits import Limits


class Host(Protocol):
    """What a connection needs of the face it belongs to."""

    limits: Limits

    def joined(self, connection: "FaceConnection") -> None: ...
    def left(self, connection: "FaceConnection") -> None: ...
    def raw_refusal(self, status: int, message: str) -> bytes: ...
    def malformed(self, status: int) -> web.Response: ...


class FaceConnection(web.RequestHandler):
    """aiohttp's protocol, with a head deadline, a stalled-write deadline, and answers in the face's own shape."""

    __slots__ = ("_arrivals", "_body", "_head_timer", "_host", "_stall_timer")

    def __init__(self, host: Host, manager: web.Server, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._host = host
        self._arrivals: deque[float] = deque()
        self._body: StreamReader | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is being read, handled or written."""
        return self._waiter is not None and not self._waiter.done() and self._head_timer is None

    def take_arrival(self) -> float:
        """`time.monotonic()` at which the head of the next request to be handled had been read."""
        return self._arrivals.popleft() if self._arrivals else time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host.joined(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cancel_timers()
        self._host.left(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # A body still under way has its own deadline, in whoever reads it.
        in_body = self._body is not None and not self._body.is_eof()
        seen = self._request_count
        super().data_received(data)
        fresh = self._request_count - seen
        if fresh:
            now = time.monotonic()
            self._arrivals.extend([now] * fresh)
            if self._messages:
                self._body = self._messages[-1][1]
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif data and not in_body and self._head_timer is None and self._awaits_head():
            self._head_timer = self._loop.call_later(self._host.limits.head_seconds, self._head_expired)

    def _awaits_head(self) -> bool:
        return self.transport is not None and not self._upgraded and not self._buffer_paused and not self._close

    def _head_expired(self) -> None:
        self._head_timer = None
        if self.transport is None:
            return
        if self._current_request is not None or self._messages:
            self.close()  # what came in whole is answered first
            return
        self.refuse(408, "the head of the request did not arrive in time")

    def refuse(self, status: int, message: str) -> None:
        """Answer outside of any request, and hang up."""
        if self.transport is not None:
            self.transport.write(self._host.raw_refusal(status, message))
            self.force_close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(self._host.limits.stalled_write_seconds, self._write_stalled)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _write_stalled(self) -> None:
        self._stall_timer = None
        if self.transport is not None:
            self.transport.abort()

    def _cancel_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP, in the face's shape. The parser's own words may quote the client's bytes: not repeated."""
        if request.writer.output_size > 0:
            raise ConnectionError("part of another answer has been sent already")
        return self._host.malformed(status)
