"""The memory tools of the MCP bridge (domain §2): what each takes, and what it does.

A tool answers with text, which is what an agent reads. Namespaces from an agent are never trusted: what it may read
and write is derived from the tree at every call (domain §3).
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import Field

from cutover.domain.errors import Forbidden, InvalidRequest
from cutover.domain.memory import Kind, PluginMemory
from cutover.domain.namespace import Scope, kind_of
from cutover.domain.requests import (
    CommitMemory,
    CreateMemory,
    ForgetMemory,
    ListMemories,
    Receipt,
    SearchMemories,
)
from cutover.http import plugin_bodies as bodies
from cutover.http.memories_face import ANSWER_SECONDS, READ_LATE, SCOPE_RULE, WRITE_LATE, ServedTenant, go_time
from cutover.http.server import Call

GLOBAL_REFUSED = "GLOBAL scope is not permitted via the MCP bridge — use LOCAL or TEAM"
NOTHING_FOUND = "No memories found."
SUMMARY_LIFE = timedelta(days=30)
RECALL_LIMIT = 50
MAX_SEARCH_LIMIT = 100


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the agent of `workspace_id`."""

    call: Call[ServedTenant]
    workspace_id: UUID
    arguments: bytes
    """The arguments, as JSON."""
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as `tools/list` shows it, and what runs it. `run` gives the text of the result."""

    name: str
    description: str
    properties: Mapping[str, Any]
    required: tuple[str, ...]
    run: Callable[[ToolCall], Awaitable[str]]

    def listing(self) -> dict[str, Any]:
        """Its entry in `tools/list`."""
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.properties)}
        if self.required:
            schema["required"] = list(self.required)
        return {"name": self.name, "description": self.description, "inputSchema": schema}


class CommitArguments(bodies.Body):
    content: bodies.Content
    scope: str = "LOCAL"


class RecallArguments(bodies.Body):
    query: str | None = None
    scope: str | None = None


class CommitV2Arguments(bodies.Body):
    content: bodies.Content
    namespace: bodies.Name | None = None
    kind: Kind | None = None
    expires_at: bodies.Moment | None = None
    pin: bool | None = None


class SummaryArguments(bodies.Body):
    content: bodies.Content
    namespace: bodies.Name | None = None
    expires_at: bodies.Moment | None = None


class SearchArguments(bodies.Body):
    query: str | None = None
    namespaces: list[bodies.Name] | None = None
    kinds: list[Kind] | None = None
    limit: int | None = Field(default=None, ge=0)


class ForgetArguments(bodies.Body):
    memory_id: bodies.Uuid
    namespace: bodies.Name | None = None


async def commit_memory(tool: ToolCall) -> str:
    """v1's save. The MCP path keeps the workspace's id as the label (domain §2)."""
    given = bodies.parse(CommitArguments, tool.arguments)
    scope = _scope(given.scope or "LOCAL")
    if scope is Scope.GLOBAL:
        raise Forbidden(GLOBAL_REFUSED)
    label = str(tool.workspace_id)
    request = CreateMemory(tool.workspace_id, given.content, scope, label, tool.idempotency_key)
    memories = tool.call.tenant.memories
    receipt = await tool.call.within(ANSWER_SECONDS, memories.create(request, tool.call.caller), WRITE_LATE)
    return _text({"id": str(receipt.id), "scope": scope})


async def recall_memory(tool: ToolCall) -> str:
    """v1's list and search, at most 50."""
    given = bodies.parse(RecallArguments, tool.arguments)
    scope = _scope(given.scope) if given.scope else None
    request = ListMemories(tool.workspace_id, scope, given.query or "", None, RECALL_LIMIT)
    work = tool.call.tenant.memories.list(request, tool.call.caller)
    page = await tool.call.read_within(ANSWER_SECONDS, work, READ_LATE)
    if not page.memories:
        return NOTHING_FOUND
    return _text(
        [
            {
                "id": str(memory.id),
                "content": memory.content,
                "scope": memory.scope,
                "created_at": go_time(memory.created_at),
            }
            for memory in page.memories
        ]
    )


async def commit_memory_v2(tool: ToolCall) -> str:
    """The contract's commit, into a namespace this workspace may write to."""
    given = bodies.parse(CommitV2Arguments, tool.arguments)
    request = CommitMemory(
        namespace=await _writable(tool, given.namespace),
        content=given.content,
        kind=given.kind or Kind.FACT,
        expires_at=given.expires_at,
        pin=given.pin is True,
        idempotency_key=tool.idempotency_key,
    )
    return await _commit(tool, request)


async def commit_summary(tool: ToolCall) -> str:
    """A summary that goes by itself, after 30 days unless the agent says when."""
    given = bodies.parse(SummaryArguments, tool.arguments)
    request = CommitMemory(
        namespace=await _writable(tool, given.namespace),
        content=given.content,
        kind=Kind.SUMMARY,
        expires_at=given.expires_at or datetime.now(UTC) + SUMMARY_LIFE,
        idempotency_key=tool.idempotency_key,
    )
    return await _commit(tool, request)


async def search_memory(tool: ToolCall) -> str:
    """The contract's search, within what this workspace may read."""
    given = bodies.parse(SearchArguments, tool.arguments)
    readable = dict.fromkeys((await tool.call.tenant.memories.tree(tool.workspace_id)).readable())
    asked = readable if not given.namespaces else dict.fromkeys(given.namespaces)
    namespaces = tuple(name for name in asked if name in readable)
    if not namespaces:
        return _text({"memories": []})
    request = SearchMemories(
        namespaces,
        given.query or "",
        frozenset(given.kinds or ()),
        None if given.limit is None else min(given.limit, MAX_SEARCH_LIMIT),
    )
    work = tool.call.tenant.memories.search(request, tool.call.caller)
    result = await tool.call.read_within(ANSWER_SECONDS, work, READ_LATE)
    return _text({"memories": [_found(memory) for memory in result.memories]})


def _found(memory: PluginMemory) -> dict[str, Any]:
    """A memory as the contract writes it: what is absent or false is left out."""
    optional = {
        "expires_at": go_time(memory.expires_at),
        "propagation": memory.propagation,
        "pin": memory.pin or None,
        "score": memory.score,
    }
    return {
        "id": str(memory.id),
        "namespace": memory.namespace,
        "content": memory.content,
        "kind": memory.kind,
        "source": memory.source,
        "created_at": go_time(memory.created_at),
        **{name: value for name, value in optional.items() if value is not None},
    }


async def list_writable_namespaces(tool: ToolCall) -> str:
    """What this workspace may write to; the organisation's only for a root."""
    return _namespaces((await tool.call.tenant.memories.tree(tool.workspace_id)).writable())


async def list_readable_namespaces(tool: ToolCall) -> str:
    """What this workspace may read."""
    return _namespaces((await tool.call.tenant.memories.tree(tool.workspace_id)).readable())


async def forget_memory(tool: ToolCall) -> str:
    """The contract's forget, in a namespace this workspace may write to."""
    given = bodies.parse(ForgetArguments, tool.arguments)
    request = ForgetMemory(given.memory_id, await _writable(tool, given.namespace))
    work = tool.call.tenant.memories.forget(request, tool.call.caller)
    await tool.call.within(ANSWER_SECONDS, work, WRITE_LATE)
    return _text({"forgotten": True})


async def _commit(tool: ToolCall, request: CommitMemory) -> str:
    work = tool.call.tenant.memories.commit(request, tool.call.caller)
    receipt: Receipt = await tool.call.within(ANSWER_SECONDS, work, WRITE_LATE)
    return _text({"id": str(receipt.id), "namespace": receipt.namespace})


async def _writable(tool: ToolCall, asked: str | None) -> str:
    tree = await tool.call.tenant.memories.tree(tool.workspace_id)
    if asked is None:
        return tree.namespace(Scope.LOCAL)
    if asked not in tree.writable():
        raise Forbidden(f"this workspace may not write to {asked}; see list_writable_namespaces")
    return asked


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise InvalidRequest(SCOPE_RULE) from None


def _namespaces(names: tuple[str, ...]) -> str:
    return _text({"namespaces": [{"name": name, "kind": kind_of(name)} for name in dict.fromkeys(names)]})


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_CONTENT = {"type": "string", "description": "What to remember."}
_SCOPE = {"type": "string", "enum": ["LOCAL", "TEAM"], "default": "LOCAL", "description": "Who may recall it."}
_NAMESPACE = {"type": "string", "description": "Default: this workspace's own."}
_KIND = {"type": "string", "enum": [kind.value for kind in Kind]}
_EXPIRES = {"type": "string", "format": "date-time", "description": "RFC 3339; forgotten after it."}

TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "commit_memory",
            "Save something to remember, for this workspace (LOCAL) or its team (TEAM).",
            {"content": _CONTENT, "scope": _SCOPE},
            ("content",),
            commit_memory,
        ),
        Tool(
            "recall_memory",
            "Recall saved memories, by words in them or the newest; at most 50.",
            {
                "query": {"type": "string", "description": "Words to look for; none: the newest."},
                "scope": {"type": "string", "enum": [scope.value for scope in Scope]},
            },
            (),
            recall_memory,
        ),
        Tool(
            "commit_memory_v2",
            "Save a memory to a namespace, with a kind, an expiry, or pinned.",
            {
                "content": _CONTENT,
                "namespace": _NAMESPACE,
                "kind": {**_KIND, "default": Kind.FACT.value},
                "expires_at": _EXPIRES,
                "pin": {"type": "boolean", "description": "Listed before others."},
            },
            ("content",),
            commit_memory_v2,
        ),
        Tool(
            "search_memory",
            "Search the memories of the namespaces this workspace may read.",
            {
                "query": {"type": "string", "description": "Words to look for; none: pinned, then newest."},
                "namespaces": {"type": "array", "items": {"type": "string"}},
                "kinds": {"type": "array", "items": _KIND},
                "limit": {"type": "integer", "minimum": 0, "maximum": MAX_SEARCH_LIMIT, "default": 20},
            },
            (),
            search_memory,
        ),
        Tool(
            "commit_summary",
            "Save a summary; it is forgotten after 30 days unless expires_at says otherwise.",
            {"content": _CONTENT, "namespace": _NAMESPACE, "expires_at": _EXPIRES},
            ("content",),
            commit_summary,
        ),
        Tool(
            "list_writable_namespaces", "The namespaces this workspace may save to.", {}, (), list_writable_namespaces
        ),
        Tool("list_readable_namespaces", "The namespaces this workspace may read.", {}, (), list_readable_namespaces),
        Tool(
            "forget_memory",
            "Forget one memory for good.",
            {"memory_id": {"type": "string", "format": "uuid"}, "namespace": _NAMESPACE},
            ("memory_id",),
            forget_memory,
        ),
    )
}
