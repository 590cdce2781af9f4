"""What callers did, held against what the stores hold in the end: the checker of the demo and the acceptance tests.

Each memory is a register of its own. A caller knows when it began an operation, when it had its answer, and what the
answer was; inside that time the operation took effect at one instant, if it did. Operations that overlap may have taken
effect in either order, one without an answer (`unknown`) at any time after it began, or never, a refused one never. The
final value must be one that some such order leaves behind; `possible` says which those are.

Two rules of the domain make this sharp: an edit never brings a deleted memory back (v1 answers 404), so a deleted
memory with a late, unanswered edit must stay deleted; and ids are the callers' or minted once, so a content under an id
that nobody was told is a create that was done twice.

Nothing here uses the daemon's code: it would share its mistakes.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal
from uuid import UUID


class OperationKind(StrEnum):
    """What a caller asked for, through the daemon or past it with SQL."""

    CREATE = "create"
    EDIT = "edit"  # changes a memory that exists, else nothing
    REPLACE = "replace"  # the contract's commit with an id: creates or replaces
    DELETE = "delete"


class OperationOutcome(StrEnum):
    """What the caller was told."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # nothing was written: 4xx, 503, a rolled back transaction
    UNKNOWN = "unknown"  # no answer, or one that does not say


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. `content` (or any fingerprint of it, if the snapshots use the same) is None for a delete.

    `began` and `ended` are seconds of one monotonic clock, for all callers.
    """

    kind: OperationKind
    memory_id: UUID
    content: str | None
    began: float
    ended: float
    outcome: OperationOutcome

    def __post_init__(self) -> None:
        if (self.content is None) is not (self.kind is OperationKind.DELETE):
            raise ValueError(f"a {self.kind} of {self.memory_id}: a delete has no content, all else has")
        if self.ended < self.began:
            raise ValueError(f"a {self.kind} of {self.memory_id} ended before it began")

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was told that it is done."""
        return self.outcome is OperationOutcome.ACKNOWLEDGED

    @property
    def latest(self) -> float:
        """The last instant at which it can have taken effect."""
        return self.ended if self.acknowledged else float("inf")

    @property
    def makes_present(self) -> bool:
        """Whether the memory exists afterwards, whatever was before."""
        return self.kind in (OperationKind.CREATE, OperationKind.REPLACE)


class History:
    """The operations of all callers, in the order of their answers, and what was there before the first."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []

    @property
    def operations(self) -> Sequence[Operation]:
        """All so far."""
        return self._operations

    def touched(self) -> frozenset[UUID]:
        """Every memory that a caller asked to change, whatever came of it."""
        return frozenset(each.memory_id for each in self._operations if each.began > float("-inf"))

    def record(self, operation: Operation) -> None:
        """Note an operation that has ended, one way or another."""
        self._operations.append(operation)

    def found(self, memory_id: UUID, content: str) -> None:
        """Note a memory that was there before any caller began."""
        before = float("-inf")
        self.record(Operation(OperationKind.CREATE, memory_id, content, before, before, OperationOutcome.ACKNOWLEDGED))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many operations were acknowledged, and the ids of the memories that are wrong, by what is wrong."""

    acknowledged: int
    lost: tuple[UUID, ...] = ()
    """Gone, although it was acknowledged and never deleted."""
    resurrected: tuple[UUID, ...] = ()
    """There, although its delete was acknowledged and nothing can have made it anew."""
    stale: tuple[UUID, ...] = ()
    """Holds what an earlier operation wrote, although a later one was acknowledged."""
    phantom: tuple[UUID, ...] = ()
    """Holds what only a refused operation, or none, ever wrote."""
    doubled: tuple[UUID, ...] = ()
    """Under an id that nobody was told, with a content that a caller wrote."""
    diverged: tuple[UUID, ...] = ()
    """The stores differ and nothing accounts for it."""

    @property
    def findings(self) -> tuple[str, ...]:
        """One line per wrong memory; empty when all is well."""
        kinds = [field.name for field in fields(self) if field.name != "acknowledged"]
        return tuple(f"{kind}: {memory_id}" for kind in kinds for memory_id in getattr(self, kind))

    def words(self) -> str:
        """`acknowledged=… lost=… …` for a line of output."""
        counts = [
            f"{field.name}={self.acknowledged if field.name == 'acknowledged' else len(getattr(self, field.name))}"
            for field in fields(self)
        ]
        return " ".join(counts)


def check(
    history: Sequence[Operation],
    legacy: Mapping[UUID, str],
    plugin: Mapping[UUID, str],
    marked: Set[UUID],
    authority: Literal["legacy", "plugin"],
) -> Verdict:
    """Hold the final snapshots (content by id) against the history.

    `marked` are the ids that are allowed to differ between the stores: marked, quarantined, native, or not yet reached
    by the backfill. With the plugin as the authority legacy is frozen and not compared. The callers must have stopped
    before the snapshots were taken; requests that nobody waits for any more may still be under way only for marked ids.
    """
    store = legacy if authority == "legacy" else plugin
    by_memory: dict[UUID, list[Operation]] = {}
    for operation in history:
        by_memory.setdefault(operation.memory_id, []).append(operation)
    wrong: dict[str, list[UUID]] = {"lost": [], "resurrected": [], "stale": [], "phantom": []}
    for memory_id, operations in by_memory.items():
        fault = _fault(operations, store.get(memory_id))
        if fault is not None:
            wrong[fault].append(memory_id)
    written = {operation.content for operation in history if operation.content is not None}
    strangers = sorted((legacy.keys() | plugin.keys()) - by_memory.keys())
    doubled = [i for i in strangers if legacy.get(i) in written or plugin.get(i) in written]
    diverged = _diverged(legacy, plugin, marked) if authority == "legacy" else []
    return Verdict(
        acknowledged=sum(operation.acknowledged for operation in history if operation.began > float("-inf")),
        lost=tuple(wrong["lost"]),
        resurrected=tuple(wrong["resurrected"]),
        stale=tuple(wrong["stale"]),
        phantom=tuple(wrong["phantom"]),
        doubled=tuple(doubled),
        diverged=tuple(diverged),
    )


def possible(operations: Iterable[Operation]) -> frozenset[str | None]:
    """The values that operations on one memory can leave behind; None is "no such memory".

    Beginning without the memory. A value can be the last when no acknowledged operation began after its own had ended,
    since all that overlap can be put before it. An edit also needs a memory to change: one that some create, which no
    acknowledged delete must follow, has made.
    """
    able = [operation for operation in operations if operation.outcome is not OperationOutcome.REFUSED]
    certain = [operation for operation in able if operation.acknowledged]
    creates = [operation for operation in certain if operation.makes_present]
    deletes = [operation for operation in certain if operation.kind is OperationKind.DELETE]
    values: set[str | None] = set()
    if not creates:
        values.add(None)
    for operation in able:
        if operation.kind is OperationKind.DELETE:
            # Edits that come after it change nothing; only a create would.
            if not _must_follow(creates, operation):
                values.add(None)
        elif not _must_follow(certain, operation) and (
            operation.makes_present
            or any(
                made.makes_present and made.began <= operation.latest and not _must_follow(deletes, made)
                for made in able
            )
        ):
            values.add(operation.content)
    return frozenset(values)


def _must_follow(others: Iterable[Operation], operation: Operation) -> bool:
    return any(other.began > operation.latest for other in others)


def _fault(
    operations: Sequence[Operation], final: str | None
) -> Literal["lost", "resurrected", "stale", "phantom"] | None:
    allowed = possible(operations)
    if final in allowed:
        return None
    if final is None:
        return "lost"
    if all(operation.content != final or operation.outcome is OperationOutcome.REFUSED for operation in operations):
        return "phantom"
    return "resurrected" if allowed == {None} else "stale"


def _diverged(legacy: Mapping[UUID, str], plugin: Mapping[UUID, str], marked: Set[UUID]) -> list[UUID]:
    return sorted(i for i in (legacy.keys() | plugin.keys()) - marked if legacy.get(i) != plugin.get(i))
