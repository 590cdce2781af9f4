"""A memory of the plugin as the v1 row it stands for: what the v1 surfaces show from A3 on.

Every delivery carries the row's own fields in `propagation.cutover` (architecture §3), so label, workspace and times
come from there; the scope comes from the namespace, which is derived from the tree and so is newer than any copy.

v1 shows facts without an expiry only. Summaries, checkpoints and memories that expire have no v1 form: up to A2 they
were never rows of `agent_memories`, so no v1 caller ever saw them, and an answer that suddenly held them (the idle
loop would delete what it reads) would change what the old shapes mean.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from cutover.domain.memory import DEFAULT_LABEL, Kind, LegacyMemory, PluginMemory, wrap_global
from cutover.domain.namespace import Scope, legacy_place
from cutover.domain.propagation import unpack


def row_of(memory: PluginMemory) -> LegacyMemory | None:
    """The v1 row that `memory` stands for, content as stored, or None for one without a v1 form.

    Something that another client wrote into the plugin carries no `cutover`: it belongs to the workspace that its
    namespace names.
    """
    place = legacy_place(memory.namespace)
    if place is None or memory.kind is not Kind.FACT or memory.expires_at is not None:
        return None
    known = unpack(memory.propagation).provenance
    if known is None:
        return LegacyMemory(
            id=memory.id,
            workspace_id=place.workspace_id,
            content=memory.content,
            scope=place.scope,
            label=DEFAULT_LABEL,
            created_at=memory.created_at,
            similarity_score=memory.score,
        )
    if known.scope is None:
        return None
    return LegacyMemory(
        id=memory.id,
        workspace_id=known.workspace_id or place.workspace_id,
        content=memory.content,
        scope=place.scope,
        label=known.label,
        created_at=known.created_at,
        updated_at=known.updated_at,
        similarity_score=memory.score,
    )


def shown(memory: LegacyMemory) -> LegacyMemory:
    """The row as a v1 caller gets it: GLOBAL content is wrapped, whoever reads it (domain §2).

    The score goes: `similarity_score` belongs to v1's semantic mode, and full text's rank is none.
    """
    content = memory.content
    if memory.scope is Scope.GLOBAL:
        content = wrap_global(memory.id, memory.workspace_id, content)
    return replace(memory, content=content, similarity_score=None)


def place_in_order(memory: LegacyMemory) -> tuple[float, float, int]:
    """v1's order as a sort key: best score first (all alike where nothing is scored), then newest, then by id."""
    age = inf if memory.created_at is None else -memory.created_at.timestamp()
    return (-(memory.similarity_score or 0.0), age, memory.id.int)


def in_order(memories: Iterable[LegacyMemory]) -> list[LegacyMemory]:
    """The rows in v1's order."""
    return sorted(memories, key=place_in_order)


def holds_first(listed: Sequence[LegacyMemory], wanted: int) -> bool:
    """Whether rows that a capped answer left out cannot belong among the first `wanted`.

    `listed` are the rows, in the plugin's order, that were left of an answer which hit the cap. What was cut off
    ranks behind all of them only if the plugin's order is v1's order (it lists pinned ones first, and its
    `created_at` may be the time of a delivery).
    """
    keys = [place_in_order(memory) for memory in listed]
    return len(listed) >= wanted and keys == sorted(keys)
