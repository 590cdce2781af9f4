"""Is the record of phase changes whole? Judged from the chain of its hashes and the phase row (architecture §6, §8).

The hashes have no key: who may write every table of the database and compute sha256 can forge the whole chain. Against
that there is `head`: noted elsewhere (a ticket, a chat), it is found again in a chain that was only added to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cutover.domain.certificate import APPROVALS, approvals_for, hash_of, parse
from cutover.domain.phase import Phase

START_EPOCH = 1
START_PHASE = "A0"


class Tampering(StrEnum):
    """What is wrong with the first bad event."""

    CHANGED = "changed"  # its content is not what was hashed
    MISSING = "missing"  # one before it, or behind the last, is gone
    INSERTED = "inserted"  # the next event does not follow it
    REORDERED = "reordered"  # it belongs elsewhere
    CERTIFICATE = "certificate"  # the step was not what two people approved
    GUARD = "guard"  # what keeps the record from being changed is not there
    PHASE_ROW = "phase_row"  # the phase is another than the newest event says


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """One event as it is stored. `computed`: the hash of what it says now, computed by us and not by the database."""

    seq: int
    epoch: int
    to_phase: str
    at: str
    previous: bytes
    claimed: bytes
    computed: bytes
    from_phase: str | None = None
    certificate: str | None = None
    approvers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Warrant:
    """A certificate as it is stored, with its approvals: who, and when in the form of `ChainedEvent.at`."""

    body: str
    approvals: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """A trigger that must be there. `ours`: it is, and runs the function that this release comes with."""

    table: str
    trigger: str
    enabled_always: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """The phase row. `entered_at` as text, in the form of `ChainedEvent.at`."""

    phase: str
    epoch: int
    entered_at: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`what` None: whole. `seq`: the first bad event, None for the phase row or an empty record. `head`: hash of the
    newest event."""

    events: int
    head: bytes
    what: Tampering | None = None
    seq: int | None = None
    why: str = ""


def judge(
    events: Sequence[ChainedEvent],
    row: PhaseRow,
    expected_head: bytes | None = None,
    *,
    warrants: Mapping[str, Warrant] | None = None,
    guards: Sequence[Guard] = (),
) -> Verdict:
    """`events` by seq. `expected_head`: a hash that was the newest once and must still be in the chain. `warrants`: the
    certificates on record by their hash in hex; None: they are not looked at."""
    head = events[-1].claimed if events else b""

    def verdict(what: Tampering, seq: int | None, why: str) -> Verdict:
        return Verdict(len(events), head, what, seq, why)

    broken = _first_broken(events)
    if broken is not None:
        return verdict(*broken)
    for event in events if warrants is not None else ():
        if (why := _unwarranted(event, warrants or {})) is not None:
            return verdict(Tampering.CERTIFICATE, event.seq, why)
    if (why := _row_differs(events, row)) is not None:
        what = Tampering.MISSING if row.epoch > _last_epoch(events) else Tampering.PHASE_ROW
        return verdict(what, events[-1].seq if events else None, why)
    if expected_head is not None and expected_head not in {event.claimed for event in events}:
        return verdict(Tampering.MISSING, None, "the event with the hash that was noted is not there any more")
    for guard in guards:
        if not guard.enabled_always or not guard.ours:
            wrong = "is missing or not ours" if not guard.ours else "does not fire in every session"
            why = f"the trigger {guard.trigger} of cutover.{guard.table} {wrong}: the record may have been changed"
            return verdict(Tampering.GUARD, None, why)
    return Verdict(len(events), head)


def _first_broken(events: Sequence[ChainedEvent]) -> tuple[Tampering, int, str] | None:
    places = {event.claimed: number for number, event in enumerate(events)}
    for number, event in enumerate(events):
        last = events[number - 1] if number else None
        if event.claimed != event.computed:
            return Tampering.CHANGED, event.seq, f"event {event.seq} is not what was hashed"
        if last is not None and event.epoch <= last.epoch:
            return Tampering.REORDERED, event.seq, f"event {event.seq} has epoch {event.epoch}, after {last.epoch}"
        if event.previous != (last.claimed if last else b""):
            place = places.get(event.previous, -1 if not event.previous else None)
            if place is None:
                return Tampering.MISSING, event.seq, f"the event before event {event.seq} is gone"
            if place >= number:
                return Tampering.REORDERED, event.seq, f"event {event.seq} follows an event that comes after it"
            stranger = events[place + 1].seq
            return Tampering.INSERTED, stranger, f"event {event.seq} does not follow event {stranger}"
        if event.epoch != (last.epoch if last else START_EPOCH) + 1:
            return Tampering.MISSING, event.seq, f"epochs before event {event.seq} (epoch {event.epoch}) are gone"
    return None


def _unwarranted(event: ChainedEvent, warrants: Mapping[str, Warrant]) -> str | None:
    """What is wrong with the certificate and the approvals that the event was made by, or None."""
    if event.certificate is None:
        if event.to_phase in ("A3", "A4") and event.to_phase > (event.from_phase or ""):
            return f"event {event.seq} went forward to {event.to_phase} without a certificate"
        return None
    short = f"the certificate {event.certificate[:12]} of event {event.seq}"
    if (kept := warrants.get(event.certificate)) is None:
        return f"{short} is gone"
    if hash_of(kept.body) != event.certificate:
        return f"{short} is not what was hashed"
    made = parse(kept.body)
    if (made.phase, made.target, made.epoch + 1) != (event.from_phase, event.to_phase, event.epoch):
        return f"{short} is for another step: {made.phase} to {made.target} in epoch {made.epoch}"
    at = datetime.fromisoformat(event.at)
    if at >= made.expires_at:
        return f"{short} had expired"
    names = [who for who, _ in kept.approvals]
    if set(names) != set(event.approvers or ()):
        return f"{short} was approved by {_list(event.approvers or ())} then, and by {_list(names)} now"
    if made.requested_by in names:
        return f"{short} was approved by its requester, {made.requested_by}"
    if any(datetime.fromisoformat(when) > at for _, when in kept.approvals):
        return f"{short} was approved after it was used"
    if approvals_for(Phase(event.to_phase), made.override) and len(set(names)) < APPROVALS:
        return f"{short} was approved by {_list(names)} alone"
    return None


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"


def _last_epoch(events: Sequence[ChainedEvent]) -> int:
    return events[-1].epoch if events else START_EPOCH


def _row_differs(events: Sequence[ChainedEvent], row: PhaseRow) -> str | None:
    if not events:
        if (row.phase, row.epoch) == (START_PHASE, START_EPOCH):
            return None
        return f"the tenant is in {row.phase} (epoch {row.epoch}), and no event says how it came there"
    last = events[-1]
    if (row.phase, row.epoch, row.entered_at) == (last.to_phase, last.epoch, last.at):
        return None
    return (
        f"the phase row says {row.phase}, epoch {row.epoch}, since {row.entered_at}; "
        f"the newest event says {last.to_phase}, epoch {last.epoch}, at {last.at}"
    )
