"""The error tree: every class says how it leaves a face; the driver's errors are mapped completely (quality §1.8)."""

import inspect
from collections.abc import Iterator

import asyncpg
import pytest

from cutover.domain import errors
from cutover.domain.errors import (
    CutoverError,
    DatabaseFault,
    DatabaseUnavailable,
    LockTimeout,
    OperatorError,
    PluginRejected,
    StaleEpoch,
    StoreError,
)
from cutover.stores.database import DRIVER_ERRORS, translate

CODES = {"bad_request", "not_found", "forbidden", "internal", "unavailable"}
OURS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, CutoverError)]


def tree(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


DRIVERS = sorted(
    {
        each
        for base in (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        for each in tree(base)
    },
    key=lambda each: each.__qualname__,
)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_says_how_it_leaves_a_face(kind: type[CutoverError]) -> None:
    assert kind.__doc__
    assert 400 <= kind.status < 600
    assert kind.code in CODES
    if kind.status == 503:
        assert kind.code == "unavailable"
    if kind.code == "not_found":
        assert kind.status == 404


def test_the_drawing_at_the_top_names_every_error() -> None:
    drawn = errors.__doc__ or ""
    assert [kind.__name__ for kind in OURS if kind.__name__ not in drawn] == []


def test_messages_and_remedies() -> None:
    error = CutoverError("what happened", next_step="what to do")
    assert (str(error), error.message, error.next_step) == ("what happened", "what happened", "what to do")
    rejected = PluginRejected(413, "bad_request", "too large", {"limit": 1})
    assert (rejected.status, rejected.code, rejected.details) == (413, "bad_request", {"limit": 1})
    assert not PluginRejected(400, "bad_request", "no").ambiguous
    assert errors.PluginTimeout("late").ambiguous
    assert errors.PluginMisspoke("odd").ambiguous
    assert not errors.PluginUnreachable("refused").ambiguous
    assert [errors.PluginFault(status, "internal", "m").ambiguous for status in (500, 502, 503, 504)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert issubclass(errors.BadSetting, OperatorError)


def made(kind: type[BaseException]) -> Exception:
    """An instance, however strange its constructor; the driver makes them from a server's message."""
    error: BaseException = kind.__new__(kind)
    error.args = ("secret words of the server: SELECT * FROM agent_memories",)
    for name in ("detail", "hint"):  # what the driver's own __str__ reads
        if not hasattr(error, name):
            setattr(error, name, None)
    assert isinstance(error, Exception)
    return error


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_driver_becomes_one_of_ours(kind: type[BaseException]) -> None:
    assert issubclass(kind, DRIVER_ERRORS)
    ours = translate(made(kind))
    assert isinstance(ours, StoreError)
    assert "secret" not in ours.message
    assert "SELECT" not in ours.message
    state = getattr(kind, "sqlstate", None) or ""
    if state in ("55P03", "40P01", "40001"):
        assert isinstance(ours, LockTimeout)
    elif state.startswith(("08", "53")) or state in ("57P01", "57P02", "57P03", "25006", "25P03", "57014"):
        assert isinstance(ours, DatabaseUnavailable)
    elif issubclass(kind, asyncpg.PostgresError):
        assert isinstance(ours, DatabaseFault)
        assert ours.sqlstate == state
    else:
        assert isinstance(ours, DatabaseUnavailable | DatabaseFault)


def test_the_tree_is_not_empty() -> None:
    assert len(DRIVERS) > 200
    assert len(OURS) > 20


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError("refused"), DatabaseUnavailable),
        (ConnectionResetError(), DatabaseUnavailable),
        (TimeoutError(), DatabaseUnavailable),
        (asyncpg.DataError("invalid input for query argument"), DatabaseFault),
        (asyncpg.InterfaceError("connection is closed"), DatabaseUnavailable),
    ],
)
def test_what_is_not_a_class_of_its_own(error: Exception, ours: type[CutoverError]) -> None:
    assert isinstance(error, DRIVER_ERRORS)
    assert type(translate(error)) is ours


def test_a_stale_epoch_is_told_apart_and_ours_pass() -> None:
    raised = type("Raised", (asyncpg.PostgresError,), {"sqlstate": "CU001"})("epoch 1 is over")
    assert isinstance(translate(raised), StaleEpoch)
    assert translate(mine := LockTimeout("mine")) is mine
