"""The MCP bridge's messages: which are ours, what merges, and schemas that are schemas."""

import json
from typing import Any

import pytest
from mcp.types import Tool
from multidict import CIMultiDict

from cutover.http import mcp
from cutover.http.mcp_tools import TOOLS
from cutover.http.upstream import Answer


def call(name: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name}, **more}


@pytest.mark.parametrize("name", list(TOOLS))
def test_every_tool_has_a_schema_that_is_one_and_names_what_it_requires(name: str) -> None:
    listing = TOOLS[name].listing()
    assert Tool.model_validate(listing).name == name  # as the official client reads it
    assert all(each["type"] for each in listing["inputSchema"]["properties"].values())
    assert set(listing["inputSchema"].get("required", ())) <= set(listing["inputSchema"]["properties"])
    assert listing["description"]


def test_all_memory_tools_of_the_platform_are_there() -> None:
    assert set(TOOLS) == {
        "commit_memory",
        "recall_memory",
        "commit_memory_v2",
        "search_memory",
        "commit_summary",
        "list_writable_namespaces",
        "list_readable_namespaces",
        "forget_memory",
    }


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        (call("commit_memory"), True),
        (call("delegate_task"), False),
        (call(None), False),
        (call(["commit_memory"]), False),
        ({**call("commit_memory"), "method": "tools/list"}, False),
        ({**call("x"), "params": ["commit_memory"]}, False),
        ("commit_memory", False),
        (None, False),
    ],
)
def test_what_is_ours_beside_an_upstream(message: Any, ours: bool) -> None:
    assert mcp._is_ours(message) is ours


@pytest.mark.parametrize(
    "message", [{"jsonrpc": "2.0", "method": "notifications/x"}, {"jsonrpc": "2.0", "id": 1, "error": {}}]
)
def test_no_answer_is_due(message: Any) -> None:
    assert mcp._method(message) is None


def test_merging_leaves_what_is_no_list_of_tools_alone() -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for response in (
        {"id": 1, "error": {"code": -32601}},
        {"id": 1, "result": []},
        {"id": 1, "result": {"tools": None}},
    ):
        assert mcp._merged(response, request) == response


def test_merging_keeps_what_else_the_upstream_said() -> None:
    response = {"jsonrpc": "2.0", "id": 1, "result": {"tools": ["odd", {"name": "a"}], "_meta": {"k": 1}}}
    merged = mcp._merged(response, {"params": {"cursor": ""}})
    assert merged["result"]["_meta"] == {"k": 1}
    assert merged["result"]["tools"][:2] == ["odd", {"name": "a"}]
    assert len(merged["result"]["tools"]) == 2 + len(TOOLS)


@pytest.mark.parametrize(
    ("body", "content_type", "found"),
    [
        ({"id": 5, "result": 1}, "application/json", True),
        ({"id": "5", "result": 1}, "application/json", False),
        ([1], "application/json", False),
        ('event: message\r\ndata: {"id": 5,\r\ndata:  "result": 1}\r\n\r\n', "text/event-stream", True),
        ('data: {"id": 4}\n\ndata: {"id": 5}\n\n', "text/event-stream", True),
        ("data: half {", "text/event-stream", False),
        ("", "text/event-stream", False),
    ],
)
def test_the_response_in_an_upstreams_answer(body: Any, content_type: str, found: bool) -> None:
    raw = body if isinstance(body, str) else json.dumps(body)
    answer = Answer(200, CIMultiDict(), raw.encode(), content_type)
    response = mcp._response_in(answer, 5)
    assert (response is not None) is found
    if response is not None:
        assert response["id"] == 5
