"""Listeners' addresses, limits and errors: what is parsed, what is refused, what each error becomes."""

import resource
from datetime import UTC, datetime, timedelta, timezone

import pytest

from cutover.domain import errors as domain
from cutover.http.errors import CONTRACT_CODES, contract_shape, ops_shape, problem_of, v1_shape
from cutover.http.limits import RESERVED_FILES, Limits, connections_allowed, raise_open_files
from cutover.http.listen import TcpAddress, UnixAddress, parse_listen
from cutover.http.wire import idempotency_key, rfc3339


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("127.0.0.1:9200", (TcpAddress("127.0.0.1", 9200),)),
        ("localhost:0", (TcpAddress("localhost", 0),)),
        ("[::1]:9200", (TcpAddress("::1", 9200),)),
        ("unix:/run/cutover/plugin.sock", (UnixAddress("/run/cutover/plugin.sock"),)),
        ("127.0.0.1:1, unix:/a:b", (TcpAddress("127.0.0.1", 1), UnixAddress("/a:b"))),
        ("off", ()),
        (" off ", ()),
    ],
)
def test_addresses(text: str, addresses: tuple[TcpAddress | UnixAddress, ...]) -> None:
    assert parse_listen(text) == addresses


@pytest.mark.parametrize(
    "text",
    [
        *("", "9200", ":9200", "host", "host:", "host:x", "host:65536", "host:-1", "host:٣", "::1:9200"),
        *("unix:", "unix:a", "unix:/" + "a" * 107, "unix:/a\0b", "off,127.0.0.1:1", "127.0.0.1:1,"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_listen(text)


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:9200", "[::1]:9200", "unix:/a"):
        assert str(parse_listen(text)[0]) == text


def test_connections_leave_descriptors_for_the_stores() -> None:
    assert raise_open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert connections_allowed(Limits(connections=7)) == 7
    assert connections_allowed(Limits()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_FILES


def test_timestamps_are_what_go_clients_take() -> None:
    assert rfc3339(datetime(2026, 4, 1, 12, 0, 0, 123456, tzinfo=UTC)) == "2026-04-01T12:00:00.123456Z"
    assert rfc3339(datetime(2026, 4, 1, 12, tzinfo=timezone(timedelta(hours=2)))) == "2026-04-01T10:00:00Z"


def test_idempotency_keys() -> None:
    assert idempotency_key(None) is None
    assert idempotency_key("a-key:1") == "a-key:1"
    for bad in ("", " ", "a b", "ü", "x" * 256, "a\n"):
        with pytest.raises(domain.InvalidRequest):
            idempotency_key(bad)


def every_error() -> list[domain.CutoverError]:
    """One of each kind in the tree."""
    special = {
        domain.Refused: domain.Refused("backlog", "words", retry_after=0.2),
        domain.PluginRejected: domain.PluginRejected(418, "teapot", "words", {"a": 1}),
        domain.PluginFault: domain.PluginFault(500, "internal", "words"),
    }
    found: list[domain.CutoverError] = []
    open_: list[type[domain.CutoverError]] = [domain.CutoverError]
    while open_:
        kind = open_.pop()
        open_.extend(kind.__subclasses__())
        if kind.__module__ == domain.__name__:
            found.append(special.get(kind) or kind("words"))
    return found


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_of_the_tree_has_a_problem_in_every_shape(error: domain.CutoverError) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert 400 <= problem.status < 600
    assert problem.code in CONTRACT_CODES
    assert ("Retry-After" in problem.headers) is (problem.status == 503)
    if problem.status == 503:
        assert int(problem.headers["Retry-After"]) >= 1
    assert v1_shape(problem) == {"error": "words"}
    assert ops_shape(problem)["error"] == "words"
    assert contract_shape(problem)["code"] == problem.code
    assert contract_shape(problem)["message"].startswith("words")


def test_what_nobody_expected_is_no_problem_of_the_callers() -> None:
    assert problem_of(ValueError("content")) is None
    assert problem_of(TimeoutError()) is None
