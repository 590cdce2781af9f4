"""Every error of the tree, and every reason of a refusal, is put down to its caller, to design, or to a fault."""

import asyncio

import pytest

from cutover.domain import errors
from cutover.domain.write_fault import Counted, counted
from cutover.metric_labels import REFUSALS

THEIRS = ("InvalidRequest", "NotHeldByLegacy", "Unauthenticated", "Forbidden", "NotFound", "Conflict", "KeyReused")
BY_DESIGN = {"draining", "held", "namespace_closed", "busy"}


def test_an_answered_write_is_a_write() -> None:
    assert counted(None) is Counted.WRITE


@pytest.mark.parametrize("name", THEIRS)
def test_what_the_caller_got_wrong_is_nothing(name: str) -> None:
    assert counted(getattr(errors, name)("wrong")) is Counted.NOTHING


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_is_a_fault_but_those_by_design(reason: str) -> None:
    expected = Counted.NOTHING if reason in BY_DESIGN else Counted.ERROR
    assert counted(errors.Refused(reason, "no")) is expected


def test_what_stores_and_our_own_code_do_wrong_is_an_error() -> None:
    for error in (
        errors.DatabaseUnavailable("gone"),
        errors.DatabaseFault("no"),
        errors.LockTimeout("late"),
        errors.StaleEpoch("again"),
        errors.PluginFault(500, "internal", "no"),
        errors.PluginTimeout("late"),
        errors.PluginUnreachable("down"),
        KeyError("a defect of ours"),
    ):
        assert counted(error) is Counted.ERROR


def test_a_refusal_by_the_plugin_s_rules_and_a_caller_who_went_away_are_nothing() -> None:
    assert counted(errors.PluginRejected(422, "bad_request", "too long")) is Counted.NOTHING
    assert counted(asyncio.CancelledError()) is Counted.NOTHING
