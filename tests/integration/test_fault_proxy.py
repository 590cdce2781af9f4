"""The fault proxy does to a request what it says, on real sockets, before a server that records what it applied."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from cutover.embedded import fault_proxy
from cutover.embedded.fault_proxy import FaultProxy, on
from cutover.embedded.processes import free_port


@dataclass
class Recorder:
    """A server that applies whatever it gets and remembers it."""

    url: str = ""
    applied: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.applied.append((request.method, request.path, await request.read()))
        if request.method == "DELETE":
            return web.Response(status=204)
        if request.path == "/chunked":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            for part in (b"a" * 70_000, b"b"):
                await response.write(part)
            return response
        return web.json_response({"path": request.path}, status=201, headers={"X-From": "recorder"})


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    made = Recorder()
    app = web.Application(client_max_size=1 << 22)
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def proxy(recorder: Recorder) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(recorder.url, seed=7) as made:
        yield made


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(proxy.url, timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def test_passes_requests_and_answers_whole(
    proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder
) -> None:
    body = b"x" * 200_000
    async with client.post("/v1/things?a=1", data=body) as response:
        assert response.status == 201
        assert response.headers["X-From"] == "recorder"
        assert await response.json() == {"path": "/v1/things"}
    async with client.delete("/v1/things/1") as response:
        assert response.status == 204
    async with client.get("/chunked") as response:
        assert await response.read() == b"a" * 70_000 + b"b"
    assert recorder.applied[0] == ("POST", "/v1/things", body)
    assert [seen.target for seen in proxy.seen] == ["/v1/things?a=1", "/v1/things/1", "/chunked"]


async def test_a_chunked_request_arrives_whole(client: aiohttp.ClientSession, recorder: Recorder) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with client.post("/up", data=parts()) as response:
        assert response.status == 201
    assert recorder.applied == [("POST", "/up", b"onetwo")]


async def test_answer_does_not_reach_the_plugin(
    proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder
) -> None:
    rule = proxy.rule(on("POST", "/memories$"), fault_proxy.answer(500), times=1)
    async with client.post("/v1/memories") as response:
        assert response.status == 500
        assert (await response.json())["code"] == "internal"
    assert rule.hits == 1
    assert recorder.applied == []
    async with client.post("/v1/memories") as response:
        assert response.status == 201


async def test_a_lie_is_built_from_the_request(
    proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder
) -> None:
    proxy.rule(on("POST", "/memories$"), fault_proxy.answer(201, lambda request: {"id": request.json()["id"]}))
    async with client.post("/v1/memories", json={"id": "me"}) as response:
        assert (response.status, await response.json()) == (201, {"id": "me"})
    assert recorder.applied == []


async def test_a_share_hits_some_and_not_others(proxy: FaultProxy, client: aiohttp.ClientSession) -> None:
    rule = proxy.rule(on("GET", "/"), fault_proxy.answer(503), share=0.5)
    statuses = []
    for _ in range(60):
        async with client.get("/") as response:
            statuses.append(response.status)
    assert statuses.count(503) == rule.hits
    assert set(statuses) == {201, 503}


async def test_drop_hangs_up_before_and_swallow_after_the_plugin_applied_it(
    proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder
) -> None:
    proxy.rule(on("POST", "/dropped"), fault_proxy.drop())
    with pytest.raises(aiohttp.ClientError):
        await client.post("/dropped")
    assert recorder.applied == []
    proxy.rule(on("POST", "/swallowed"), fault_proxy.swallow())
    with pytest.raises(aiohttp.ClientError):
        await client.post("/swallowed")
    assert [path for _, path, _ in recorder.applied] == ["/swallowed"]


async def test_a_held_request_is_applied_after_its_sender_gave_up(
    proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder
) -> None:
    chosen = str(uuid4())
    held = proxy.hold(on("POST", "/memories$", body=chosen))
    async with client.post("/v1/memories", json={"id": "another"}) as response:
        assert response.status == 201
    with pytest.raises(TimeoutError):
        await client.post("/v1/memories", json={"id": chosen}, timeout=aiohttp.ClientTimeout(total=0.2))
    await asyncio.wait_for(held.arrived.wait(), 5)
    assert len(recorder.applied) == 1
    late = await held.release()
    assert late.status == 201
    assert json.loads(recorder.applied[1][2]) == {"id": chosen}
    async with client.post("/v1/memories", json={"id": chosen}) as response:
        assert response.status == 201, "only the first match is held"


async def test_altered_bodies_and_replays(proxy: FaultProxy, client: aiohttp.ClientSession, recorder: Recorder) -> None:
    rule = proxy.rule(on("POST", "/m"), fault_proxy.alter(lambda body: {**body, "content": "other"}))
    async with client.post("/m", json={"content": "mine"}) as response:
        assert response.status == 201
    assert json.loads(recorder.applied[0][2]) == {"content": "other"}
    rule.off()
    await proxy.send(proxy.seen[0])
    assert json.loads(recorder.applied[1][2]) == {"content": "mine"}


async def test_refuse_cuts_and_accept_takes_the_same_port_again(
    proxy: FaultProxy, client: aiohttp.ClientSession
) -> None:
    async with client.get("/") as response:
        assert response.status == 201
    before = proxy.url
    await proxy.refuse()
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get("/")
    await proxy.accept()
    assert proxy.url == before
    async with client.get("/") as response:
        assert response.status == 201


async def test_a_dead_plugin_looks_like_a_cut_connection(unused_port: int) -> None:
    async with FaultProxy(f"http://127.0.0.1:{unused_port}") as made, aiohttp.ClientSession(made.url) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get("/")


async def test_runs_alone_and_ends_with_sigterm(recorder: Recorder, unused_port: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cutover.embedded.fault_proxy",
        "--upstream", recorder.url, "--listen", f"127.0.0.1:{unused_port}", "--fail", "1",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{unused_port}/") as response,
        ):
            assert response.status == 500
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    assert recorder.applied == []


@pytest.fixture
def unused_port() -> int:
    return free_port()


def test_ports_are_given_once() -> None:
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
