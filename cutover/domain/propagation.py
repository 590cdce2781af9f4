"""`propagation.cutover`: what turns a v2 memory back into its exact v1 row (architecture §3).

The contract keeps `propagation` as opaque JSON, so it is where v1's columns travel. A caller's own propagation is
kept beside ours and given back as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cutover.domain.memory import DEFAULT_LABEL
from cutover.domain.namespace import Scope

KEY = "cutover"
_OURS = frozenset({"workspace_id", "scope", "namespace", "created_at", "updated_at"})


@dataclass(frozen=True, slots=True)
class Provenance:
    """The v1 columns of a memory. `scope` is None for a native, which has no v1 form."""

    workspace_id: UUID | None
    scope: Scope | None
    label: str
    created_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A stored propagation taken apart: the caller's own value (None when there was none) and ours.

    `kv` is what a K/V row has besides its content: key, version, and value where it could be carried.
    """

    caller: Any
    provenance: Provenance | None
    kv: Mapping[str, Any] | None = None


def pack(provenance: Provenance, caller: Any = None, kv: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The propagation to send. Always an object: a nil JSON column once took every upsert down (domain §4.5)."""
    ours: dict[str, Any] = {
        "workspace_id": str(provenance.workspace_id) if provenance.workspace_id else None,
        "scope": provenance.scope.value if provenance.scope else None,
        "namespace": provenance.label,
        "created_at": _timestamp(provenance.created_at),
        "updated_at": _timestamp(provenance.updated_at),
    }
    if kv is not None:
        ours["kv"] = dict(kv)
    if isinstance(caller, dict) and caller and KEY not in caller:
        return {**caller, KEY: ours}
    if caller is not None:  # no object, an empty one, or one that uses our key: kept whole, so that it comes back whole
        ours["opaque"] = caller
    return {KEY: ours}


def unpack(stored: Any) -> Unpacked:
    """Take a stored propagation apart; anything that `pack` did not make is wholly the caller's."""
    ours = stored.get(KEY) if isinstance(stored, dict) else None
    if not isinstance(ours, dict) or not ours.keys() >= _OURS:
        return Unpacked(stored, None)
    caller: Any = {name: value for name, value in stored.items() if name != KEY} or None
    if "opaque" in ours:
        caller = ours["opaque"]
    try:
        provenance = Provenance(
            UUID(ours["workspace_id"]) if ours.get("workspace_id") else None,
            Scope(ours["scope"]) if ours.get("scope") else None,
            DEFAULT_LABEL if ours.get("namespace") is None else str(ours["namespace"]),
            _instant(ours.get("created_at")),
            _instant(ours.get("updated_at")),
        )
    except (ValueError, TypeError):
        return Unpacked(stored, None)  # somebody else wrote under our key: not ours to interpret
    kv = ours.get("kv")
    return Unpacked(caller, provenance, kv if isinstance(kv, dict) else None)


def _timestamp(value: datetime | None) -> str | None:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if value else None


def _instant(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if value is not None else None
