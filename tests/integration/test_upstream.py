"""Pass-through to a workspace-server on a real socket: unchanged, streamed, and out of the way of memory routes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from cutover.embedded.processes import until
from cutover.http.mcp_tools import TOOLS
from tests.conftest import MakeDatabase
from tests.integration.memories_scene import Served, served_on
from tests.integration.read_scene import CHILD

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class WorkspaceServer:
    """A stand-in for workspace-server that records what it was sent, and answers with `answer`."""

    url: str = ""
    requests: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: Handler | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            return await self.answer(request)
        self.bodies.append(await request.read())
        return web.json_response({"from": "upstream"})


@asynccontextmanager
async def workspace_server() -> AsyncIterator[WorkspaceServer]:
    server = WorkspaceServer()
    runner = web.ServerRunner(web.Server(server.handle, auto_decompress=False), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[WorkspaceServer]:
    async with workspace_server() as server:
        yield server


@pytest.fixture
async def served(database: str, upstream: WorkspaceServer) -> AsyncIterator[Served]:
    async with served_on(database, upstream=upstream.url) as made:
        yield made


async def hung_up(request: web.BaseRequest) -> None:
    """Until the other side of `request` is gone."""

    async def condition() -> bool:
        return request.transport is None

    await until(condition, "the other side's end", timeout=20, every=0.01)


async def raw_exchange(served: Served, sent: bytes, end: bytes) -> bytes:
    """Bytes out, bytes in, up to and with `end`."""
    reader, writer = await asyncio.open_connection(served.host, served.port)
    try:
        writer.write(sent)
        await writer.drain()
        async with asyncio.timeout(10):
            return await reader.readuntil(end)
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a//b/",
        "/canvas/%E2%82%AC%2Fx%20y/../z/./?q=a+b&q=%zz&empty=&x;y",
        "/workspaces",
        f"/workspaces/{CHILD}",
        f"/workspaces/{CHILD}/memory/key%2Fwith%2Fslashes",
        "/tenants/not-one-of-ours/things",
    ],
)
async def test_paths_go_through_byte_for_byte(served: Served, upstream: WorkspaceServer, path: str) -> None:
    head = await raw_exchange(served, f"GET {path} HTTP/1.1\r\nHost: canvas.example\r\n\r\n".encode(), b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert upstream.requests[0].raw_path == path
    assert upstream.requests[0].headers["Host"] == "canvas.example"


async def test_the_default_tenants_prefix_is_taken_off(served: Served, upstream: WorkspaceServer) -> None:
    async with served.http.get(f"{served.url}/tenants/default/things?x=1") as response:
        assert response.status == 200
    assert upstream.requests[0].raw_path == "/things?x=1"


async def test_headers_go_both_ways_but_for_the_hop_by_hop_ones(served: Served, upstream: WorkspaceServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=418, reason="Short And Stout", text="tea", headers={"X-Up": "1", "ETag": '"e"'})
        response.headers.add("Set-Cookie", "a=1; HttpOnly")
        response.headers.add("Set-Cookie", "b=2")
        return response

    upstream.answer = answer
    sent = {
        "Authorization": "Bearer anything",
        "Cookie": "c=3",
        "X-Request-Id": "mine",
        "Connection": "keep-alive, X-Private",
        "X-Private": "for the next hop only",
        "TE": "trailers",
        "User-Agent": "canvas/1",
    }
    async with served.http.get(f"{served.url}/x", headers=sent, allow_redirects=False) as response:
        assert (response.status, response.reason, await response.text()) == (418, "Short And Stout", "tea")
        assert response.headers.getall("Set-Cookie") == ["a=1; HttpOnly", "b=2"]
        assert (response.headers["X-Up"], response.headers["ETag"]) == ("1", '"e"')
    seen = upstream.requests[0].headers
    for name in ("Authorization", "Cookie", "X-Request-Id", "User-Agent"):
        assert seen[name] == sent[name]
    assert "X-Private" not in seen
    assert "TE" not in seen


async def test_redirects_and_compressed_bodies_are_left_alone(served: Served, upstream: WorkspaceServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Location": "/elsewhere", "Content-Encoding": "gzip", "Content-Type": "text/html"}
        return web.Response(status=302, body=b"not really gzip", headers=headers)

    upstream.answer = answer
    head = await raw_exchange(served, b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", b"not really gzip")
    assert b" 302 " in head
    assert b"Location: /elsewhere" in head
    assert b"Content-Encoding: gzip" in head
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE", "OPTIONS"])
async def test_every_method_and_its_body(served: Served, upstream: WorkspaceServer, method: str) -> None:
    async with served.http.request(method, f"{served.url}/things", data=b"\x00\xffbytes") as response:
        assert await response.json() == {"from": "upstream"}
    assert (upstream.requests[0].method, upstream.bodies) == (method, [b"\x00\xffbytes"])


async def test_other_methods_of_memory_routes_are_the_upstreams(served: Served, upstream: WorkspaceServer) -> None:
    async with served.http.put(f"{served.url}/workspaces/{CHILD}/memories", data=b"x") as response:
        assert await response.json() == {"from": "upstream"}


async def test_head_keeps_the_length(served: Served, upstream: WorkspaceServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": "12345", "Content-Type": "image/png"})

    upstream.answer = answer
    async with served.http.head(f"{served.url}/logo.png") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, "12345")


async def test_a_body_larger_than_any_limit_streams_both_ways(served: Served, upstream: WorkspaceServer) -> None:
    """32 MiB up and down while the face takes bodies of 4 MiB at most for itself."""
    block, blocks = bytes(range(256)) * 256, 512

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    async def body() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    upstream.answer = echo
    size = 0
    async with served.http.post(f"{served.url}/upload", data=body()) as response:
        async for chunk in response.content.iter_any():
            size += len(chunk)
    assert size == len(block) * blocks


async def test_server_sent_events_come_one_by_one_and_end_with_the_client(
    served: Served, upstream: WorkspaceServer
) -> None:
    proceed, gone = asyncio.Event(), asyncio.Event()

    async def events(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await proceed.wait()
        await response.write(b"data: two\n\n")
        await hung_up(request)
        gone.set()
        return response

    upstream.answer = events
    response = await served.http.get(f"{served.url}/events")
    async with asyncio.timeout(10):
        assert await response.content.readuntil(b"\n\n") == b"data: one\n\n"
        proceed.set()
        assert await response.content.readuntil(b"\n\n") == b"data: two\n\n"
        response.close()
        await gone.wait()  # the upstream is told although it sends nothing more


async def test_an_event_stream_ends_when_the_face_stops(served: Served, upstream: WorkspaceServer) -> None:
    async def events(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": hello\n\n")
        await hung_up(request)
        return response

    upstream.answer = events
    async with served.http.get(f"{served.url}/events") as response:
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(10):
            await served.face.stop(deadline=8.0)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()


async def test_an_answer_that_breaks_off_is_not_passed_off_as_whole(served: Served, upstream: WorkspaceServer) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    upstream.answer = broken
    with pytest.raises(aiohttp.ClientError):
        async with served.http.get(f"{served.url}/x") as response:
            await response.read()


async def test_a_client_that_stops_in_the_middle_of_its_body_is_not_waited_for(
    database: str, upstream: WorkspaceServer
) -> None:
    async with served_on(database, upstream=upstream.url, stall=0.2) as served:
        sent = b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12"
        head = await raw_exchange(served, sent, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert upstream.bodies == []


async def test_websockets_are_upgraded_both_ways(served: Served, upstream: WorkspaceServer) -> None:
    closed: asyncio.Queue[int | None] = asyncio.Queue()

    async def chat(request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse(protocols=("chat.v2",))
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await websocket.send_str(message.data.upper())
            else:
                await websocket.send_bytes(message.data[::-1])
        closed.put_nowait(websocket.close_code)
        return websocket

    upstream.answer = chat
    url = URL(f"{served.url}/ws/agents?x=%2F", encoded=True)
    headers = {"Authorization": "Bearer t", "Origin": "https://canvas.example"}
    async with served.http.ws_connect(url, protocols=("chat.v1", "chat.v2"), headers=headers) as websocket:
        assert websocket.protocol == "chat.v2"
        await websocket.send_str("hello")
        assert await websocket.receive_str(timeout=5) == "HELLO"
        await websocket.send_bytes(b"abc")
        assert await websocket.receive_bytes(timeout=5) == b"cba"
        await websocket.close(code=4001)
    async with asyncio.timeout(5):
        assert await closed.get() == 4001
    seen = upstream.requests[0]
    assert seen.raw_path == "/ws/agents?x=%2F"
    assert (seen.headers["Authorization"], seen.headers["Origin"]) == ("Bearer t", "https://canvas.example")


async def test_a_refused_websocket_is_refused(served: Served, upstream: WorkspaceServer) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)

    upstream.answer = refuse
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await served.http.ws_connect(f"{served.url}/ws")
    assert caught.value.status == 403


async def test_memory_routes_are_answered_here(served: Served, upstream: WorkspaceServer) -> None:
    made = await served.create(CHILD, {"content": "ours", "scope": "LOCAL"})
    listed = await served.list(CHILD)
    assert [row["id"] for row in listed] == [made["id"]]
    assert upstream.requests == []


async def test_a_dead_upstream_is_502_and_memory_routes_go_on(make_database: MakeDatabase) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        dead = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        async with served_on(await make_database(), upstream=dead) as served:
            async with served.http.get(f"{served.url}/canvas") as response:
                assert response.status == 502
                assert list(await response.json()) == ["error"]
            async with served.http.get(f"{served.url}/canvas", headers={"Upgrade": "websocket"}) as response:
                assert response.status == 502
            await served.create(CHILD, {"content": "still saved", "scope": "LOCAL"})
            called = await served.mcp(CHILD, "tools/call", {"name": "recall_memory", "arguments": {}})
            assert "still saved" in called["result"]["content"][0]["text"]
            async with served.post_mcp(CHILD, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) as response:
                assert response.status == 502


# -- MCP beside an upstream ------------------------------------------------------------------------------------------


def json_rpc(result: Any) -> Handler:
    """An upstream that answers every MCP request with `result`."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        message = json.loads(await request.read())
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    return answer


async def test_tools_are_the_upstreams_with_the_memory_tools_once(served: Served, upstream: WorkspaceServer) -> None:
    theirs = [{"name": "delegate_task", "inputSchema": {}}, {"name": "commit_memory", "description": "v1's own"}]
    upstream.answer = json_rpc({"tools": theirs, "nextCursor": "more"})
    first = (await served.mcp(CHILD, "tools/list"))["result"]
    names = [tool["name"] for tool in first["tools"]]
    assert names == ["delegate_task", *TOOLS]
    assert first["nextCursor"] == "more"
    assert first["tools"][1]["description"] != "v1's own"
    second = (await served.mcp(CHILD, "tools/list", {"cursor": "more"}))["result"]
    assert [tool["name"] for tool in second["tools"]] == ["delegate_task"]


async def test_a_tools_list_as_an_event_stream_is_understood(served: Served, upstream: WorkspaceServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        message = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"name": "other"}]}})
        return web.Response(text=f": hi\n\nevent: message\ndata: {message}\n\n", content_type="text/event-stream")

    upstream.answer = answer
    result = (await served.mcp(CHILD, "tools/list", request_id=7))["result"]
    assert [tool["name"] for tool in result["tools"]] == ["other", *TOOLS]


async def test_an_upstreams_refusal_to_list_is_passed_on(served: Served, upstream: WorkspaceServer) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"error": "not you"}, status=401)

    upstream.answer = answer
    async with served.post_mcp(CHILD, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}) as response:
        assert (response.status, await response.json()) == (401, {"error": "not you"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc": "2.0",  "id": 1, "method": "initialize", "params": {"odd":   1e3}}',
        b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"delegate_task","arguments":{"a":1.0}}}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b"not json at all",
    ],
)
async def test_what_is_no_memory_tool_goes_on_byte_for_byte(
    served: Served, upstream: WorkspaceServer, body: bytes
) -> None:
    url = f"{served.url}/workspaces/{CHILD}/mcp"
    async with served.http.post(url, data=body, headers={"Authorization": "Bearer x"}) as response:
        assert await response.json() == {"from": "upstream"}
    assert upstream.bodies == [body]
    assert upstream.requests[0].raw_path == f"/workspaces/{CHILD}/mcp"
    assert upstream.requests[0].headers["Authorization"] == "Bearer x"


async def test_a_memory_tool_still_needs_the_token(served: Served, upstream: WorkspaceServer) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "recall_memory"}}
    async with served.http.post(f"{served.url}/workspaces/{CHILD}/mcp", json=message) as response:
        assert (response.status, await response.json()) == (401, {"error": "missing workspace auth token"})
    assert upstream.requests == []


async def test_a_mixed_batch_is_answered_by_whom_each_message_belongs_to(
    served: Served, upstream: WorkspaceServer
) -> None:
    upstream.answer = json_rpc({"tools": [], "theirs": True})
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "recall_memory", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "delegate_task"}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/list"},
    ]
    async with served.post_mcp(CHILD, batch) as response:
        recall, delegated, listed = await response.json()
    assert recall["result"]["content"][0]["text"] == "No memories found."
    assert (delegated["id"], delegated["result"]["theirs"]) == (2, True)
    assert len(listed["result"]["tools"]) == len(TOOLS)


async def test_the_stream_hint_is_the_upstreams(served: Served, upstream: WorkspaceServer) -> None:
    async with served.http.get(f"{served.url}/workspaces/{CHILD}/mcp/stream") as response:
        assert await response.json() == {"from": "upstream"}
    assert URL(upstream.requests[0].raw_path).path.endswith("/mcp/stream")
