"""Scope ↔ namespace (domain §3) and the rules for namespace names."""

import re
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

MAX_NAMESPACE_LENGTH = 256
_NAME = re.compile(r"[a-z]+:[A-Za-z0-9_:.\-]+")


class Scope(StrEnum):
    """The v1 scope of a memory. Persisted in `agent_memories.scope`."""

    LOCAL = "LOCAL"
    TEAM = "TEAM"
    GLOBAL = "GLOBAL"


class NamespaceKind(StrEnum):
    """The contract's namespace kinds. Persisted in `memory_plugin.memory_namespaces.kind`."""

    WORKSPACE = "workspace"
    TEAM = "team"
    ORG = "org"
    CUSTOM = "custom"


_SCOPE_OF_PREFIX = {"workspace": Scope.LOCAL, "team": Scope.TEAM, "org": Scope.GLOBAL}
_PREFIX_OF_SCOPE = {scope: prefix for prefix, scope in _SCOPE_OF_PREFIX.items()}


@dataclass(frozen=True, slots=True)
class LegacyPlace:
    """Where a namespace lands in v1: rows of `workspace_id` with `scope`."""

    workspace_id: UUID
    scope: Scope


def is_valid_name(name: str) -> bool:
    """Whether `name` satisfies the contract: `^[a-z]+:[A-Za-z0-9_:.\\-]+$`, at most 256 characters."""
    return len(name) <= MAX_NAMESPACE_LENGTH and _NAME.fullmatch(name) is not None


RESERVED_PREFIX = "custom:cutover-"
"""Namespaces of cutover's own canaries: nobody else writes there, or the canaries would prove nothing."""


def is_reserved(name: str) -> bool:
    """Whether a namespace is cutover's own."""
    return name.startswith(RESERVED_PREFIX)


def kind_of(name: str) -> NamespaceKind:
    """The kind that a namespace's prefix stands for; anything not derived from the tree is custom."""
    prefix = name.partition(":")[0]
    return NamespaceKind(prefix) if prefix in _SCOPE_OF_PREFIX else NamespaceKind.CUSTOM


def legacy_place(name: str) -> LegacyPlace | None:
    """The v1 place of a namespace, or None where v1 has none (`custom:*`, or no UUID after the prefix)."""
    prefix, _, rest = name.partition(":")
    scope = _SCOPE_OF_PREFIX.get(prefix)
    if scope is None or len(rest) != 36:
        return None
    try:
        workspace_id = UUID(rest)
    except ValueError:
        return None
    if str(workspace_id) != rest:
        return None  # the platform writes canonical lower-case UUIDs; another spelling is another name
    return LegacyPlace(workspace_id, scope)


def name_for(scope: Scope, anchor: UUID) -> str:
    """The namespace of `scope` anchored at `anchor`: the workspace, the team's head, or the chain's root."""
    return f"{_PREFIX_OF_SCOPE[scope]}:{anchor}"


@dataclass(frozen=True, slots=True)
class WorkspaceTree:
    """What the tree says about one workspace: enough to derive all of its namespaces."""

    workspace_id: UUID
    parent_id: UUID | None
    root_id: UUID
    status: str

    def namespace(self, scope: Scope) -> str:
        """The namespace this workspace's memories of `scope` belong in."""
        anchor = {
            Scope.LOCAL: self.workspace_id,
            Scope.TEAM: self.parent_id or self.workspace_id,
            Scope.GLOBAL: self.root_id,
        }[scope]
        return name_for(scope, anchor)

    def readable(self) -> tuple[str, str, str]:
        """The namespaces this workspace may read: its own, its team's, its organisation's."""
        return (self.namespace(Scope.LOCAL), self.namespace(Scope.TEAM), self.namespace(Scope.GLOBAL))

    def writable(self) -> tuple[str, ...]:
        """The readable set, but the organisation's only for a root."""
        return self.readable() if self.parent_id is None else self.readable()[:2]
