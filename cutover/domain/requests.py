"""What the faces ask of the engine and what it answers: v1's operations and the contract's, as frozen values."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

from cutover.domain.memory import Kind, LegacyMemory, PluginMemory, SessionItem, Source
from cutover.domain.namespace import Scope


class Shadow(StrEnum):
    """The value of the header `Cutover-Shadow` on a write in A1 and A2 (architecture §3, step 5)."""

    DELIVERED = "delivered"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the face knows them. Nothing in here is trusted for rights: the engine derives those itself."""

    face: str
    """`plugin`, `memories` or `mcp`: the bounded metric label."""
    request_id: str = ""
    traceparent: str | None = None
    arrived: float = 0.0
    """`time.monotonic()` seconds at which the request's head was read: every deadline counts from here."""


@dataclass(frozen=True, slots=True)
class CreateMemory:
    """`POST /workspaces/{id}/memories`, MCP `commit_memory`. Content is raw: the engine redacts and escapes it."""

    workspace_id: UUID
    content: str
    scope: Scope
    label: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class EditMemory:
    """`PATCH /workspaces/{id}/memories/{memoryId}`; at least one of the two is given and not empty."""

    workspace_id: UUID
    memory_id: UUID
    content: str | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteMemory:
    """`DELETE /workspaces/{id}/memories/{memoryId}`."""

    workspace_id: UUID
    memory_id: UUID


@dataclass(frozen=True, slots=True)
class CommitMemory:
    """`POST /v1/namespaces/{name}/memories` of the contract, and MCP `commit_memory_v2` / `commit_summary`."""

    namespace: str
    content: str
    kind: Kind = Kind.FACT
    source: Source = Source.AGENT
    id: UUID | None = None
    expires_at: datetime | None = None
    propagation: Any = None
    pin: bool = False
    embedding: tuple[float, ...] | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class ForgetMemory:
    """`DELETE /v1/memories/{id}` with `{requested_by_namespace}`."""

    memory_id: UUID
    namespace: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write came to. `shadow` is None where there is no dual write (A0, A3, A4)."""

    id: UUID
    namespace: str
    """The contract's namespace, derived from the tree."""
    scope: Scope | None
    """None for a memory that v1 cannot hold."""
    label: str
    """v1's `namespace` column."""
    shadow: Shadow | None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class ListMemories:
    """`GET /workspaces/{id}/memories`: see domain §2 for who sees what and in which order. `limit` is clamped 1..50."""

    workspace_id: UUID
    scope: Scope | None = None
    query: str = ""
    label: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """v1 rows, GLOBAL content already wrapped. `partial`: the contract's cap of 100 cut the result short."""

    memories: tuple[LegacyMemory, ...]
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SessionPage:
    """What session-search found, newest first. `partial`: the contract's cap of 100 may have hidden memories."""

    items: tuple[SessionItem, ...]
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SearchMemories:
    """`POST /v1/search` of the contract. `limit` is 0..100; None means the contract's default of 20."""

    namespaces: tuple[str, ...]
    query: str = ""
    kinds: frozenset[Kind] = frozenset()
    limit: int | None = None
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The contract's memories, in the contract's order."""

    memories: tuple[PluginMemory, ...] = field(default=())
    partial: bool = False


class Unset(Enum):
    """Marks a PATCH field that the caller did not send (which is not the same as null)."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class PutNamespace:
    """`PUT /v1/namespaces/{name}`: replaces kind, expires_at and metadata."""

    name: str
    kind: str
    expires_at: datetime | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class PatchNamespace:
    """`PATCH /v1/namespaces/{name}`: at least one of the two is given."""

    name: str
    expires_at: datetime | Unset | None = UNSET
    metadata: dict[str, Any] | Unset | None = UNSET
