"""Many, slow and rude clients against the real daemon: none of them keeps the others from being served."""

import asyncio
import contextlib
import json
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from cutover.http.limits import raise_open_files
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene

pytestmark = pytest.mark.acceptance

IDLE = 10_000
PATIENCE = 30.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def tenant(make_scene: MakeScene) -> Scene:
    """A daemon with short deadlines, in A0, and its seats."""
    return await make_scene(settings={"CUTOVER_HEADER_DEADLINE": "0.5", "CUTOVER_BODY_DEADLINE": "0.5"})


def commit_body(content: str, memory_id: UUID | None = None) -> bytes:
    body = {"content": content, "kind": "fact", "source": "agent"}
    return json.dumps(body if memory_id is None else {**body, "id": str(memory_id)}).encode()


def commit_bytes(namespace: str, body: bytes) -> bytes:
    head = f"POST /v1/namespaces/{namespace}/memories HTTP/1.1\r\nHost: daemon\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def connect(url: str) -> Stream:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return await asyncio.open_connection(parts.hostname, parts.port)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One answer off a connection that stays open."""
    async with asyncio.timeout(PATIENCE):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


async def stored(scene: Scene, ids: list[UUID]) -> int:
    """How many of `ids` are in `agent_memories`."""
    connection = await asyncpg.connect(scene.database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM agent_memories WHERE id = ANY($1)", ids))
    finally:
        await connection.close()


async def serves(scene: Scene) -> None:
    """A write, a search and a readiness probe, on connections of their own."""
    memory_id, namespace = uuid4(), scene.seats[0].namespace("LOCAL")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
        url = f"{scene.daemon.at.plugin}/v1/namespaces/{namespace}/memories"
        async with session.post(url, data=commit_body("still served", memory_id)) as response:
            assert response.status == 201, await response.text()
        body = {"namespaces": [namespace], "query": "served"}
        async with session.post(f"{scene.daemon.at.plugin}/v1/search", json=body) as response:
            assert str(memory_id) in {memory["id"] for memory in (await response.json())["memories"]}
        async with session.get(f"{scene.daemon.at.ops}/readyz") as response:
            assert response.status == 200
    assert await stored(scene, [memory_id]) == 1


async def test_ten_thousand_idle_connections(tenant: Scene) -> None:
    assert raise_open_files() > IDLE + 500, "this machine's hard limit on open files is below what the test needs"
    plugin, memories = tenant.daemon.at.plugin, tenant.daemon.at.memories
    idle: list[Stream] = []
    try:
        for _ in range(IDLE // 200):
            idle += await asyncio.gather(*(connect(url) for url in [plugin, memories] * 100))
        assert len(idle) == IDLE
        await serves(tenant)
        # The idle ones were kept, not dropped: each of a sample still gets an answer.
        for reader, writer in idle[:: IDLE // 100]:
            writer.write(b"GET /nothing-here HTTP/1.1\r\nHost: daemon\r\n\r\n")
            assert (await answer(reader))[0] in (401, 404)
        assert all(not reader.at_eof() for reader, _ in idle)
    finally:
        for _, writer in idle:
            writer.transport.abort()
    await serves(tenant)
    assert tenant.daemon.child.pid is not None


async def drip(url: str, start: bytes, rest: bytes) -> bytes:
    """A client that sends `start` at once and then a byte every 50 ms; gives back all that it was told."""
    reader, writer = await connect(url)
    writer.write(start)

    async def slowly() -> None:
        with contextlib.suppress(ConnectionError):
            for offset in range(len(rest)):
                writer.write(rest[offset : offset + 1])
                await writer.drain()
                await asyncio.sleep(0.05)  # the slow client itself, not a wait for something

    sender = asyncio.create_task(slowly())
    told = b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            told = await reader.read()
    sender.cancel()
    await asyncio.wait([sender])
    writer.transport.abort()
    return told


async def test_slow_clients_are_cut_with_408_while_others_are_served(tenant: Scene) -> None:
    namespace = tenant.seats[0].namespace("LOCAL")
    body_head = f"POST /v1/namespaces/{namespace}/memories HTTP/1.1\r\nHost: daemon\r\nContent-Length: 5000\r\n\r\n"
    slow = [
        asyncio.create_task(drip(url, start, b"a" * 4000))
        for url in (tenant.daemon.at.plugin, tenant.daemon.at.memories, tenant.daemon.at.ops)
        for start in (b"GET /v1/health HTTP/1.1\r\nX-Filler: ", b"GET /")
        for _ in range(20)
    ]
    slow += [asyncio.create_task(drip(tenant.daemon.at.plugin, body_head.encode(), b"a" * 4000)) for _ in range(20)]
    await serves(tenant)
    answers = await asyncio.gather(*slow)
    # A client that still writes when its connection is closed may lose the answer to its own reset (TCP): one of ten on
    # a quiet machine, more where client and daemon wait for a core. What none of them may be told is anything else.
    assert {told[:13] for told in answers} <= {b"HTTP/1.1 408 ", b""}
    assert sum(told.startswith(b"HTTP/1.1 408 ") for told in answers) > len(slow) / 2
    await serves(tenant)


async def test_a_body_that_never_comes_whole_writes_nothing(tenant: Scene) -> None:
    memory_id = uuid4()
    whole = commit_bytes(tenant.seats[0].namespace("LOCAL"), commit_body("half of this never comes", memory_id))
    reader, writer = await connect(tenant.daemon.at.plugin)
    writer.write(whole[:-5])
    assert (await answer(reader))[0] == 408
    _, gone = await connect(tenant.daemon.at.plugin)
    gone.write(whole[:-5])
    await gone.drain()
    gone.transport.abort()
    await serves(tenant)
    assert await stored(tenant, [memory_id]) == 0
    writer.close()


async def test_several_connections_pipelining(tenant: Scene) -> None:
    each, connections = 40, 8
    ids = [[uuid4() for _ in range(each)] for _ in range(connections)]

    async def pipeline(number: int) -> None:
        reader, writer = await connect(tenant.daemon.at.plugin)
        namespace = tenant.seats[number].namespace("LOCAL")
        writer.write(
            b"".join(commit_bytes(namespace, commit_body(f"pipelined {memory}", memory)) for memory in ids[number])
        )
        for memory in ids[number]:  # answered in the order sent
            status, body = await answer(reader)
            assert (status, json.loads(body)) == (201, {"id": str(memory), "namespace": namespace})
        writer.close()

    await asyncio.gather(*(pipeline(number) for number in range(connections)))
    assert await stored(tenant, [memory for part in ids for memory in part]) == each * connections


async def test_a_client_that_hangs_up_after_sending_does_not_split_its_write(tenant: Scene) -> None:
    ids = [uuid4() for _ in range(50)]
    namespace = tenant.seats[0].namespace("LOCAL")
    for memory in ids:
        _, writer = await connect(tenant.daemon.at.plugin)
        writer.write(commit_bytes(namespace, commit_body(f"sent and gone {memory}", memory)))
        await writer.drain()
        writer.close()  # an orderly goodbye: everything sent arrives

    async with asyncio.timeout(PATIENCE):
        while await stored(tenant, ids) < len(ids):  # noqa: ASYNC110 - another process does the work
            await asyncio.sleep(0.05)


RUDE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "smuggling": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bad chunk": b"POST /v1/search HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    "long line": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n",
}


async def test_what_is_not_http_gets_400_in_the_faces_shape(tenant: Scene) -> None:
    shapes = {
        tenant.daemon.at.plugin: {"code", "message"},
        tenant.daemon.at.memories: {"error"},
        tenant.daemon.at.ops: {"error"},
    }
    for url, members in shapes.items():
        for what, sent in RUDE.items():
            reader, writer = await connect(url)
            writer.write(sent)
            status, body = await answer(reader)
            assert status in (400, 404), what  # a bad chunk is only seen by whoever reads the body
            assert set(json.loads(body)) == members, what
            writer.close()
    await serves(tenant)
