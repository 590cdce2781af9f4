"""The values that describe one memory, in v1's words and in the contract's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from cutover.domain.namespace import Scope

MAX_LABEL_LENGTH = 50
"""Characters in `agent_memories.namespace`, v1's label (domain §2)."""
DEFAULT_LABEL = "general"
EMBEDDING_DIMENSIONS = 1536


class Kind(StrEnum):
    """The contract's memory kinds. Persisted by the plugin and in `cutover.journal`."""

    FACT = "fact"
    SUMMARY = "summary"
    CHECKPOINT = "checkpoint"


class Source(StrEnum):
    """Who produced a memory, in the contract's words. Persisted."""

    AGENT = "agent"
    RUNTIME = "runtime"
    USER = "user"


@dataclass(frozen=True, slots=True)
class LegacyMemory:
    """One row of `agent_memories`, as a v1 caller sees it. `content` is not yet wrapped for GLOBAL."""

    id: UUID
    workspace_id: UUID | None
    content: str
    scope: Scope
    label: str
    created_at: datetime | None
    updated_at: datetime | None = None
    similarity_score: float | None = None


@dataclass(frozen=True, slots=True)
class PluginMemory:
    """One memory as the contract's search returns it (domain §3)."""

    id: UUID
    namespace: str
    content: str
    kind: Kind
    source: Source
    created_at: datetime
    expires_at: datetime | None = None
    propagation: Any = None
    pin: bool = False
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PluginCommit:
    """The body of `POST /v1/namespaces/{name}/memories` for one memory. `id` is always ours (domain §4.2)."""

    id: UUID
    namespace: str
    content: str
    kind: Kind = Kind.FACT
    source: Source = Source.AGENT
    expires_at: datetime | None = None
    propagation: Any = None
    pin: bool = False
    embedding: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class SessionItem:
    """One item of `GET /workspaces/{id}/session-search`: an activity row or a memory row."""

    kind: str
    """`activity` or `memory`."""
    id: UUID
    workspace_id: UUID
    label: str
    content: str
    method: str
    status: str
    request_body: Any
    response_body: Any
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as the contract returns it."""

    name: str
    kind: str
    expires_at: datetime | None
    metadata: Mapping[str, Any] | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PluginHealth:
    """What `GET /v1/health` said."""

    status: str
    version: str
    capabilities: frozenset[str] = field(default_factory=frozenset)


def wrap_global(memory_id: UUID, workspace_id: UUID | None, content: str) -> str:
    """GLOBAL content as v1 returns it, so that a reader can tell it from an instruction (domain §2)."""
    return f"[MEMORY id={memory_id} scope=GLOBAL from={workspace_id or ''}]: {content}"


def escape_global(content: str) -> str:
    """GLOBAL content as v1 stores it: nobody can forge the wrapping. Idempotent."""
    return content.replace("[MEMORY ", "[_MEMORY ")
