"""The MCP bridge over a real socket: with the official client, and message by message."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx2 import AsyncClient
from mcp import ClientSession
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from cutover.domain.phase import Phase
from cutover.http.mcp_tools import GLOBAL_REFUSED, TOOLS
from tests.integration.memories_scene import Served, served_on
from tests.integration.read_scene import CHILD, ROOT, SIBLING, STRANGER

DUAL = (Phase.A1, Phase.A2, Phase.A3)


@pytest.fixture
async def served(database: str) -> AsyncIterator[Served]:
    async with served_on(database) as made:
        yield made


async def tool(served: Served, workspace: UUID, name: str, **arguments: Any) -> Any:
    """The text of a tool's result, read as JSON where it is; fails on an error."""
    answer = await served.mcp(workspace, "tools/call", {"name": name, "arguments": arguments})
    result = answer["result"]
    assert not result.get("isError"), result
    (part,) = result["content"]
    assert part["type"] == "text"
    try:
        return json.loads(part["text"])
    except ValueError:
        return part["text"]


async def failure(served: Served, workspace: UUID, name: str, **arguments: Any) -> str:
    """The text of a tool's error."""
    answer = await served.mcp(workspace, "tools/call", {"name": name, "arguments": arguments})
    assert answer["result"]["isError"] is True
    return str(answer["result"]["content"][0]["text"])


# -- the official client ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def http_of(served: Served, workspace: UUID) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(headers=served.bearer(workspace), timeout=10) as client:
        yield client


async def test_the_official_session_works_end_to_end(served: Served) -> None:
    url = f"{served.url}/workspaces/{CHILD}/mcp"
    async with (
        http_of(served, CHILD) as http,
        streamable_http_client(url, http_client=http) as (read, write),
        ClientSession(read, write) as session,
    ):
        started = await session.initialize()
        assert started.server_info.name == "cutover"
        assert started.capabilities.tools is not None
        listed = await session.list_tools()
        assert [each.name for each in listed.tools] == list(TOOLS)
        saved = await session.call_tool("commit_memory", {"content": "the client was here", "scope": "TEAM"})
        assert saved.is_error is not True
        recalled = await session.call_tool("recall_memory", {"query": "client", "scope": "TEAM"})
        (part,) = recalled.content
        assert json.loads(part.text)[0]["content"] == "the client was here"  # type: ignore[union-attr]
        refused = await session.call_tool("commit_memory", {"content": "x", "scope": "GLOBAL"})
        assert refused.is_error is True


async def test_the_official_high_level_client_negotiates(served: Served) -> None:
    """It asks with `server/discover` first and must fall back to `initialize`."""
    url = f"{served.url}/workspaces/{ROOT}/mcp"
    async with http_of(served, ROOT) as http, Client(streamable_http_client(url, http_client=http)) as client:
        listed = await client.list_tools()
        assert [each.name for each in listed.tools] == list(TOOLS)
        result = await client.call_tool("list_writable_namespaces", {})
        assert result.is_error is not True


# -- JSON-RPC --------------------------------------------------------------------------------------------------------


VERSIONS: tuple[tuple[str | None, str], ...] = (
    ("2024-11-05", "2024-11-05"),
    ("2025-03-26", "2025-03-26"),
    ("2025-06-18", "2025-06-18"),
    ("2025-11-25", "2025-11-25"),
    ("2024-10-07", "2024-11-05"),
    ("2031-01-01", "2025-11-25"),
    (None, "2024-11-05"),
)


async def test_protocol_versions(served: Served) -> None:
    for asked, given in VERSIONS:
        answer = await served.mcp(ROOT, "initialize", {"protocolVersion": asked, "capabilities": {}})
        assert answer["result"]["protocolVersion"] == given, asked


PROTOCOL_ERRORS: tuple[tuple[bytes, int, int], ...] = (
    (b"{", 400, -32700),
    (b"", 400, -32700),
    (b"\xff", 400, -32700),
    (b"[" * 100_000, 400, -32700),
    (b"7", 400, -32600),
    (b"[]", 400, -32600),
    (b'{"id": 1, "method": "ping"}', 400, -32600),
    (b'{"jsonrpc": "2.0", "id": 1}', 400, -32600),
    (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', 400, -32600),
    (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', 400, -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', 400, -32600),
    (b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "recall_memory"}}', 400, -32600),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}', 200, -32601),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', 200, -32602),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call"}', 200, -32602),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ["x"]}}', 200, -32602),
    (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "delegate_task"}}', 200, -32602),
    (
        b'{"jsonrpc":"2.0", "id": 1, "method":"tools/call", "params":{"name":"recall_memory", "arguments":[]}}',
        200,
        -32602,
    ),
)


async def test_protocol_errors(served: Served) -> None:
    url, headers = f"{served.url}/workspaces/{ROOT}/mcp", served.bearer(ROOT)
    for body, status, code in PROTOCOL_ERRORS:
        async with served.http.post(url, data=body, headers=headers) as response:
            answer = await response.json()
            assert response.status == status, body[:80]
        assert answer["jsonrpc"] == "2.0"
        assert answer["error"]["code"] == code, body[:80]
        assert answer["id"] == (1 if b'"id": 1' in body else None)


async def test_ids_come_back_as_they_were_sent(served: Served) -> None:
    for request_id in (0, 7, "7", "ü"):
        assert await served.mcp(ROOT, "ping", request_id=request_id) == {
            "jsonrpc": "2.0",
            "id": request_id,
            "result": {},
        }


UNANSWERED: tuple[Any, ...] = (
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    {"jsonrpc": "2.0", "id": 4, "result": {}},
    [{"jsonrpc": "2.0", "method": "notifications/initialized"}],
)


async def test_notifications_and_responses_get_202_and_no_body(served: Served) -> None:
    for message in UNANSWERED:
        async with served.post_mcp(ROOT, message) as response:
            assert (response.status, await response.read()) == (202, b""), message


async def test_a_batch_is_answered_in_order(served: Served) -> None:
    save = {"name": "commit_memory", "arguments": {"content": "batched"}}
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": save},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {"name": "recall_memory"}},
        "nonsense",
        {"jsonrpc": "2.0", "id": 3, "method": "nope"},
    ]
    async with served.post_mcp(ROOT, batch) as response:
        saved, recalled, malformed, unknown = await response.json()
        assert response.status == 200
    assert saved["id"] == 1
    assert "batched" in recalled["result"]["content"][0]["text"]
    assert (malformed["id"], malformed["error"]["code"]) == (None, -32600)
    assert (unknown["id"], unknown["error"]["code"]) == (3, -32601)
    async with served.post_mcp(ROOT, [batch[1]] * 101) as response:
        assert response.status == 400


async def test_the_bridge_has_no_get_and_its_stream_names_the_endpoint(served: Served) -> None:
    async with served.call("GET", f"/workspaces/{ROOT}/mcp", ROOT) as response:
        assert response.status == 405
    for prefix in ("", "/tenants/default"):
        path = f"{prefix}/workspaces/{ROOT}/mcp"
        async with served.call("GET", f"{path}/stream", ROOT) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            event = await response.content.readuntil(b"\n\n")
            assert event.decode() == f"event: endpoint\ndata: {path}\n\n"


async def test_open_streams_end_when_the_face_stops(served: Served) -> None:
    async with served.call("GET", f"/workspaces/{ROOT}/mcp/stream", ROOT) as response:
        await response.content.readuntil(b"\n\n")
        await served.face.stop(deadline=5.0)
        assert await response.content.read() == b""


# -- v1's tools ------------------------------------------------------------------------------------------------------


async def test_commit_and_recall_in_every_phase(served: Served) -> None:
    assert await tool(served, CHILD, "recall_memory") == "No memories found."
    for phase in Phase:
        if phase is Phase.A4:
            continue
        await served.enter(phase)
        saved = await tool(served, CHILD, "commit_memory", content=f"learnt in {phase}", scope="TEAM", workspace_id="x")
        assert saved == {"id": saved["id"], "scope": "TEAM"}
        (found,) = await tool(served, SIBLING, "recall_memory", query=phase.value, scope="TEAM")
        assert set(found) == {"id", "content", "scope", "created_at"}
        assert (found["id"], found["content"], found["scope"]) == (saved["id"], f"learnt in {phase}", "TEAM")
        (row,) = [row for row in await served.list(CHILD) if row["id"] == saved["id"]]
        assert row["namespace"] == str(CHILD)  # the MCP path keeps the workspace's id as the label
    default = await tool(served, CHILD, "commit_memory", content="where to")
    assert default["scope"] == "LOCAL"


async def test_recall_gives_at_most_fifty(served: Served) -> None:
    for number in range(52):
        await served.create(ROOT, {"content": f"row {number}", "scope": "LOCAL"})
    assert len(await tool(served, ROOT, "recall_memory")) == 50


async def test_global_is_refused_in_v1s_words(served: Served) -> None:
    assert await failure(served, ROOT, "commit_memory", content="x", scope="GLOBAL") == GLOBAL_REFUSED
    assert GLOBAL_REFUSED == "GLOBAL scope is not permitted via the MCP bridge — use LOCAL or TEAM"
    assert await served.list(ROOT) == []


BAD_ARGUMENTS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("commit_memory", {}, "content"),
    ("commit_memory", {"content": ""}, "content"),
    ("commit_memory", {"content": "x", "scope": "local"}, "scope must be"),
    ("recall_memory", {"scope": "EVERYTHING"}, "scope must be"),
    ("commit_memory_v2", {"content": "x", "expires_at": "tomorrow"}, "expires_at"),
    ("commit_memory_v2", {"content": "x", "expires_at": 1767225600}, "expires_at"),
    ("commit_memory_v2", {"content": "x", "kind": "dream"}, "kind"),
    ("commit_summary", {"content": "x", "expires_at": "2026-13-01T00:00:00Z"}, "expires_at"),
    ("search_memory", {"limit": "ten"}, "limit"),
    ("forget_memory", {"memory_id": "not-a-uuid"}, "memory_id"),
)


async def test_bad_arguments_are_told_to_the_agent(served: Served) -> None:
    await served.enter(Phase.A1)
    for name, arguments, words in BAD_ARGUMENTS:
        assert words in await failure(served, ROOT, name, **arguments)
    assert await served.list(ROOT) == []
    assert (await tool(served, ROOT, "search_memory"))["memories"] == []


# -- v2's tools ------------------------------------------------------------------------------------------------------


async def test_v2_tools_from_a1_on(served: Served) -> None:
    for phase in DUAL:
        await served.enter(phase)
        expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fact = await tool(served, CHILD, "commit_memory_v2", content=f"fact of {phase}")
        assert fact == {"id": fact["id"], "namespace": f"workspace:{CHILD}"}
        passing = await tool(
            served,
            CHILD,
            "commit_memory_v2",
            content="passing",
            namespace=f"team:{ROOT}",
            kind="checkpoint",
            expires_at=expires,
            pin=True,
        )
        assert passing["namespace"] == f"team:{ROOT}"
        summary = await tool(served, CHILD, "commit_summary", content="in short")
        found = {each["id"]: each for each in (await tool(served, CHILD, "search_memory", limit=100))["memories"]}
        assert found[fact["id"]]["kind"] == "fact"
        assert found[passing["id"]] | {"created_at": "", "content": ""} == {
            "id": passing["id"],
            "namespace": f"team:{ROOT}",
            "content": "",
            "kind": "checkpoint",
            "source": "agent",
            "expires_at": expires,
            "pin": True,
            "created_at": "",
        }
        life = datetime.fromisoformat(found[summary["id"]]["expires_at"]) - datetime.now(UTC)
        assert timedelta(days=29, hours=23) < life <= timedelta(days=30)
        only = await tool(served, CHILD, "search_memory", kinds=["summary"], namespaces=[f"workspace:{CHILD}"])
        assert [each["id"] for each in only["memories"]] == [summary["id"]]
        for made, namespace in ((fact, None), (passing, f"team:{ROOT}"), (summary, None)):
            where = {} if namespace is None else {"namespace": namespace}
            assert await tool(served, CHILD, "forget_memory", memory_id=made["id"], **where) == {"forgotten": True}
        assert (await tool(served, CHILD, "search_memory"))["memories"] == []


async def test_what_legacy_cannot_hold_is_refused_in_a0(served: Served) -> None:
    assert await failure(served, ROOT, "commit_summary", content="in short")
    assert await tool(served, ROOT, "commit_memory_v2", content="a plain fact")


async def test_namespaces_of_a_child_and_of_a_root(served: Served) -> None:
    def entries(*names: str) -> dict[str, Any]:
        return {"namespaces": [{"name": name, "kind": name.partition(":")[0]} for name in names]}

    own, team, org = f"workspace:{CHILD}", f"team:{ROOT}", f"org:{ROOT}"
    assert await tool(served, CHILD, "list_readable_namespaces") == entries(own, team, org)
    assert await tool(served, CHILD, "list_writable_namespaces") == entries(own, team)
    assert await tool(served, ROOT, "list_writable_namespaces") == entries(f"workspace:{ROOT}", team, org)


async def test_a_namespace_from_the_caller_is_never_trusted(served: Served) -> None:
    await served.enter(Phase.A1)
    secret = await tool(served, STRANGER, "commit_memory_v2", content="secret")
    shared = await tool(served, ROOT, "commit_memory_v2", content="shared", namespace=f"org:{ROOT}")
    for namespace in (f"workspace:{STRANGER}", f"org:{ROOT}", "custom:anything"):
        assert "may not write" in await failure(served, CHILD, "commit_memory_v2", content="x", namespace=namespace)
        assert "may not write" in await failure(served, CHILD, "commit_summary", content="x", namespace=namespace)
        assert "may not write" in await failure(
            served, CHILD, "forget_memory", memory_id=shared["id"], namespace=namespace
        )
    outside = await tool(served, CHILD, "search_memory", namespaces=[f"workspace:{STRANGER}", "custom:anything"])
    assert outside == {"memories": []}
    both = await tool(served, CHILD, "search_memory", namespaces=[f"workspace:{STRANGER}", f"org:{ROOT}"])
    assert [each["id"] for each in both["memories"]] == [shared["id"]]
    assert await failure(served, CHILD, "forget_memory", memory_id=secret["id"])
    assert await failure(served, CHILD, "forget_memory", memory_id=str(uuid4()))
    assert len((await tool(served, STRANGER, "search_memory"))["memories"]) == 1


async def test_a_refusal_is_a_result_that_the_agent_can_read(served: Served) -> None:
    await served.enter(Phase.A1)
    await served.stop_plugin()
    assert await failure(served, ROOT, "commit_memory", content="x")
    assert await failure(served, ROOT, "recall_memory")
    assert served.refused() == 2
