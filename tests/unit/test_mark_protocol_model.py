"""The mark protocol never diverges silently within the bounds; with any one of its rules broken it does.

See `tests/mark_model.py` for what is modelled. Each broken variant also shows, where that says something, that the
event it is about is needed: the same variant without that event is safe.
"""

from dataclasses import replace

import pytest

from tests.mark_model import Policy, cannot_drain, search, two_requests_at_once

REAL = Policy()
REAL_WITH_BACKFILL = Policy(backfill="marks")
REAL_WITH_COPY = Policy(backfill="copies", moves=True)


@pytest.mark.parametrize(
    "policy",
    [
        replace(REAL, writes=4, sends=5, crashes=2),
        replace(REAL_WITH_BACKFILL, writes=4, sends=5, crashes=2),
        replace(REAL_WITH_COPY, writes=4, sends=4),
    ],
    ids=["traffic", "traffic and backfill", "traffic and set-based copy"],
)
def test_the_real_protocol_never_diverges_silently(policy: Policy) -> None:
    found = search(policy)
    assert found.violation is None, "\n".join(found.trace)
    assert found.states > 100_000, "so small a search has not seen the interesting cases"


@pytest.mark.parametrize(
    "policy",
    [REAL, REAL_WITH_BACKFILL, REAL_WITH_COPY],
    ids=["traffic", "traffic and backfill", "traffic and set-based copy"],
)
def test_there_is_never_more_than_one_live_request_per_memory(policy: Policy) -> None:
    found = search(policy, two_requests_at_once)
    assert found.violation is None, "\n".join(found.trace)


@pytest.mark.parametrize(
    "policy",
    [REAL, REAL_WITH_BACKFILL, REAL_WITH_COPY],
    ids=["traffic", "traffic and backfill", "traffic and set-based copy"],
)
def test_every_mark_can_drain(policy: Policy) -> None:
    assert cannot_drain(policy) == []


BROKEN = {
    "naive dual write": (Policy(marks=False), "times out|crashes"),
    "blind clear": (Policy(clear="blind"), "gets 2xx"),
    "retry at once after a time-out": (Policy(quarantine="none"), "LATE"),
    "quarantine in memory only, crash": (Policy(quarantine="memory"), "crashes"),
    "capture in the application, bypass writer": (Policy(capture="application"), "past the daemons"),
    "backfill that upserts": (Policy(backfill="upserts"), "the backfill's"),
    "backfill that inserts if absent": (Policy(backfill="inserts if absent"), "the backfill's"),
    "row read before the mark was claimed": (Policy(snapshot="before the claim"), "claims the mark"),
    # Two edits on their way at once: the second is applied first, its answer clears the mark (the revision is its
    # own), then the first lands. No form of clear helps, so an edit must not send under somebody else's lease.
    "second edit sent beside the first": (Policy(exclusive=False), "plugin applies r1"),
    "second edit sent beside the first, clear by rev": (Policy(exclusive=False, clear="rev"), "plugin applies r1"),
    # A sender so slow that its lease ran out clears, by revision alone, the mark under which another sender's request
    # of the same revision is still on its way. The next edit then finds no mark to tell it to wait.
    "clear by rev without the lease": (Policy(clear="rev"), "runs out"),
    "copy without row locks": (replace(REAL_WITH_COPY, copy_locks=False), "copy writes"),
    "copy of marked rows": (replace(REAL_WITH_COPY, copy_leaves="nothing"), "copy takes the mark over"),
    # Its sender gave up, so nobody holds a lease, but what it sent may still be applied.
    "copy over a late request": (replace(REAL_WITH_COPY, copy_leaves="leased"), "LATE"),
    "copy without a second look": (replace(REAL_WITH_COPY, copy_looks_again=False), "the tree moves it"),
    "sender without a clock of its own": (Policy(own_clock=False), "runs out"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_variant_diverges_silently(name: str) -> None:
    policy, needed = BROKEN[name]
    found = search(policy)
    assert found.violation is not None
    assert "silent divergence" in found.violation
    assert any(word in event for event in found.trace for word in needed.split("|")), "\n".join(found.trace)


@pytest.mark.parametrize(
    "policy",
    [
        # A shared memory that nobody loses is as good as a table: it is the crash that makes the difference.
        Policy(quarantine="memory", crashes=0),
        # Without bypass writers there is nothing that an application could miss.
        Policy(capture="application", bypass=False),
        # As long as leases never run out under their holder, the revision alone is enough.
        Policy(clear="rev", leases_run_out=False),
        Policy(own_clock=False, leases_run_out=False),
        # What comes with the row's lock cannot come while the copy writes.
        replace(REAL_WITH_COPY, copy_looks_again=False, moves=False),
    ],
    ids=[
        "memory, no crash",
        "application, no bypass",
        "rev, endless leases",
        "no clock, endless leases",
        "copy, still tree",
    ],
)
def test_a_broken_rule_needs_the_event_that_it_guards_against(policy: Policy) -> None:
    found = search(policy)
    assert found.violation is None, "\n".join(found.trace)


def test_a_dead_holders_lease_must_run_out_or_its_mark_stays() -> None:
    assert cannot_drain(replace(REAL, leases_run_out=False)), "the check for draining can fail"


def test_a_search_that_is_cut_short_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="more than 100 states"):
        search(REAL, limit=100)
