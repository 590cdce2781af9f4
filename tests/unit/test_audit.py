"""The chain of phase changes: what is wrong with it is found and named, at its first bad event (architecture §8)."""

import hashlib
from dataclasses import replace

import pytest

from cutover.domain.audit import ChainedEvent, PhaseRow, Tampering, judge

PHASES = ("A1", "A2", "A3", "A2", "A3")


def hashed(event: ChainedEvent) -> bytes:
    told = (event.seq, event.epoch, event.to_phase, event.at, event.previous.hex())
    return hashlib.sha256(repr(told).encode()).digest()


def chain() -> list[ChainedEvent]:
    events: list[ChainedEvent] = []
    for number, phase in enumerate(PHASES):
        previous = events[-1].claimed if events else b""
        event = ChainedEvent(10 + number, 2 + number, phase, f"t{number}", previous, b"", b"")
        events.append(replace(event, claimed=hashed(event), computed=hashed(event)))
    return events


def rehashed(event: ChainedEvent) -> ChainedEvent:
    """As a forger would leave it: with a hash that fits."""
    return replace(event, claimed=hashed(event), computed=hashed(event))


ROW = PhaseRow("A3", 6, "t4")


def test_a_whole_chain_is_called_whole() -> None:
    verdict = judge(chain(), ROW)
    assert (verdict.what, verdict.events, verdict.head) == (None, 5, chain()[-1].claimed)
    assert judge([], PhaseRow("A0", 1, "whenever")).what is None


@pytest.mark.parametrize("number", range(5))
def test_an_event_that_was_changed_is_named(number: int) -> None:
    events = chain()
    events[number] = replace(events[number], computed=b"of what it says now")
    verdict = judge(events, ROW)
    assert (verdict.what, verdict.seq) == (Tampering.CHANGED, 10 + number)


@pytest.mark.parametrize("number", range(4))
def test_an_event_that_was_changed_with_its_hash_leaves_the_next_without_its_own(number: int) -> None:
    events = chain()
    events[number] = rehashed(replace(events[number], to_phase="A0"))
    verdict = judge(events, ROW)
    assert (verdict.what, verdict.seq) == (Tampering.MISSING, 11 + number)


def test_the_newest_event_changed_with_its_hash_differs_from_the_phase_row_and_the_noted_head() -> None:
    events = chain()
    events[4] = rehashed(replace(events[4], to_phase="A0"))
    assert judge(events, ROW).what is Tampering.PHASE_ROW
    forged = replace(ROW, phase="A0")
    assert judge(events, forged).what is None, "the hashes have no key: whoever may change all of it can"
    verdict = judge(events, forged, chain()[4].claimed)
    assert (verdict.what, verdict.seq) == (Tampering.MISSING, None)
    assert judge(chain(), ROW, chain()[2].claimed).what is None


@pytest.mark.parametrize("number", range(4))
def test_an_event_that_is_gone_is_noticed_at_the_next(number: int) -> None:
    events = chain()
    del events[number]
    verdict = judge(events, ROW)
    assert (verdict.what, verdict.seq) == (Tampering.MISSING, 11 + number)


def test_the_newest_events_gone_are_noticed_at_the_phase_row() -> None:
    assert judge(chain()[:3], ROW).what is Tampering.MISSING
    verdict = judge([], ROW)
    assert (verdict.what, verdict.seq) == (Tampering.MISSING, None)


@pytest.mark.parametrize("number", range(4))
def test_a_chain_that_closes_over_a_missing_epoch_is_noticed(number: int) -> None:
    events = [replace(event, epoch=event.epoch + (place > number)) for place, event in enumerate(chain())]
    for place in range(5):
        previous = events[place - 1].claimed if place else b""
        events[place] = rehashed(replace(events[place], previous=previous))
    verdict = judge(events, replace(ROW, epoch=7))
    assert (verdict.what, verdict.seq) == (Tampering.MISSING, 11 + number)


@pytest.mark.parametrize("number", range(1, 4))
def test_an_event_that_was_put_in_between_is_named(number: int) -> None:
    events = chain()
    last = events[number - 1]
    # Epochs are unique and grow by one, so a stranger needs one from where there is room.
    later = [rehashed(replace(each, epoch=each.epoch)) for each in events[number:]]
    stranger = rehashed(replace(last, seq=99, epoch=last.epoch + 1, previous=last.claimed, at="stranger"))
    events = [*events[:number], stranger, *(replace(each, epoch=each.epoch + 1) for each in later)]
    verdict = judge(events, ROW)
    assert (verdict.what, verdict.seq) == (Tampering.INSERTED, 99)


def test_events_that_changed_places_are_named() -> None:
    events = chain()
    events[2], events[3] = events[3], events[2]
    verdict = judge(events, ROW)
    assert (verdict.what, verdict.seq) == (Tampering.REORDERED, 13)
    last_first = judge(list(reversed(chain())), ROW)
    assert (last_first.what, last_first.seq) == (Tampering.REORDERED, 14)


@pytest.mark.parametrize("row", [PhaseRow("A2", 6, "t4"), PhaseRow("A3", 5, "t4"), PhaseRow("A3", 6, "t5")])
def test_a_phase_row_that_the_newest_event_does_not_tell_of_is_found(row: PhaseRow) -> None:
    verdict = judge(chain(), row)
    assert (verdict.what, verdict.seq) == (Tampering.PHASE_ROW, 14)


def test_a_phase_without_any_event_is_found() -> None:
    assert judge([], PhaseRow("A1", 1, "t")).what is Tampering.PHASE_ROW
