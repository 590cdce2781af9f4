"""The memories face: v1's REST routes, session-search, and the MCP bridge (architecture §2, domain §2).

Byte-compatible with workspace-server in every phase: the same shapes, statuses and sentences. Where v1 leaves a
choice open, this is what a Go server with uuid columns does and what is done here:

* a malformed memory id is a memory that does not exist: 404; a malformed workspace id cannot be what a token is bound
  to: 401 (400 on a trusted network);
* a `scope` outside the three in a listing means no scope, as unknown query parameters are ignored; in a body it is 400;
* a `limit` that is no number is the default; others clamp;
* an absent or empty label in a create is `general`.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from aiohttp import web

from cutover.domain.errors import InvalidRequest, NotFound
from cutover.domain.memory import MAX_LABEL_LENGTH, LegacyMemory, SessionItem
from cutover.domain.namespace import Scope, WorkspaceTree
from cutover.domain.requests import (
    Caller,
    CommitMemory,
    CreateMemory,
    DeleteMemory,
    EditMemory,
    ForgetMemory,
    ListMemories,
    MemoryPage,
    Receipt,
    SearchMemories,
    SearchResult,
    SessionPage,
    Shadow,
)
from cutover.http import plugin_bodies as bodies
from cutover.http.auth import TokenLookup, WorkspaceAuth, uuid_in
from cutover.http.server import Call, Route
from cutover.http.wire import idempotency_key, json_response, rfc3339

ANSWER_SECONDS = 9.0
"""After the head was read; the agent runtime gives up at 10 s (domain §2)."""
WRITE_LATE = "no result in time; the write is still under way and may yet be applied"
READ_LATE = "no result in time"
DEFAULT_LIST_LIMIT = 50
DEFAULT_SESSION_LIMIT = 50
SCOPE_RULE = "scope must be LOCAL, TEAM, or GLOBAL"
LABEL_RULE = f"namespace must be {MAX_LABEL_LENGTH} characters or less"
_SCOPES = {scope.value: scope for scope in Scope}
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class Memories(Protocol):
    """What this face needs of the engine's `MemoryService`."""

    async def create(self, request: CreateMemory, caller: Caller) -> Receipt: ...
    async def edit(self, request: EditMemory, caller: Caller) -> Receipt: ...
    async def delete(self, request: DeleteMemory, caller: Caller) -> Shadow | None: ...
    async def commit(self, request: CommitMemory, caller: Caller) -> Receipt: ...
    async def forget(self, request: ForgetMemory, caller: Caller) -> Shadow | None: ...
    async def list(self, request: ListMemories, caller: Caller) -> MemoryPage: ...
    async def session_search(self, workspace_id: UUID, query: str, limit: int, caller: Caller) -> SessionPage: ...
    async def search(self, request: SearchMemories, caller: Caller) -> SearchResult: ...
    async def tree(self, workspace_id: UUID) -> WorkspaceTree: ...


class ServedTenant(Protocol):
    """A tenant, as far as this face knows it."""

    @property
    def name(self) -> str: ...
    @property
    def memories(self) -> Memories: ...
    @property
    def tokens(self) -> TokenLookup: ...


class CreateBody(bodies.Body):
    """`POST /workspaces/{id}/memories`."""

    content: bodies.Content
    scope: bodies.Text
    namespace: bodies.Text | None = None


class EditBody(bodies.Body):
    """`PATCH /workspaces/{id}/memories/{memoryId}`."""

    content: bodies.Text | None = None
    namespace: bodies.Text | None = None


class MemoriesFace:
    """The handlers of the v1 routes."""

    def __init__(self, auth: WorkspaceAuth) -> None:
        self._auth = auth

    def routes(self) -> tuple[Route[ServedTenant], ...]:
        """v1's routes. MCP's are its own, in `mcp.py`."""
        memories = "/workspaces/{workspace:[^/]+}/memories"
        one = memories + "/{memory:[^/]+}"
        return (
            Route("POST", memories, "create_memory", self.create),
            Route("GET", memories, "list_memories", self.list),
            Route("PATCH", one, "edit_memory", self.edit),
            Route("DELETE", one, "delete_memory", self.delete),
            Route("GET", "/workspaces/{workspace:[^/]+}/session-search", "session_search", self.session_search),
        )

    async def create(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """`POST …/memories` → 201 `{id, scope, namespace}`."""
        workspace_id = await authenticated(self._auth, call)
        body = bodies.parse(CreateBody, await call.body())
        scope = _SCOPES.get(body.scope)
        if scope is None:
            raise InvalidRequest(SCOPE_RULE)
        request = CreateMemory(
            workspace_id,
            body.content,
            scope,
            _label(body.namespace or None),
            idempotency_key(call.request.headers.get("Idempotency-Key")),
        )
        work = call.tenant.memories.create(request, call.caller)
        receipt = await call.within(ANSWER_SECONDS, work, WRITE_LATE)
        answer = {"id": str(receipt.id), "scope": receipt.scope, "namespace": receipt.label}
        return json_response(201, answer, shadow_header(receipt.shadow))

    async def list(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """`GET …/memories?scope=&q=&namespace=&limit=` → an array."""
        workspace_id = await authenticated(self._auth, call)
        query = call.request.query
        request = ListMemories(
            workspace_id=workspace_id,
            scope=_SCOPES.get(query.get("scope", "")),
            query=query.get("q", ""),
            label=_storable(query.get("namespace", "")) or None,
            limit=_limit(query.get("limit", ""), DEFAULT_LIST_LIMIT),
        )
        work = call.tenant.memories.list(request, call.caller)
        page = await call.read_within(ANSWER_SECONDS, work, READ_LATE)
        return json_response(200, [_row(memory) for memory in page.memories], partial_header(page.partial))

    async def edit(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """`PATCH …/memories/{memoryId}` → 200 `{id, scope, namespace, changed}`."""
        workspace_id = await authenticated(self._auth, call)
        body = bodies.parse(EditBody, await call.body())
        if body.content is None and body.namespace is None:
            raise InvalidRequest("at least one of content or namespace is required")
        if body.content is not None and not body.content.strip():
            raise InvalidRequest("content cannot be empty")
        if body.namespace is not None and not body.namespace.strip():
            raise InvalidRequest("namespace cannot be empty")
        request = EditMemory(workspace_id, _memory_id(call), body.content, _label(body.namespace))
        work = call.tenant.memories.edit(request, call.caller)
        receipt = await call.within(ANSWER_SECONDS, work, WRITE_LATE)
        answer = {
            "id": str(receipt.id),
            "scope": receipt.scope,
            "namespace": receipt.label,
            "changed": receipt.changed,
        }
        return json_response(200, answer, shadow_header(receipt.shadow))

    async def delete(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """`DELETE …/memories/{memoryId}` → 200 `{"status":"deleted"}`."""
        workspace_id = await authenticated(self._auth, call)
        request = DeleteMemory(workspace_id, _memory_id(call))
        shadow = await call.within(ANSWER_SECONDS, call.tenant.memories.delete(request, call.caller), WRITE_LATE)
        return json_response(200, {"status": "deleted"}, shadow_header(shadow))

    async def session_search(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """`GET …/session-search?q=&limit=` → activity and memory rows together, newest first."""
        workspace_id = await authenticated(self._auth, call)
        query = call.request.query
        limit = _limit(query.get("limit", ""), DEFAULT_SESSION_LIMIT)
        work = call.tenant.memories.session_search(workspace_id, query.get("q", ""), limit, call.caller)
        page = await call.read_within(ANSWER_SECONDS, work, READ_LATE)
        return json_response(200, [_item(item) for item in page.items], partial_header(page.partial))


async def authenticated(auth: WorkspaceAuth, call: Call[ServedTenant]) -> UUID:
    """The workspace in the path, once the caller has shown that it speaks for it."""
    tenant, request = call.tenant, call.request
    path_id, header = request.match_info["workspace"], request.headers.get("Authorization")
    return await auth.workspace(tenant.name, tenant.tokens, path_id, header)


def shadow_header(shadow: Shadow | None) -> Mapping[str, str] | None:
    """`Cutover-Shadow`, where the write went to two stores."""
    return None if shadow is None else {"Cutover-Shadow": shadow.value}


def partial_header(partial: bool) -> Mapping[str, str] | None:
    """`Cutover-Partial`, where the contract's cap may have hidden rows."""
    return {"Cutover-Partial": "true"} if partial else None


def go_time(moment: Any) -> str | None:
    """A timestamp as Go writes it: RFC 3339, the fraction without trailing zeros."""
    if moment is None:
        return None
    text = rfc3339(moment).removesuffix("Z")
    return (text.rstrip("0") if "." in text else text) + "Z"


def _label(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_LABEL_LENGTH:
        raise InvalidRequest(LABEL_RULE)
    return text


def _storable(text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidRequest("a parameter holds a character that no memory can hold")
    return text


def _limit(text: str, default: int) -> int:
    return int(text) if _NUMBER.fullmatch(text) else default


def _memory_id(call: Call[ServedTenant]) -> UUID:
    memory_id = uuid_in(call.request.match_info["memory"])
    if memory_id is None:
        raise NotFound("memory not found")
    return memory_id


def _row(memory: LegacyMemory) -> dict[str, Any]:
    return {
        "id": str(memory.id),
        "workspace_id": None if memory.workspace_id is None else str(memory.workspace_id),
        "content": memory.content,
        "scope": memory.scope,
        "namespace": memory.label,
        "created_at": go_time(memory.created_at),
    }


def _item(item: SessionItem) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "id": str(item.id),
        "workspace_id": str(item.workspace_id),
        "label": item.label,
        "content": item.content,
        "method": item.method,
        "status": item.status,
        "request_body": item.request_body,
        "response_body": item.response_body,
        "created_at": go_time(item.created_at),
    }
