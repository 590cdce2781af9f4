"""The plugin face: the plugin contract v1 (domain §3), served by the daemon in place of a plugin.

workspace-server is moved onto the daemon by pointing its `MEMORY_PLUGIN_URL` here, so nothing but two added headers
(`Cutover-Shadow` on writes, `Cutover-Partial` on searches) tells this face from a plugin. Its caller gives up after
2 s, and three time-outs in a row cost a whole tenant a minute of memory (domain §2): hence the deadline (1.8 s) before
which this face answers 503 by itself, whatever the stores are doing, while the write goes on in its own task.
"""

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from aiohttp import web

from cutover.domain.errors import InvalidRequest
from cutover.domain.events import Observer
from cutover.domain.memory import Namespace, PluginMemory
from cutover.domain.requests import (
    UNSET,
    Caller,
    CommitMemory,
    ForgetMemory,
    PatchNamespace,
    PutNamespace,
    Receipt,
    SearchMemories,
    SearchResult,
    Shadow,
)
from cutover.http import plugin_bodies as bodies
from cutover.http.errors import contract_shape
from cutover.http.limits import Limits
from cutover.http.server import Call, Directory, Face, Route
from cutover.http.wire import idempotency_key, json_response, rfc3339

MARGIN_SECONDS = 0.05
"""For turning the guard's verdict into bytes on the wire."""
BODY_SHARE = 0.7
"""Of the time for the answer: how long a body may take, so that some is left for the stores."""
_WRITE_LATE = "no result in time; the write is still under way and may yet be applied"
_READ_LATE = "no result in time"


class Memories(Protocol):
    """What this face needs of the engine's `MemoryService`."""

    async def commit(self, request: CommitMemory, caller: Caller) -> Receipt: ...
    async def forget(self, request: ForgetMemory, caller: Caller) -> Shadow | None: ...
    async def search(self, request: SearchMemories, caller: Caller) -> SearchResult: ...
    async def put_namespace(self, request: PutNamespace, caller: Caller) -> Namespace: ...
    async def patch_namespace(self, request: PatchNamespace, caller: Caller) -> Namespace: ...
    async def delete_namespace(self, name: str, caller: Caller) -> None: ...
    def plugin_face_health(self) -> tuple[int, dict[str, Any]]: ...


class ServedTenant(Protocol):
    """A tenant, as far as this face knows it."""

    @property
    def name(self) -> str: ...
    @property
    def memories(self) -> Memories: ...


def build(tenants: Directory[ServedTenant], observer: Observer, limits: Limits | None = None) -> Face[ServedTenant]:
    """The face, not yet listening."""
    return Face("plugin", tenants, routes(), contract_shape, observer, limits)


def routes() -> Iterable[Route[ServedTenant]]:
    """Every call of the contract."""
    namespace = "/v1/namespaces/{name:[^/]+}"
    return (
        Route("GET", "/v1/health", "health", health, quiet=True),
        Route("PUT", namespace, "put_namespace", put_namespace),
        Route("PATCH", namespace, "patch_namespace", patch_namespace),
        Route("DELETE", namespace, "delete_namespace", delete_namespace),
        Route("POST", f"{namespace}/memories", "commit", commit),
        Route("POST", "/v1/search", "search", search),
        Route("DELETE", "/v1/memories/{id:[^/]+}", "forget", forget),
    )


async def health(call: Call[ServedTenant]) -> web.StreamResponse:
    """`GET /v1/health`: what a plugin would say that can serve what this daemon can serve now."""
    status, body = call.tenant.memories.plugin_face_health()
    return json_response(status, body, {"Retry-After": "1"} if status == 503 else None)


async def put_namespace(call: Call[ServedTenant]) -> web.StreamResponse:
    """`PUT /v1/namespaces/{name}` → 200 and the namespace."""
    name = _name(call)
    body = bodies.parse(bodies.PutNamespaceBody, await call.body(seconds=_body_seconds(call)))
    request = PutNamespace(name, body.kind.value, body.expires_at, body.metadata)
    work = call.tenant.memories.put_namespace(request, call.caller)
    return json_response(200, _namespace(await call.within(_answer_seconds(call), work, _WRITE_LATE)))


async def patch_namespace(call: Call[ServedTenant]) -> web.StreamResponse:
    """`PATCH /v1/namespaces/{name}` → 200 and the namespace."""
    name = _name(call)
    body = bodies.parse(bodies.PatchNamespaceBody, await call.body(seconds=_body_seconds(call)))
    if not body.model_fields_set:
        raise InvalidRequest("give at least one of expires_at and metadata")
    request = PatchNamespace(
        name,
        body.expires_at if "expires_at" in body.model_fields_set else UNSET,
        body.metadata if "metadata" in body.model_fields_set else UNSET,
    )
    work = call.tenant.memories.patch_namespace(request, call.caller)
    return json_response(200, _namespace(await call.within(_answer_seconds(call), work, _WRITE_LATE)))


async def delete_namespace(call: Call[ServedTenant]) -> web.StreamResponse:
    """`DELETE /v1/namespaces/{name}` → 204."""
    work = call.tenant.memories.delete_namespace(_name(call), call.caller)
    await call.within(_answer_seconds(call), work, _WRITE_LATE)
    return web.Response(status=204)


async def commit(call: Call[ServedTenant]) -> web.StreamResponse:
    """`POST /v1/namespaces/{name}/memories` → 201 `{id, namespace}`."""
    name = _name(call)
    body = bodies.parse(bodies.CommitBody, await call.body(seconds=_body_seconds(call)))
    request = CommitMemory(
        namespace=name,
        content=body.content,
        kind=body.kind,
        source=body.source,
        id=body.id,
        expires_at=body.expires_at,
        propagation=body.propagation,
        pin=body.pin is True,
        embedding=None if body.embedding is None else tuple(body.embedding),
        idempotency_key=idempotency_key(call.request.headers.get("Idempotency-Key")),
    )
    work = call.tenant.memories.commit(request, call.caller)
    receipt = await call.within(_answer_seconds(call), work, _WRITE_LATE)
    answer = {"id": str(receipt.id), "namespace": receipt.namespace}
    return json_response(201, answer, _shadow(receipt.shadow))


async def search(call: Call[ServedTenant]) -> web.StreamResponse:
    """`POST /v1/search` → 200 `{memories}`; an empty result is an empty array."""
    body = bodies.parse(bodies.SearchBody, await call.body(seconds=_body_seconds(call)))
    request = SearchMemories(
        namespaces=tuple(dict.fromkeys(body.namespaces)),
        query=body.query or "",
        kinds=frozenset(body.kinds or ()),
        limit=body.limit,
        embedding=None if body.embedding is None else tuple(body.embedding),
    )
    work = call.tenant.memories.search(request, call.caller)
    result = await call.read_within(_answer_seconds(call), work, _READ_LATE)
    partial = {"Cutover-Partial": "true"} if result.partial else None
    return json_response(200, {"memories": [_memory(memory) for memory in result.memories]}, partial)


async def forget(call: Call[ServedTenant]) -> web.StreamResponse:
    """`DELETE /v1/memories/{id}` → 204."""
    memory_id: UUID = bodies.memory_id(call.request.match_info["id"])
    body = bodies.parse(bodies.ForgetBody, await call.body(seconds=_body_seconds(call)))
    work = call.tenant.memories.forget(ForgetMemory(memory_id, body.requested_by_namespace), call.caller)
    shadow = await call.within(_answer_seconds(call), work, _WRITE_LATE)
    return web.Response(status=204, headers=_shadow(shadow))


def _answer_seconds(call: Call[ServedTenant]) -> float:
    return call.limits.answer_seconds - MARGIN_SECONDS


def _body_seconds(call: Call[ServedTenant]) -> float:
    return min(call.limits.body_seconds, BODY_SHARE * call.limits.answer_seconds)


def _shadow(shadow: Shadow | None) -> dict[str, str] | None:
    return None if shadow is None else {"Cutover-Shadow": shadow.value}


def _name(call: Call[ServedTenant]) -> str:
    return bodies.namespace_name(call.request.match_info["name"])


def _namespace(namespace: Namespace) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": namespace.name,
        "kind": namespace.kind,
        "created_at": rfc3339(namespace.created_at),
    }
    if namespace.expires_at is not None:
        answer["expires_at"] = rfc3339(namespace.expires_at)
    if namespace.metadata:
        answer["metadata"] = namespace.metadata
    return answer


def _memory(memory: PluginMemory) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": str(memory.id),
        "namespace": memory.namespace,
        "content": memory.content,
        "kind": memory.kind.value,
        "source": memory.source.value,
        "created_at": rfc3339(memory.created_at),
    }
    if memory.expires_at is not None:
        answer["expires_at"] = rfc3339(memory.expires_at)
    if memory.propagation is not None:
        answer["propagation"] = memory.propagation
    if memory.pin:
        answer["pin"] = True
    if memory.score is not None:
        answer["score"] = memory.score
    return answer
