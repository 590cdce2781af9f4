"""The server that every face stands on, over real sockets: limits, deadlines, shapes, tenants, life and death."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, UnixConnector, web

from cutover.domain.errors import BadSetting, Conflict, Forbidden, KeyReused, NotFound, Refused, Unauthenticated
from cutover.domain.events import Event, RequestFinished, RequestRefused
from cutover.http.errors import Shape, contract_shape, ops_shape, v1_shape
from cutover.http.limits import Limits
from cutover.http.listen import TcpAddress, parse_listen
from cutover.http.server import Call, Face, Route
from cutover.http.wire import json_response

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUICK = Limits(body_bytes=2048, head_seconds=0.3, body_seconds=0.3, stalled_write_seconds=0.3)
PATIENCE = 10.0


@dataclass(frozen=True)
class Organisation:
    name: str


@dataclass
class Organisations:
    default: Organisation | None = field(default_factory=lambda: Organisation("first"))
    others: tuple[str, ...] = ("first", "second")

    def get(self, name: str) -> Organisation:
        if name not in self.others:
            raise NotFound("no such tenant")
        return Organisation(name)


RAISED: dict[str, Exception] = {
    "401": Unauthenticated("missing workspace auth token"),
    "403": Forbidden("not yours"),
    "404": NotFound("no such memory"),
    "409": Conflict("the id is another workspace's"),
    "422": KeyReused("another body"),
    "503": Refused("breaker_open", "the plugin is not healthy", retry_after=2.2),
    "500": ValueError("the content of a memory"),
}


class Site:
    """A face with routes that show what the server does, and what they saw."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.callers: list[Any] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.finished = asyncio.Event()

    def routes(self) -> list[Route[Organisation]]:
        return [
            Route("POST", "/echo", "echo", self.echo),
            Route("GET", "/who", "who", self.who),
            Route("GET", "/raise/{status}", "raise", self.fail),
            Route("POST", "/slow", "slow", self.slow),
            Route("POST", "/guarded", "guarded", self.guarded),
            Route("GET", "/large", "large", self.large),
            Route("GET", "/stream", "stream", self.stream),
            Route("GET", "/probe", "probe", self.who, scope="daemon", quiet=True),
        ]

    async def echo(self, call: Call[Organisation]) -> web.StreamResponse:
        return web.Response(body=await call.body())

    async def who(self, call: Call[Organisation]) -> web.StreamResponse:
        self.callers.append(call.caller)
        tenant = call.named_tenant
        return json_response(200, {"tenant": tenant.name if tenant else None})

    async def fail(self, call: Call[Organisation]) -> web.StreamResponse:
        raise RAISED[call.request.match_info["status"]]

    async def _work(self) -> str:
        self.started.set()
        await self.release.wait()
        self.finished.set()
        return "done"

    async def slow(self, call: Call[Organisation]) -> web.StreamResponse:
        return web.Response(text=await self._work())

    async def guarded(self, call: Call[Organisation]) -> web.StreamResponse:
        return web.Response(text=await call.within(0.1, self._work(), "no result in time"))

    async def large(self, call: Call[Organisation]) -> web.StreamResponse:
        return web.Response(body=b"x" * 50_000_000)

    async def stream(self, call: Call[Organisation]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        await response.write(b"data: 1\n\n")
        self.started.set()
        await self.release.wait()
        return response


Start = Callable[..., Awaitable[tuple[Face[Organisation], Site]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    faces: list[tuple[Face[Organisation], Site]] = []

    async def begin(
        *,
        shape: Shape = contract_shape,
        limits: Limits = QUICK,
        tenants: Organisations | None = None,
        listen: str = "127.0.0.1:0",
    ) -> tuple[Face[Organisation], Site]:
        site = Site()
        face = Face("plugin", tenants or Organisations(), site.routes(), shape, site.events.append, limits)
        await face.start(parse_listen(listen))
        faces.append((face, site))
        return face, site

    yield begin
    for face, site in faces:
        site.release.set()
        await face.stop(1.0)


def url(face: Face[Organisation], path: str) -> str:
    return f"http://{face.addresses[0]}{path}"


async def connect(face: Face[Organisation]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = face.addresses[0]
    assert isinstance(address, TcpAddress)
    return await asyncio.open_connection(address.host, address.port)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition of the server's own state, which has no event to wait on."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def exchange(face: Face[Organisation], sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and read until the server hangs up."""
    reader, writer = await connect(face)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    writer.close()
    return parse(answer)


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, body


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    """Send one byte every 20 ms for as long as the server puts up with it; gives back what it said."""

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            for offset in range(len(data)):
                writer.write(data[offset : offset + 1])
                await writer.drain()
                await asyncio.sleep(0.02)  # this is the slow client itself, not a wait for something

    sender = asyncio.create_task(send())
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    sender.cancel()
    await asyncio.wait([sender])
    writer.close()
    return answer


# -- ids, traces, events -----------------------------------------------------------------------------------------------


async def test_request_id_comes_in_and_goes_out_and_a_bad_one_is_replaced(start: Start) -> None:
    face, site = await start()
    async with ClientSession() as client:
        async with client.get(url(face, "/who"), headers={"X-Request-Id": "abc-1.2:3_x"}) as answer:
            assert answer.headers["X-Request-Id"] == "abc-1.2:3_x"
        for bad in ("has space", "x" * 129, "semi;colon"):
            async with client.get(url(face, "/who"), headers={"X-Request-Id": bad}) as answer:
                assert answer.headers["X-Request-Id"] not in ("", bad)
                assert answer.headers["Server"] == "cutover"
        async with client.get(url(face, "/none")) as answer:
            assert answer.status == 404
            assert len(answer.headers["X-Request-Id"]) == 24
    assert site.callers[0].request_id == "abc-1.2:3_x"


async def test_traceparent_is_passed_on_when_well_formed_only(start: Start) -> None:
    face, site = await start()
    before = time.monotonic()
    offered = (TRACE, "00-" + "0" * 32 + TRACE[35:], "ff" + TRACE[2:], TRACE + "-more", "x" * 5000)
    async with ClientSession() as client:
        for value in offered:
            await client.get(url(face, "/who"), headers={"traceparent": value})
    assert [caller.traceparent for caller in site.callers] == [TRACE, None, None, None, None]
    assert all(before <= caller.arrived <= time.monotonic() for caller in site.callers)
    finished = site.events[0]
    assert isinstance(finished, RequestFinished)
    assert finished.trace_id == TRACE[3:35]


async def test_events_name_tenant_operation_and_outcome_and_probes_are_quiet(start: Start) -> None:
    face, site = await start()
    async with ClientSession() as client:
        for path in ("/tenants/second/who", "/raise/403", "/raise/503", "/raise/500", "/probe", "/none"):
            await client.get(url(face, path))
    seen = [(e.tenant, e.operation, e.outcome) for e in site.events if isinstance(e, RequestFinished)]
    assert seen == [
        ("second", "who", "ok"),
        ("first", "raise", "client_error"),
        ("first", "raise", "refused"),
        ("first", "raise", "error"),
        ("first", "unknown", "client_error"),
    ]
    assert [e for e in site.events if isinstance(e, RequestRefused)] == [RequestRefused("first", "breaker_open")]


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "members"),
    [(contract_shape, {"code", "message"}), (v1_shape, {"error"}), (ops_shape, {"error", "next"})],
)
async def test_every_error_has_the_faces_own_shape(start: Start, shape: Shape, members: set[str]) -> None:
    face, _ = await start(shape=shape)
    async with ClientSession() as client:
        for status in RAISED:
            async with client.get(url(face, f"/raise/{status}")) as answer:
                assert answer.status == int(status)
                assert members - {"next"} <= set(await answer.json()) <= members
                assert answer.headers.get("Retry-After") == ("3" if status == "503" else None)
        async with client.get(url(face, "/none")) as answer:
            assert (answer.status, set(await answer.json())) == (404, members - {"next"})
        async with client.put(url(face, "/echo"), data=b"") as answer:
            assert (answer.status, set(await answer.json())) == (405, members - {"next"})
            assert answer.headers["Allow"] == "POST"
        async with client.post(url(face, "/echo"), data=b"x" * 2049) as answer:
            assert (answer.status, set(await answer.json())) == (413, members - {"next"})
        async with client.post(url(face, "/echo"), data=b"x", headers={"Content-Encoding": "gzip"}) as answer:
            assert (answer.status, set(await answer.json())) == (400, members)
    for malformed in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /who HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    ):
        code, headers, body = await exchange(face, malformed)
        assert (code, set(json.loads(body))) == (400, members - {"next"})
        assert headers["x-request-id"]


async def test_a_fault_of_ours_shows_and_logs_neither_stack_nor_the_exceptions_words(start: Start) -> None:
    face, _ = await start()
    with structlog.testing.capture_logs() as logged:
        async with ClientSession() as client, client.get(url(face, "/raise/500")) as answer:
            text = await answer.text()
    assert "content of a memory" not in text
    assert "Traceback" not in text
    (line,) = [entry for entry in logged if entry["event"] == "http.unexpected"]
    assert "content of a memory" not in str(line)
    assert line["error"] == "ValueError"
    assert any("fail" in place for place in line["at"])


async def test_head_is_served_where_get_is(start: Start) -> None:
    face, _ = await start()
    async with ClientSession() as client, client.head(url(face, "/who")) as answer:
        assert answer.status == 200
        assert await answer.read() == b""


# -- tenants -----------------------------------------------------------------------------------------------------------


async def test_tenants_by_path_by_default_and_not_at_all(start: Start) -> None:
    face, _ = await start()
    several, _ = await start(tenants=Organisations(default=None))
    async with ClientSession() as client:
        async with client.get(url(face, "/who")) as answer:
            assert await answer.json() == {"tenant": "first"}
        async with client.get(url(face, "/tenants/second/who")) as answer:
            assert await answer.json() == {"tenant": "second"}
        async with client.get(url(face, "/tenants/third/who")) as answer:
            assert answer.status == 404
        async with client.get(url(several, "/who")) as answer:
            text = await answer.text()
            assert answer.status == 404
            assert "/tenants/{name}/" in text
            assert "second" not in text
        async with client.get(url(several, "/probe")) as answer:
            assert await answer.json() == {"tenant": None}


# -- slow, large and rude clients --------------------------------------------------------------------------------------


async def test_a_chunked_body_over_the_limit_is_cut_off(start: Start) -> None:
    face, _ = await start()
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    status, _, _ = await exchange(
        face, b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n"
    )
    assert status == 413


async def test_a_body_of_exactly_the_limit_is_taken(start: Start) -> None:
    face, _ = await start()
    async with ClientSession() as client, client.post(url(face, "/echo"), data=b"x" * 2048) as answer:
        assert await answer.read() == b"x" * 2048


async def test_a_dripping_head_gets_408(start: Start) -> None:
    face, _ = await start()
    answer = await drip(*await connect(face), b"GET /who HTTP/1.1\r\nX-Filler: " + b"a" * 4000)
    status, headers, body = parse(answer)
    assert status == 408
    assert json.loads(body)["code"] == "bad_request"
    assert headers["connection"] == "close"


async def test_a_dripping_head_after_a_good_request_gets_408(start: Start) -> None:
    face, _ = await start()
    reader, writer = await connect(face)
    writer.write(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b'{"tenant":"first"}')
    status, _, _ = parse(await drip(reader, writer, b"GET /who HTTP/1.1\r\nX-Filler: " + b"a" * 4000))
    assert status == 408


async def test_a_dripping_body_gets_408(start: Start) -> None:
    face, _ = await start()
    reader, writer = await connect(face)
    writer.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n")
    status, _, _ = parse(await drip(reader, writer, b"a" * 2000))
    assert status == 408


async def test_a_half_sent_head_behind_a_running_request_costs_the_connection_not_the_answer(start: Start) -> None:
    face, site = await start()
    reader, writer = await connect(face)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await asyncio.wait_for(site.started.wait(), PATIENCE)
    dripping = asyncio.create_task(drip(reader, writer, b"GET /who HTTP/1.1\r\nX-Filler: " + b"a" * 30))
    await until(lambda: next(iter(face._connections))._close)
    site.release.set()
    status, _, body = parse(await dripping)
    assert (status, body) == (200, b"done")


async def test_an_idle_connection_outlives_the_head_deadline(start: Start) -> None:
    face, _ = await start(limits=replace(QUICK, head_seconds=0.05))
    reader, writer = await connect(face)
    # Two dripped heads on other connections are cut meanwhile: the deadline has passed for certain.
    for _ in range(2):
        assert parse(await drip(*await connect(face), b"GET /who HTTP/1.1\r\nX: " + b"a" * 4000))[0] == 408
    writer.write(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(PATIENCE):
        assert parse(await reader.read())[0] == 200
    writer.close()


async def test_a_client_that_never_reads_is_cut_and_others_are_served(start: Start) -> None:
    face, _ = await start()
    _, writer = await connect(face)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: face.connections > 0)
    async with ClientSession() as client, client.get(url(face, "/who"), headers={"Connection": "close"}) as answer:
        assert answer.status == 200
    await until(lambda: face.connections == 0)
    writer.close()


async def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    face, _ = await start()
    count = 200
    sent = b"".join(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n%b\r\n%03d"
        % (b"Connection: close\r\n" if number == count - 1 else b"", number)
        for number in range(count)
    )
    reader, writer = await connect(face)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        answer = await reader.read()
    bodies = [part[-3:] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"%03d" % number for number in range(count)]
    writer.close()


async def test_at_the_limit_the_longest_idle_connection_makes_room(start: Start) -> None:
    face, site = await start(limits=replace(QUICK, connections=3))
    clients = [await connect(face) for _ in range(3)]
    clients[0][1].write(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await asyncio.wait_for(site.started.wait(), PATIENCE)
    status, _, _ = await exchange(face, b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert status == 200
    async with asyncio.timeout(PATIENCE):
        assert await clients[1][0].read() == b""  # idle the longest: gone
    site.release.set()
    async with asyncio.timeout(PATIENCE):
        assert (await clients[0][0].readuntil(b"done")).startswith(b"HTTP/1.1 200")  # busy: kept
    for _, writer in clients:
        writer.close()


async def test_when_nobody_is_idle_a_newcomer_is_told_to_come_back(start: Start) -> None:
    face, site = await start(limits=replace(QUICK, connections=1))
    _, writer = await connect(face)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await asyncio.wait_for(site.started.wait(), PATIENCE)
    status, headers, body = await exchange(face, b"")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["code"] == "unavailable"
    writer.close()


# -- work that must not be split ---------------------------------------------------------------------------------------


async def test_a_client_that_goes_away_does_not_cancel_its_write(start: Start) -> None:
    face, site = await start()
    _, writer = await connect(face)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await asyncio.wait_for(site.started.wait(), PATIENCE)
    writer.transport.abort()
    await until(lambda: face.connections == 0)
    site.release.set()
    await asyncio.wait_for(site.finished.wait(), PATIENCE)


async def test_the_guard_answers_503_in_time_and_the_work_goes_on(start: Start) -> None:
    face, site = await start()
    async with ClientSession() as client, client.post(url(face, "/guarded")) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (await answer.json())["code"] == "unavailable"
    assert not site.finished.is_set()
    site.release.set()
    await asyncio.wait_for(site.finished.wait(), PATIENCE)


# -- life and death ----------------------------------------------------------------------------------------------------


async def test_stop_lets_requests_in_flight_finish_and_takes_no_new_ones(start: Start) -> None:
    face, site = await start()
    async with ClientSession() as client:
        running = asyncio.create_task(client.post(url(face, "/slow")))
        await asyncio.wait_for(site.started.wait(), PATIENCE)
        stopping = asyncio.create_task(face.stop(PATIENCE))
        await until(lambda: face.draining)
        with pytest.raises(ConnectionRefusedError):
            await connect(face)
        site.release.set()
        answer = await running
        assert (answer.status, await answer.text()) == (200, "done")
        assert answer.headers["Connection"] == "close"
        await stopping


async def test_stop_waits_for_guarded_work_whose_caller_was_sent_away(start: Start) -> None:
    face, site = await start()
    async with ClientSession() as client, client.post(url(face, "/guarded")) as answer:
        assert answer.status == 503
    stopping = asyncio.create_task(face.stop(PATIENCE))
    await until(lambda: face.draining)
    site.release.set()
    await stopping
    assert site.finished.is_set()


async def test_stop_ends_streams_first_and_keeps_its_deadline(start: Start) -> None:
    face, site = await start()

    async def end_streams() -> None:
        site.release.set()

    face.closing.append(end_streams)
    async with ClientSession() as client:
        async with client.get(url(face, "/stream")) as answer:
            await asyncio.wait_for(site.started.wait(), PATIENCE)
            await asyncio.wait_for(face.stop(PATIENCE), PATIENCE)
            assert await answer.content.read() == b"data: 1\n\n"
    stuck, other = await start()
    _, writer = await connect(stuck)
    writer.write(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    await asyncio.wait_for(other.started.wait(), PATIENCE)
    await asyncio.wait_for(stuck.stop(0.1), PATIENCE)
    assert stuck.connections == 0
    writer.close()


async def test_unix_sockets_are_served_private_and_removed(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "face.sock"
    face, _ = await start(listen=f"unix:{path},127.0.0.1:0")
    assert len(face.addresses) == 2
    assert path.stat().st_mode & 0o007 == 0
    async with ClientSession(connector=UnixConnector(str(path))) as client, client.get("http://face/who") as answer:
        assert answer.status == 200
    await face.stop(1.0)
    assert not path.exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not_stolen(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "face.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    await start(listen=f"unix:{path}")
    with pytest.raises(BadSetting, match=r"CUTOVER_PLUGIN_LISTEN=unix:.*in use"):
        await start(listen=f"unix:{path}")
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(BadSetting, match="not a socket"):
        await start(listen=f"unix:{file}")
    assert file.read_text() == "mine"


async def test_a_port_in_use_is_said_in_one_line(start: Start) -> None:
    face, _ = await start()
    with pytest.raises(BadSetting, match=r"CUTOVER_PLUGIN_LISTEN=127\.0\.0\.1:\d+: cannot listen there: it is in use"):
        await start(listen=str(face.addresses[0]))


async def test_off_listens_nowhere(start: Start) -> None:
    face, _ = await start(listen="off")
    assert face.addresses == ()
