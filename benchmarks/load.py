"""A load generator light enough to share two cores with what it measures.

One asyncio protocol per connection, the next request goes out when the last answer is whole (no pipelining), and a
request is one `write` of bytes assembled from a prebuilt head. Nothing but the status and the time is looked at.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

MakeRequest = Callable[[int], bytes]
"""From the number of the request to its whole bytes."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: `rate` in accepted requests per second of wall time, latencies in seconds."""

    rate: float
    p50: float
    p99: float
    statuses: dict[int, int]
    seconds: float

    @property
    def refused(self) -> int:
        """Requests that were answered with something else than success."""
        return sum(count for status, count in self.statuses.items() if status >= 300)


class _Connection(asyncio.Protocol):
    """Sends one request after the other until the run's end, then closes."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._needed = 0
        self._sent = 0.0
        self._status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say that it is one
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        now = time.perf_counter()
        if now >= self._run.deadline:
            self._transport.close()
            return
        self._sent = now
        self._run.number += 1
        self._transport.write(self._run.make(self._run.number))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._needed:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            self._status = int(head[9:12])
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
            self._needed = end + 4 + length
        if len(self._buffer) < self._needed:
            return
        self._buffer = b""
        self._needed = 0
        self._run.note(self._status, time.perf_counter() - self._sent)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._run.ended()


class _Run:
    def __init__(self, make: MakeRequest, connections: int, seconds: float, first_number: int) -> None:
        self.make = make
        self.number = first_number
        self.started = time.perf_counter()
        self.deadline = self.started + seconds
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self._left = connections
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(self, status: int, took: float) -> None:
        self.statuses[status] += 1
        self.latencies.append(took)

    def ended(self) -> None:
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.done.set_result(None)

    def result(self) -> Measured:
        took = time.perf_counter() - self.started
        accepted = sum(count for status, count in self.statuses.items() if status < 300)
        return Measured(
            rate=accepted / took,
            p50=percentile(self.latencies, 0.50),
            p99=percentile(self.latencies, 0.99),
            statuses=dict(self.statuses),
            seconds=took,
        )


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def load(url: str, make: MakeRequest, *, connections: int, seconds: float, first_number: int = 0) -> Measured:
    """Keep `connections` requests in flight for `seconds`; every connection of `url` is opened for this run."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    run = _Run(make, connections, seconds, first_number)
    gc.collect()
    gc.disable()  # a pause of ours would count as theirs
    try:
        for _ in range(connections):
            await loop.create_connection(lambda: _Connection(run), host, port)
        await asyncio.wait_for(run.done, seconds + 30)
    finally:
        gc.enable()
    return run.result()


def post(path: str, body: bytes, *, host: str = "bench", token: str | None = None) -> bytes:
    """The bytes of one POST with a JSON body."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{bearer}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
