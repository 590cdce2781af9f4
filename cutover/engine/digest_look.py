"""One careful look at some memories on both sides: the step that every finding goes through (architecture §4).

The order of reading is what makes it safe. The snapshot is taken first, then what is expected, then what is held, and
last of all whether anything was marked or delivered meanwhile. So a memory that changed during the look is recognised
by that last question, and one that changes after it by the same question at the second look.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from cutover.domain.divergence import DivergenceClass, Held, classify
from cutover.stores.digest import About, DigestReader, ExpectedRow, Limits, Situation
from cutover.stores.digest_findings import Suspicion


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look saw of one memory. `unsettled`: marked, or delivered while we looked, so nothing can be said.
    `delivered_since`: after the earlier look."""

    memory_id: UUID
    expected: ExpectedRow | None
    held: Held | None
    classes: frozenset[DivergenceClass]
    unsettled: bool
    delivered_since: bool
    about: About


@dataclass(frozen=True, slots=True)
class Look:
    """One look: when and at which snapshot, and what it saw by id."""

    situation: Situation
    seen: Mapping[UUID, Seen]


async def look_at(
    reader: DigestReader,
    salt: bytes,
    ids: Collection[UUID],
    limits: Limits,
    *,
    since: Mapping[UUID, str] | None = None,
    reached: bool = False,
) -> Look:
    """Look at `ids` on both sides. `since`: snapshots of earlier looks, by id. `reached`: none of them may be missing,
    wherever the backfill is.

    Raises the errors of `DigestReader`.
    """
    situation = await reader.situation()
    limits.at_one_instant(situation)
    expected = await reader.expected(salt, ids, situation, limits, reached=reached)
    held = await reader.held(salt, ids, limits)
    about = await reader.about(ids, situation.snapshot)
    delivered = await reader.delivered_since(since) if since else frozenset[UUID]()
    return Look(
        situation,
        {
            memory_id: _seen(memory_id, expected.get(memory_id), held.get(memory_id), about[memory_id], delivered)
            for memory_id in ids
        },
    )


def _seen(
    memory_id: UUID, expected: ExpectedRow | None, held: Held | None, about: About, delivered: Collection[UUID]
) -> Seen:
    classes = classify(expected.state if expected else None, held, deleted=about.deleted)
    if about.quarantined is not None:
        # Not expected, so held wrongly, unless the plugin itself refused what was new: then it may hold what was
        # before, and the quarantine is what somebody has to settle.
        wrong = held is not None and about.quarantined != "refused_by_plugin"
        classes = frozenset({DivergenceClass.NAMESPACE} if wrong else ())
    return Seen(
        memory_id, expected, held, classes, about.marked or about.delivered, memory_id in delivered, about
    )  # fmt: skip


def suspicion(seen: Seen, classes: frozenset[DivergenceClass] | None = None) -> Suspicion:
    """What to put down of a memory that was seen to differ (in `classes` only, if given)."""
    return Suspicion(
        seen.memory_id,
        seen.classes if classes is None else classes,
        seen.expected,
        seen.held,
        seen.about.writer,
        seen.about.delivered_at,
    )
