"""What a difference between the stores is called, and when it is certain (architecture §4).

A sweep sees two states of one memory: what the plugin is expected to hold (legacy's row, or the journal's newest
word) and what it holds. The two are read at two instants, so one look proves nothing. A difference is *suspect* until
a second look, T_z later, finds it again with nothing delivered in between. Then it is *confirmed*: whatever was under
way at the first look has landed by the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DivergenceClass(StrEnum):
    """How a memory differs. Persisted in `cutover.divergence.class`: never renamed."""

    MISSING_IN_PLUGIN = "missing_in_plugin"  # expected, and the plugin does not hold it
    MISSING_IN_LEGACY = "missing_in_legacy"  # the plugin holds it, and nobody knows of it
    RESURRECTED = "resurrected"  # the plugin holds what was deleted and acknowledged
    CONTENT = "content"
    NAMESPACE = "namespace"  # held where it does not belong: shown to the wrong readers
    EMBEDDING = "embedding"  # on one side only
    CREATED_AT = "created_at"  # newest first would be wrong
    PROVENANCE = "provenance"  # owner, scope, label, kind, source, pin or expiry: what v1 readers see after the cutover


class DivergenceState(StrEnum):
    """How far a finding has come. Persisted in `cutover.divergence.state`: never renamed."""

    SUSPECT = "suspect"  # one look
    CONFIRMED = "confirmed"  # two looks that agree
    REPAIRED = "repaired"  # marked for delivery by an operator, or gone by itself
    ACCEPTED = "accepted"  # somebody answers for it, with a reason


REPAIRED_BY_MARK = frozenset(DivergenceClass) - {DivergenceClass.MISSING_IN_LEGACY}
"""Delivering the memory's state once more sets these right. What nobody knows of is reported, never deleted unasked."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plugin is expected to hold of one memory. Hashes are keyed with the look's salt."""

    namespace: str | None
    """None: the memory cannot be placed."""
    content_hash: bytes
    content_length: int
    created_at: datetime | None
    """None where it is not known: then the plugin's own time is as good as any."""
    embedding: bool
    provenance_hash: bytes
    reached: bool = True
    """False where the backfill has not been: then it may be missing, but what is there must be right."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the plugin holds of one memory."""

    namespace: str
    content_hash: bytes
    content_length: int
    created_at: datetime | None
    """None where it cannot be seen (contract-only plugins)."""
    embedding: bool | None
    """None where it cannot be seen."""
    provenance_hash: bytes
    source: str = "memory"
    """`kv` where it says of itself that it is a K/V row's."""


def classify(expected: Expected | None, held: Held | None, *, deleted: bool) -> frozenset[DivergenceClass]:
    """All the ways in which the two differ; empty when they agree. `deleted`: a tombstone says it was deleted."""
    if expected is None:
        if held is None:
            return frozenset()
        return frozenset({DivergenceClass.RESURRECTED if deleted else DivergenceClass.MISSING_IN_LEGACY})
    if held is None:
        return frozenset({DivergenceClass.MISSING_IN_PLUGIN} if expected.reached else ())
    found = {
        DivergenceClass.NAMESPACE: expected.namespace != held.namespace,
        DivergenceClass.CONTENT: (expected.content_hash, expected.content_length)
        != (held.content_hash, held.content_length),
        DivergenceClass.EMBEDDING: held.embedding is not None and expected.embedding != held.embedding,
        DivergenceClass.CREATED_AT: None not in (expected.created_at, held.created_at)
        and expected.created_at != held.created_at,
        DivergenceClass.PROVENANCE: expected.provenance_hash != held.provenance_hash,
    }
    return frozenset(each for each, differs in found.items() if differs)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a second look makes of the first: `confirmed` classes, `suspect` ones (seen once, or something was delivered
    in between), and `gone` ones. Together they are all classes of both looks."""

    confirmed: frozenset[DivergenceClass]
    suspect: frozenset[DivergenceClass]
    gone: frozenset[DivergenceClass]


def second_look(
    first: frozenset[DivergenceClass],
    again: frozenset[DivergenceClass],
    *,
    seconds_between: float,
    t_z: float,
    delivered_between: bool,
) -> Verdict:
    """Compare two looks at one memory that is not marked: a marked one may differ, so nothing can be said of it.

    Only what both looks saw, at least `t_z` seconds apart and with nothing delivered in between, is confirmed.
    """
    gone = first - again
    if delivered_between or seconds_between < t_z:
        return Verdict(frozenset(), again, gone)
    return Verdict(first & again, again - first, gone)


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one memory's open findings after another look."""

    confirmed: frozenset[DivergenceClass] = frozenset()
    renewed: frozenset[DivergenceClass] = frozenset()
    """Suspicions that start anew with this look."""
    gone: frozenset[DivergenceClass] = frozenset()
    fresh: frozenset[DivergenceClass] = frozenset()
    """Not suspected before, or repaired and still there: suspicions that begin with this look."""
    kept: frozenset[DivergenceClass] = frozenset()
    """Suspicions whose time has not come yet."""

    @property
    def undecided(self) -> bool:
        """Whether another look is needed."""
        return bool(self.renewed or self.fresh or self.kept)


def decide(
    open_: Mapping[DivergenceClass, DivergenceState],
    again: frozenset[DivergenceClass],
    *,
    seconds_between: float,
    t_z: float,
    delivered_between: bool,
    unsettled: bool,
) -> Decision:
    """Carry one memory's open findings on after another look that saw `again`.

    `unsettled`: the memory carries a mark or was delivered during the look, so the look says nothing. Confirmed and
    accepted findings end when they are not seen any more; a repaired one that is still seen is suspect once more, and
    so is an accepted one of a memory that was delivered since.
    """
    suspects = frozenset(each for each, state in open_.items() if state is DivergenceState.SUSPECT)
    others = open_.keys() - suspects
    if unsettled:
        return Decision(renewed=suspects)
    verdict = second_look(
        suspects,
        again - others,
        seconds_between=seconds_between,
        t_z=t_z,
        delivered_between=delivered_between,
    )
    early = not delivered_between and seconds_between < t_z
    repaired = frozenset(each for each in others if open_[each] is DivergenceState.REPAIRED)
    # Somebody answered for what was there then. What was delivered since is another thing.
    void = frozenset(each for each in others & again if delivered_between and open_[each] is DivergenceState.ACCEPTED)
    known = verdict.suspect & suspects
    return Decision(
        confirmed=verdict.confirmed,
        renewed=frozenset() if early else known,
        gone=verdict.gone | (others - again) | void,
        fresh=(verdict.suspect - suspects) | (repaired & again) | void,
        kept=known if early else frozenset(),
    )
