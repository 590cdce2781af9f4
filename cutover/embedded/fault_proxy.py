"""A proxy that stands between the daemon and a plugin and misbehaves on request.

The plugin that a test can break by killing it fails in the easy ways. The hard ones happen between two healthy
programs: an answer is lost although the request was applied, a request arrives long after its sender gave up, a
share of the answers is an error. This proxy makes each of them happen to chosen requests, and every request it saw
can be looked at afterwards.

It understands just enough HTTP/1.1 to see whole requests and whole answers (Content-Length and chunked). A request,
once read, lives on even when its sender hangs up: that is what makes a delivery late instead of lost.

    proxy = FaultProxy("http://127.0.0.1:9100")
    async with proxy:
        held = proxy.hold(on("POST", r"/memories$"))
        ...                                   # the daemon's deadline passes
        await held.release()                  # now the plugin applies it

Alone: `python -m cutover.embedded.fault_proxy --upstream http://127.0.0.1:9100 --listen 127.0.0.1:9101 --fail 0.1`
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_LIMIT = 4 * 1024 * 1024
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """One whole request. `headers` keeps the sender's order and case; `target` is path and query."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or None when there is none."""
        return json.loads(self.body) if self.body else None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class ProxiedAnswer:
    """One whole answer."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class _Cut(Exception):
    """Not an error: the fault asks for the sender's connection to be closed."""


Forward = Callable[[ProxiedRequest], Awaitable[ProxiedAnswer]]
Fault = Callable[[ProxiedRequest, Forward], Awaitable[ProxiedAnswer]]
Match = Callable[[ProxiedRequest], bool]


# -- predicates -------------------------------------------------------------------------------------------------------


def anything(request: ProxiedRequest) -> bool:
    """Every request, probes included."""
    return bool(request.method)


def on(method: str, path: str, body: str | None = None) -> Match:
    """Requests of `method` whose path, and body if given, contain a match of the regular expressions."""
    path_pattern = re.compile(path)
    body_pattern = re.compile(body.encode()) if body is not None else None

    def match(request: ProxiedRequest) -> bool:
        if request.method != method or not path_pattern.search(request.path):
            return False
        return body_pattern is None or body_pattern.search(request.body) is not None

    return match


# -- faults -----------------------------------------------------------------------------------------------------------


def delay(seconds: float) -> Fault:
    """Pass it on after `seconds`; the sender may be gone by then, the plugin gets it all the same."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        await asyncio.sleep(seconds)
        return await forward(request)

    return act


def answer(status: int, body: Callable[[ProxiedRequest], object] | object = None) -> Fault:
    """Answer without asking the plugin: with an error status a refusal, with a success status a lie."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        del forward
        words = body(request) if callable(body) else body
        if words is None and status >= 400:
            words = {"code": "internal", "message": "the fault proxy says so"}
        raw = b"" if words is None else json.dumps(words).encode()
        return ProxiedAnswer(status, (("Content-Type", "application/json"),) if raw else (), raw)

    return act


def drop() -> Fault:
    """Hang up without passing it on."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        raise _Cut

    return act


def swallow() -> Fault:
    """Pass it on, then hang up instead of answering: applied, and the sender cannot know."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        await forward(request)
        raise _Cut

    return act


def alter(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Fault:
    """Pass on a changed JSON body: a plugin that stores something else than it was given."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        return await forward(replace(request, body=json.dumps(change(request.json())).encode()))

    return act


@dataclass(slots=True)
class Held:
    """A request that the proxy sits on. `arrived` is set once there is one; it holds the first match only."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    applied: asyncio.Event = field(default_factory=asyncio.Event)
    request: ProxiedRequest | None = None
    answer: ProxiedAnswer | None = None
    _let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def release(self, timeout: float = 10.0) -> ProxiedAnswer:
        """Let it through and wait for the plugin's answer, whether or not the sender still listens."""
        self._let_go.set()
        await asyncio.wait_for(self.applied.wait(), timeout)
        if self.answer is None:
            raise ConnectionError("the plugin could not be reached with the held request")
        return self.answer

    async def act(self, request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        """The fault itself."""
        self.request = request
        self.arrived.set()
        await self._let_go.wait()
        try:
            self.answer = await forward(request)
        finally:
            self.applied.set()
        return self.answer


@dataclass(slots=True)
class Rule:
    """One fault for the requests that match. `times` counts down; a spent or switched-off rule does nothing."""

    match: Match
    fault: Fault
    share: float = 1.0
    times: int | None = None
    hits: int = 0
    active: bool = True

    def off(self) -> None:
        """Switch it off; requests it already has are not affected."""
        self.active = False


# -- the proxy --------------------------------------------------------------------------------------------------------


class FaultProxy:
    """Listens on loopback, passes everything to `upstream`, and applies the first rule that matches a request.

    Used from one event loop. `port` 0 takes a free one and keeps it over `refuse()`/`accept()`.
    """

    def __init__(self, upstream: str, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0) -> None:
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"upstream must be an http URL with a host, got {upstream!r}")
        self._upstream = (parts.hostname, parts.port or 80)
        self._host = host
        self._port = port
        self._random = random.Random(seed)
        self._rules: list[Rule] = []
        self._server: asyncio.Server | None = None
        self._senders: set[asyncio.StreamWriter] = set()
        self._work: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self.seen: deque[ProxiedRequest] = deque(maxlen=_REMEMBERED)
        """The latest requests, oldest first."""

    @property
    def url(self) -> str:
        """Where the daemon should send its requests."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.refuse()
        for task in (*self._work, *self._serving):
            task.cancel()
        await asyncio.gather(*self._work, *self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted closes in the loop's next turn

    async def accept(self) -> None:
        """Take connections (again)."""
        if self._server is not None:
            return
        self._server = await asyncio.start_server(self._serve, self._host, self._port, limit=_LIMIT)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse connections and cut the open ones. What was read already still goes to the plugin."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for sender in list(self._senders):
            sender.transport.abort()

    def rule(self, match: Match, fault: Fault, *, share: float = 1.0, times: int | None = None) -> Rule:
        """Add a rule; earlier rules win."""
        rule = Rule(match, fault, share, times)
        self._rules.append(rule)
        return rule

    def hold(self, match: Match) -> Held:
        """Sit on the next request that matches."""
        held = Held()
        self.rule(match, held.act, times=1)
        return held

    def clear(self) -> None:
        """Forget all rules; what is held stays held until released."""
        self._rules.clear()

    async def send(self, request: ProxiedRequest) -> ProxiedAnswer:
        """Send `request` to the plugin from here: a replay of something seen, or a request of one's own."""
        return await self._forward(request)

    # -- one connection of a sender ---------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self._senders.add(writer)
        try:
            while (request := await _read_request(reader)) is not None:
                self.seen.append(request)
                # A task of its own: the sender's hanging up must not take the request with it.
                done: asyncio.Future[ProxiedAnswer] = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._handle(request, done))
                self._work.add(task)
                task.add_done_callback(self._work.discard)
                writer.write(_answer_bytes(await done))
                await writer.drain()
        except (_Cut, OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            # asyncio reports a cancelled connection handler as an error, and this is how one ends with the proxy.
            pass
        finally:
            self._senders.discard(writer)
            writer.transport.abort()

    async def _handle(self, request: ProxiedRequest, done: asyncio.Future[ProxiedAnswer]) -> None:
        try:
            fault = self._choose(request)
            result = await (self._forward(request) if fault is None else fault(request, self._forward))
        except (_Cut, OSError, EOFError, ValueError, asyncio.CancelledError) as error:
            if not done.done():
                done.set_exception(_Cut(str(error)))
                done.exception()  # the sender may be gone: nobody has to look at it
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            if not done.done():
                done.set_result(result)

    def _choose(self, request: ProxiedRequest) -> Fault | None:
        for rule in self._rules:
            if not rule.active or rule.times == 0 or not rule.match(request):
                continue
            if rule.share < 1.0 and self._random.random() >= rule.share:
                continue
            rule.hits += 1
            if rule.times is not None:
                rule.times -= 1
            return rule.fault
        return None

    async def _forward(self, request: ProxiedRequest) -> ProxiedAnswer:
        reader, writer = await asyncio.open_connection(*self._upstream, limit=_LIMIT)
        try:
            writer.write(_request_bytes(request))
            await writer.drain()
            return await _read_answer(reader)
        finally:
            writer.transport.abort()


# -- HTTP/1.1, as much as is needed -----------------------------------------------------------------------------------

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})


async def _read_request(reader: asyncio.StreamReader) -> ProxiedRequest | None:
    try:
        line, headers = await _read_head(reader)
    except asyncio.IncompleteReadError:
        return None
    method, target, _version = line.split(" ", 2)
    return ProxiedRequest(method, target, headers, await _read_body(reader, headers, open_ended=False))


async def _read_answer(reader: asyncio.StreamReader) -> ProxiedAnswer:
    while True:
        line, headers = await _read_head(reader)
        status = int(line.split(" ", 2)[1])
        if status >= 200:
            break
    bare = status in (204, 304)
    body = b"" if bare else await _read_body(reader, headers, open_ended=True)
    return ProxiedAnswer(status, headers, body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, tuple[tuple[str, str], ...]]:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = raw[:-4].split("\r\n")
    headers = []
    for entry in fields:
        name, _, value = entry.partition(":")
        headers.append((name.strip(), value.strip()))
    return line, tuple(headers)


async def _read_body(reader: asyncio.StreamReader, headers: tuple[tuple[str, str], ...], *, open_ended: bool) -> bytes:
    plain = {name.lower(): value for name, value in headers}
    if "chunked" in plain.get("transfer-encoding", "").lower():
        return await _read_chunks(reader)
    if "content-length" in plain:
        return await reader.readexactly(int(plain["content-length"]))
    return await reader.read(-1) if open_ended else b""


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while True:
        size = int((await reader.readline()).split(b";")[0], 16)
        if size == 0:
            while (await reader.readline()).strip():
                pass  # trailers
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)


def _kept(headers: tuple[tuple[str, str], ...]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers if name.lower() not in _HOP)


def _request_bytes(request: ProxiedRequest) -> bytes:
    head = f"{request.method} {request.target} HTTP/1.1\r\n{_kept(request.headers)}"
    return f"{head}Content-Length: {len(request.body)}\r\nConnection: close\r\n\r\n".encode("latin-1") + request.body


def _answer_bytes(given: ProxiedAnswer) -> bytes:
    head = f"HTTP/1.1 {given.status} Proxied\r\n{_kept(given.headers)}"
    if given.status not in (204, 304):
        head += f"Content-Length: {len(given.body)}\r\n"
    return f"{head}\r\n".encode("latin-1") + given.body


# -- alone ------------------------------------------------------------------------------------------------------------


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m cutover.embedded.fault_proxy", description="A plugin proxy that misbehaves on request."
    )
    parser.add_argument("--upstream", required=True, help="the plugin, for example http://127.0.0.1:9100")
    parser.add_argument("--listen", default="127.0.0.1:9101", help="host:port to listen on")
    parser.add_argument("--seed", type=int, default=0, help="which requests are hit")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="delay every request")
    for name, words in _SHARES.items():
        parser.add_argument(f"--{name}", type=float, default=0.0, metavar="SHARE", help=words)
    return parser.parse_args(arguments)


_SHARES: Mapping[str, str] = {
    "fail": "share of requests answered 500 (0..1)",
    "drop": "share of requests dropped before the plugin sees them",
    "swallow": "share of answers lost after the plugin applied the request",
}


async def run(arguments: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM."""
    host, _, port = arguments.listen.rpartition(":")
    proxy = FaultProxy(arguments.upstream, host=host, port=int(port), seed=arguments.seed)
    for share, fault in ((arguments.fail, answer(500)), (arguments.drop, drop()), (arguments.swallow, swallow())):
        if share > 0:
            proxy.rule(anything, fault, share=share)
    if arguments.delay > 0:
        proxy.rule(anything, delay(arguments.delay))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with proxy:
        print(f"fault proxy: {proxy.url} -> {arguments.upstream}", flush=True)  # noqa: T201 -- a command's output
        await stop.wait()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(_parse(arguments)))


if __name__ == "__main__":
    main()
