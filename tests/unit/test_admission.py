"""The door (architecture §1, §3 step 1): every phase, health and setting, and what it says when it is closed."""

import asyncio
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import product
from typing import Literal, cast
from uuid import UUID

import pytest

from cutover.domain.breaker import BreakerPolicy, Probe, ProbePolicy
from cutover.domain.errors import InvalidRequest, Refused
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.requests import Caller
from cutover.engine.admission import Admission
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.shadow_time import WriteTally
from cutover.stores.ledger import Ledger
from cutover.stores.plugin import PluginClient
from cutover.stores.shadow import ShadowStore

REFUSE: tuple[Literal["all", "writes"], ...] = ("all", "writes")


def watch(phase: Phase | None, *, age: float = 0.0) -> PhaseWatch:
    """A phase confirmed `age` seconds ago. Neither store is asked here."""
    made = PhaseWatch("t", cast(Ledger, None), lambda _: None, lease=5.0)
    if phase is not None:
        made.state = PhaseState(phase, 1, datetime(2026, 1, 1, tzinfo=UTC), 1)
        made._confirmed = time.monotonic() - age
    return made


def health(*, up: bool, breaker_open: bool = False) -> PluginHealthMonitor:
    made = PluginHealthMonitor(
        "t", cast(PluginClient, None), lambda _: None, interval=1, timeout=1, probe_policy=ProbePolicy(),
        breaker_policy=BreakerPolicy(), owner=UUID(int=1),
    )  # fmt: skip
    for _ in range(3):
        made._hysteresis.observe(Probe.OK if up else Probe.FAILED)
    made.why = "" if up else "the plugin is down for the test"
    if breaker_open:
        made.breaker.trip(time.monotonic(), "for the test")
    return made


def door(
    phase: Phase | None, *, up: bool = True, breaker_open: bool = False, refuse: Literal["all", "writes"] = "all",
    age: float = 0.0, most: int = 2, backlog: int = 10,
) -> Admission:  # fmt: skip
    phases = watch(phase, age=age)
    return Admission(
        phases, health(up=up, breaker_open=breaker_open), WriteTally("t", cast(ShadowStore, None), phases, print),
        refuse=refuse, max_in_flight=most, max_backlog=backlog,
    )  # fmt: skip


def verdict(way_in: AbstractContextManager[PhaseState]) -> str:
    """`in`, or the reason of the refusal."""
    try:
        with way_in:
            return "in"
    except Refused as refused:
        return refused.reason if refused.status == 503 and refused.retry_after >= 1 else "refused without a time"


@pytest.mark.parametrize(
    ("phase", "state", "refuse"), list(product(Phase, ["up", "down", "breaker"], REFUSE)), ids=lambda each: str(each)
)
def test_phase_and_plugin(phase: Phase, state: str, refuse: Literal["all", "writes"]) -> None:
    made = door(phase, up=state != "down", breaker_open=state == "breaker", refuse=refuse)
    closed = {"up": "in", "down": "plugin_unhealthy", "breaker": "breaker_open"}[state]
    in_need = closed if phase.needs_plugin else "in"
    assert verdict(made.write()) == in_need
    # There is no silent fallback: only a read that legacy answers completely may go on, and only where asked for.
    alone = refuse == "writes" and phase in (Phase.A1, Phase.A2)
    assert verdict(made.read()) == ("in" if alone else in_need)
    assert verdict(made.read(legacy_is_enough=False)) == in_need
    assert made.in_flight == 0
    why = made.why_closed()
    assert (why.reason if why is not None else "in") == in_need


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_phase_that_is_not_known_or_no_longer_confirmed_refuses_all(phase: Phase | None) -> None:
    made = door(phase, age=5.1)
    assert verdict(made.write()) == verdict(made.read()) == "phase_unconfirmed"
    why = made.why_closed()
    assert why is not None
    assert why.reason == "phase_unconfirmed"
    if phase is not None:
        assert verdict(door(phase, age=4.0).write()) == "in"


@pytest.mark.parametrize("phase", list(Phase))
def test_too_many_inside(phase: Phase) -> None:
    made = door(phase)
    with made.write(), made.read():
        assert made.in_flight == 2
        assert verdict(made.write()) == verdict(made.read()) == "overload"
    assert verdict(made.write()) == "in"


@pytest.mark.parametrize("phase", list(Phase))
def test_the_backlog_closes_the_door_to_writes_only(phase: Phase) -> None:
    made = door(phase)
    made.live_marks = 10
    assert verdict(made.write()) == "in"
    made.live_marks = 11
    assert verdict(made.write()) == ("backlog" if phase.needs_plugin else "in")
    assert verdict(made.read()) == "in"


@pytest.mark.parametrize("phase", list(Phase))
def test_draining(phase: Phase) -> None:
    made = door(phase)
    with made.write():
        made.draining = True
        assert verdict(made.write()) == verdict(made.read()) == "draining"
    assert made.in_flight == 0


def test_an_error_inside_leaves_the_door_as_it_was() -> None:
    made = door(Phase.A2)
    with pytest.raises(ZeroDivisionError), made.write():
        raise ZeroDivisionError
    assert made.in_flight == 0


@pytest.mark.parametrize("phase", list(Phase))
def test_writes_are_counted_in_a1_only_the_refused_ones_with_them(phase: Phase) -> None:
    made = door(phase)
    assert verdict(made.write()) == "in"
    made._health.breaker.trip(time.monotonic(), "for the test")
    verdict(made.write())
    assert made._tally._pending == ({1: (2, 1)} if phase is Phase.A1 else {})


def test_what_its_caller_got_wrong_and_what_is_refused_by_design_is_not_counted() -> None:
    made = door(Phase.A1)
    with pytest.raises(InvalidRequest), made.write():
        raise InvalidRequest("content is empty")
    made.draining = True
    assert verdict(made.write()) == "draining"
    assert made._tally._pending == {}


def test_a_write_that_did_not_reach_the_plugin_is_one_error_among_the_writes() -> None:
    made = door(Phase.A1)
    with made.write():
        made._tally.undelivered()
    assert made._tally._pending == {1: (1, 1)}


async def test_while_writes_are_held_they_wait_and_reads_do_not() -> None:
    made = door(Phase.A2, most=5)
    arrived = time.monotonic()
    with made.hold(20.0):
        waiting = [asyncio.create_task(made.past_hold(Caller("memories", arrived=arrived))) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert made.held == 3
        assert not any(each.done() for each in waiting)
        assert verdict(made.read()) == "in"
    callers = await asyncio.gather(*waiting)
    assert made.held == 0
    # What it waited is not counted against its delivery.
    assert all(arrived < each.arrived <= time.monotonic() for each in callers)
    untouched = Caller("memories", arrived=arrived)
    assert await made.past_hold(untouched) is untouched


async def test_a_write_gets_no_more_than_its_share_of_the_hold_back() -> None:
    made = door(Phase.A2)
    arrived = time.monotonic() - 0.1
    with made.hold(20.0):
        waiting = asyncio.create_task(made.past_hold(Caller("memories", arrived=arrived)))
        await asyncio.sleep(0.9)
    assert (await waiting).arrived == pytest.approx(arrived + 0.6, abs=1e-6)


@pytest.mark.parametrize("age", [1.5, 60.0])
async def test_who_has_waited_too_long_since_it_arrived_is_told_to_come_again(age: float) -> None:
    made = door(Phase.A2)
    with made.hold(20.0), pytest.raises(Refused) as refused:
        await made.past_hold(Caller("memories", arrived=time.monotonic() - age))
    assert (refused.value.reason, refused.value.status, refused.value.retry_after) == ("held", 503, 1)
    assert made.held == 0


async def test_the_door_opens_by_itself_whatever_the_holder_waits_for() -> None:
    made = door(Phase.A2)
    with made.hold(0.1):
        caller = Caller("memories", arrived=time.monotonic() + 20)  # patient
        assert await made.past_hold(caller) != caller
        await made.past_hold(Caller("memories", arrived=time.monotonic()))
    with made.hold(20.0):
        await asyncio.sleep(0.2)  # what opened the door before does not open it now
        with pytest.raises(Refused):
            await made.past_hold(Caller("memories", arrived=time.monotonic() - 1.4))


async def test_no_more_wait_than_may_be_inside() -> None:
    made = door(Phase.A2, most=2)
    with made.hold(20.0):
        waiting = [asyncio.create_task(made.past_hold(Caller("memories", arrived=time.monotonic()))) for _ in range(2)]
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as refused:
            await made.past_hold(Caller("memories", arrived=time.monotonic()))
        assert refused.value.reason == "held"
    await asyncio.gather(*waiting)
