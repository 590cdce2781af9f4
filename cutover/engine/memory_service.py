"""All memory traffic of one tenant: what the faces call.

Here a request meets admission, redaction and the phase; which way a write goes is `domain/route.py`, how it goes is
`write.py`, how a read is answered is `read.py`. A write whose phase changed under it is routed anew.
"""

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from cutover.domain.errors import Conflict, Forbidden, InvalidRequest, NotHeldByLegacy, StaleEpoch
from cutover.domain.memory import DEFAULT_LABEL, Kind, Namespace, Source, escape_global
from cutover.domain.namespace import RESERVED_PREFIX, Scope, WorkspaceTree, is_reserved, is_valid_name, legacy_place
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.redaction import redact
from cutover.domain.requests import (
    Caller,
    CommitMemory,
    CreateMemory,
    DeleteMemory,
    EditMemory,
    ForgetMemory,
    ListMemories,
    MemoryPage,
    PatchNamespace,
    PutNamespace,
    Receipt,
    SearchMemories,
    SearchResult,
    SessionPage,
    Shadow,
)
from cutover.domain.route import Way, has_v1_form, way_of
from cutover.engine.admission import Admission
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.namespaces import NamespaceOperations
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.read import Reads
from cutover.engine.verdicts import check_replay, expect, receipt
from cutover.engine.write import WritePath
from cutover.stores.ledger import JournalCommit, LegacyCreate, WriteResult
from cutover.stores.legacy import LegacyStore

T = TypeVar("T")
_KEY_SPACE = uuid.UUID("2a5e4c58-5a0c-4d2f-9d0a-8a1f6a9ad0c3")
"""Stands in for the workspace where a namespace has none: the id of an idempotent create is uuid5(workspace, key)."""
CONTRACT_VERSION = "1.0.0"
_ROUTES = 8
"""How often a write is routed before its caller is told to come back."""


class MemoryService:
    """One per tenant. Raises `CutoverError` only; `Refused` means that nothing was written anywhere."""

    def __init__(
        self,
        *,
        admission: Admission,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        writes: WritePath,
        reads: Reads,
        namespaces: NamespaceOperations,
        legacy: LegacyStore,
    ) -> None:
        self._admission = admission
        self._phase = phase
        self._health = health
        self._writes = writes
        self._reads = reads
        self._namespaces = namespaces
        self._legacy = legacy

    # -- v1 ----------------------------------------

    async def create(self, request: CreateMemory, caller: Caller) -> Receipt:
        """`POST …/memories`: a new row of this workspace. GLOBAL only from a root (`Forbidden`)."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            content = storable(redact(request.content))
            if request.scope is Scope.GLOBAL:
                content = escape_global(content)
            label = request.label or DEFAULT_LABEL
            fresh = request.idempotency_key is None
            key = request.idempotency_key
            memory_id = uuid.uuid4() if key is None else uuid.uuid5(request.workspace_id, key)
            fingerprint = None if fresh else _fingerprint(request.content, request.scope.value, label)
            row = LegacyCreate(memory_id, request.workspace_id, request.scope, content, label, fingerprint=fingerprint)
            return await self._routed(lambda state: self._create(state, row, caller, fresh=fresh))

    async def edit(self, request: EditMemory, caller: Caller) -> Receipt:
        """`PATCH …/memories/{id}`: content, label, or both; scope never changes."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            content = storable(redact(request.content)) if request.content is not None else None
            return await self._routed(lambda state: self._edit(state, request, content, caller))

    async def delete(self, request: DeleteMemory, caller: Caller) -> Shadow | None:
        """`DELETE …/memories/{id}`; `NotFound` when it is not this workspace's."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            return await self._routed(
                lambda state: self._delete(state, request.memory_id, request.workspace_id, None, caller)
            )

    async def list(self, request: ListMemories, caller: Caller) -> MemoryPage:
        """v1's list and search."""
        with self._admission.read():
            return await self._reads.list(request, caller)

    async def session_search(self, workspace_id: UUID, query: str, limit: int, caller: Caller) -> SessionPage:
        """Activity and memories of one workspace together."""
        with self._admission.read():
            return await self._reads.session_search(workspace_id, query, limit, caller)

    # -- the contract ----------------------------------------

    async def commit(self, request: CommitMemory, caller: Caller) -> Receipt:
        """`POST /v1/namespaces/{name}/memories`. Legacy's where v1 has a form for it, else a native (A1 on)."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            if not is_valid_name(request.namespace):
                raise InvalidRequest("invalid namespace name")
            _not_ours(request.namespace)
            content = storable(redact(request.content))
            if not content.strip():
                raise InvalidRequest("content is empty")
            place = legacy_place(request.namespace)
            if place is not None and place.scope is Scope.GLOBAL:
                content = escape_global(content)
            return await self._routed(lambda state: self._commit(state, replace(request, content=content), caller))

    async def search(self, request: SearchMemories, caller: Caller) -> SearchResult:
        """`POST /v1/search`."""
        with self._admission.read(legacy_is_enough=not request.embedding):
            return await self._reads.search(request, caller)

    async def forget(self, request: ForgetMemory, caller: Caller) -> Shadow | None:
        """`DELETE /v1/memories/{id}`; `NotFound` when it is not in that namespace."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            _not_ours(request.namespace)
            return await self._routed(
                lambda state: self._delete(state, request.memory_id, None, request.namespace, caller)
            )

    async def put_namespace(self, request: PutNamespace, caller: Caller) -> Namespace:
        """`PUT /v1/namespaces/{name}`."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write() as state:
            _not_ours(request.name)
            return await self._namespaces.put(state.phase, request, caller)

    async def patch_namespace(self, request: PatchNamespace, caller: Caller) -> Namespace:
        """`PATCH /v1/namespaces/{name}`."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write() as state:
            _not_ours(request.name)
            return await self._namespaces.patch(state.phase, request, caller)

    async def delete_namespace(self, name: str, caller: Caller) -> None:
        """`DELETE /v1/namespaces/{name}`: it and all its memories."""
        caller = await self._admission.past_hold(caller)
        with self._admission.write():
            _not_ours(name)
            await self._routed(lambda state: self._namespaces.delete(state, name, caller))

    def plugin_face_health(self) -> tuple[int, dict[str, Any]]:
        """What `GET /v1/health` answers on the plugin face: our own readiness in the contract's words."""
        refused = self._admission.why_closed()
        if refused is not None:
            return 503, {"code": "unavailable", "message": refused.message}
        if self._health.last is not None and self._phase.current().phase is not Phase.A0:
            capabilities = sorted(self._health.last.capabilities)
        else:
            capabilities = ["fts", "pin", "propagation"]  # what A0 can keep
        return 200, {"status": "ok", "version": CONTRACT_VERSION, "capabilities": capabilities}

    async def tree(self, workspace_id: UUID) -> WorkspaceTree:
        """Where a workspace stands; `NotFound` when there is none."""
        return await self._legacy.tree(workspace_id)

    # -- routing ----------------------------------------

    async def _routed(self, run: Callable[[PhaseState], Awaitable[T]]) -> T:
        """Run in the current phase; anew, from the start, when the phase changed meanwhile.

        More than once, because an operator who goes back and forth may change it again before the new try enters.
        """
        state = self._phase.current()
        for _ in range(_ROUTES - 1):
            try:
                return await run(state)
            except StaleEpoch:
                state = await self._phase.reload()
        return await run(state)

    async def _create(self, state: PhaseState, row: LegacyCreate, caller: Caller, *, fresh: bool) -> Receipt:
        if way_of(state.phase, held_by_legacy=True) is Way.JOURNAL:
            result = await self._writes.commit_journaled(_as_commit(row, fresh=fresh), caller)
            shadow = None
        else:
            result, shadow = await self._writes.create(row, caller, fresh=fresh)
        return await self._acknowledge(state, result, shadow, row.fingerprint)

    async def _edit(self, state: PhaseState, request: EditMemory, content: str | None, caller: Caller) -> Receipt:
        ids = (request.memory_id, request.workspace_id)
        shadow = None
        if state.phase.plugin_is_authority:
            result = await self._writes.edit_journaled(*ids, content, request.label, caller)
        else:
            result, shadow = await self._writes.edit(*ids, content, request.label, caller)
        expect(result)
        return receipt(result, shadow, changed=result.status != "unchanged")

    async def _delete(
        self, state: PhaseState, memory_id: UUID, workspace_id: UUID | None, namespace: str | None, caller: Caller
    ) -> Shadow | None:
        if not state.phase.plugin_is_authority:
            result, shadow = await self._writes.delete(memory_id, workspace_id, namespace, caller)
            if result.status != "native" or state.phase is Phase.A0:
                expect(replace(result, status="missing") if result.status == "native" else result)
                return shadow
        expect(await self._writes.delete_journaled(memory_id, workspace_id, namespace, caller))
        return None

    async def _commit(self, state: PhaseState, request: CommitMemory, caller: Caller) -> Receipt:
        key = request.idempotency_key
        if key is not None and request.id is not None:
            raise InvalidRequest(
                "an id and an Idempotency-Key were given; a commit with an id is repeatable by itself",
                next_step="leave one of them out",
            )
        minted = request.id is None and key is None
        place = legacy_place(request.namespace)
        owner = place.workspace_id if place is not None else uuid.uuid5(_KEY_SPACE, request.namespace)
        memory_id = request.id or (uuid.uuid4() if key is None else uuid.uuid5(owner, key))
        fingerprint = None if key is None else _fingerprint(*_identity(request))
        way = way_of(state.phase, held_by_legacy=has_v1_form(request) and place is not None)
        if way is Way.REFUSED:
            raise _not_held()
        if way is not Way.JOURNAL and place is not None:
            row = LegacyCreate(
                memory_id, place.workspace_id, place.scope, request.content, DEFAULT_LABEL, request.namespace,
                _vector(request), request.source.value, request.pin, _opaque(request), fingerprint,
            )  # fmt: skip
            result, shadow = await self._commit_to_legacy(row, caller, fresh=minted)
            if result.status not in ("no_workspace", "misplaced"):
                return await self._acknowledge(state, result, shadow, fingerprint)
            if state.phase is Phase.A0:
                raise _not_held()
        commit = JournalCommit(
            memory_id, minted, place.workspace_id if place else None, place.scope if place else None,
            request.namespace, not has_v1_form(request), request.content, None, request.kind.value,
            request.source.value, request.expires_at, request.pin, _opaque(request), _vector(request), fingerprint,
        )  # fmt: skip
        return await self._acknowledge(state, await self._writes.commit_journaled(commit, caller), None, fingerprint)

    async def _commit_to_legacy(
        self, row: LegacyCreate, caller: Caller, *, fresh: bool
    ) -> tuple[WriteResult, Shadow | None]:
        """A new row; or, over an id that is taken, the contract's upsert."""
        result, shadow = await self._writes.create(row, caller, fresh=fresh)
        if result.status != "exists" or row.fingerprint is not None:
            # A keyed create over an id that is taken is a replay whose record is gone: never an upsert.
            return result, shadow
        result, shadow = await self._writes.replace(row, caller, from_native=False)
        if result.status == "native":
            return await self._writes.replace(row, caller, from_native=True)
        if result.status == "missing":  # deleted between the two: it is new after all
            return await self._writes.create(row, caller, fresh=fresh)
        return result, shadow

    async def _acknowledge(
        self, state: PhaseState, result: WriteResult, shadow: Shadow | None, fingerprint: bytes | None
    ) -> Receipt:
        if result.status == "replay" and fingerprint is not None:
            check_replay(result, fingerprint)
            if state.phase is not Phase.A0 and not await self._writes.is_certain(result.memory_id):
                raise Conflict("a request with this Idempotency-Key is still running", next_step="wait for its answer")
            if state.phase.dual_writes:
                shadow = Shadow.PENDING if await self._writes.is_pending(result.memory_id) else Shadow.DELIVERED
        return receipt(expect(result), shadow)


def storable(content: str) -> str:
    """The content itself; raises `InvalidRequest` when no store can hold it."""
    if "\0" in content:
        raise InvalidRequest("content holds a NUL character, which PostgreSQL cannot store")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("content holds half of a surrogate pair, which is not Unicode text") from None
    return content


def _not_held() -> NotHeldByLegacy:
    return NotHeldByLegacy(
        "in phase A0 only facts without expiry, in a workspace:, team: or org: namespace of this tenant, can be stored",
        next_step="store it after the tenant has entered A1",
    )


def _as_commit(row: LegacyCreate, *, fresh: bool) -> JournalCommit:
    return JournalCommit(
        row.id, fresh, row.workspace_id, row.scope, None, False, row.content, row.label, Kind.FACT.value,
        Source.AGENT.value, None, False, None, None, row.fingerprint,
    )  # fmt: skip


def _fingerprint(*parts: Any) -> bytes:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest()


def _identity(request: CommitMemory) -> tuple[Any, ...]:
    return (
        request.namespace, request.content, request.kind, request.source, request.id, request.expires_at,
        request.propagation, request.pin, request.embedding,
    )  # fmt: skip


def _vector(request: CommitMemory) -> str | None:
    return json.dumps(request.embedding) if request.embedding is not None else None


def _opaque(request: CommitMemory) -> str | None:
    return json.dumps(request.propagation) if request.propagation is not None else None


def _not_ours(namespace: str) -> None:
    """Raises `Forbidden` for a namespace that is reserved for canaries."""
    if is_reserved(namespace):
        raise Forbidden(f"namespaces that begin with {RESERVED_PREFIX} are reserved", next_step="use another name")
