"""The contract's JSON, read strictly: what a confused plugin says never becomes a memory."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import PluginFault, PluginMisspoke, PluginRejected
from cutover.domain.memory import Kind, PluginCommit, Source
from cutover.stores import plugin_wire as wire

MEMORY: dict[str, Any] = {
    "id": "6f1b8b1e-0000-4000-8000-000000000001",
    "namespace": "team:a",
    "content": "words",
    "kind": "summary",
    "source": "user",
    "created_at": "2026-04-01T12:00:00.123456789+02:00",
}
NAMESPACE = {"name": "team:a", "kind": "team", "created_at": "2026-04-01T12:00:00Z"}


def test_timestamps_are_sent_in_utc_with_microseconds_and_z() -> None:
    at = datetime(2026, 4, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert wire.rfc3339(at) == "2026-04-01T10:00:00.000000Z"
    assert wire.rfc3339(datetime(2026, 4, 1, 12, 0, 0, 5, tzinfo=UTC)) == "2026-04-01T12:00:00.000005Z"
    with pytest.raises(ValueError, match="time zone"):
        wire.rfc3339(datetime(2026, 4, 1, 12))  # noqa: DTZ001 -- the point


def test_a_commit_carries_only_what_was_given() -> None:
    plain = PluginCommit(uuid4(), "team:a", "é")
    assert json.loads(wire.encode_commit(plain)) == {
        "id": str(plain.id),
        "content": "é",
        "kind": "fact",
        "source": "agent",
    }
    full = PluginCommit(
        uuid4(),
        "team:a",
        "x",
        Kind.CHECKPOINT,
        Source.RUNTIME,
        datetime(2030, 1, 1, tzinfo=UTC),
        {"cutover": {}},
        True,
        (0.5, 1.0),
    )
    assert json.loads(wire.encode_commit(full)) == {
        "id": str(full.id),
        "content": "x",
        "kind": "checkpoint",
        "source": "runtime",
        "expires_at": "2030-01-01T00:00:00.000000Z",
        "propagation": {"cutover": {}},
        "pin": True,
        "embedding": [0.5, 1.0],
    }


def test_content_is_sent_as_it_is() -> None:
    for content in ("中🐘\u2028", "half a pair \ud800", 'q"\\\n'):
        raw = wire.encode_commit(PluginCommit(uuid4(), "team:a", content))
        assert json.loads(raw)["content"] == content


def test_a_search_leaves_out_what_is_empty() -> None:
    assert json.loads(wire.encode_search(["a:b"], "", (), None, None)) == {"namespaces": ["a:b"]}
    assert json.loads(wire.encode_search(["a:b"], "q", {Kind.SUMMARY, Kind.FACT}, 0, [1.0])) == {
        "namespaces": ["a:b"],
        "query": "q",
        "kinds": ["fact", "summary"],
        "limit": 0,
        "embedding": [1.0],
    }


def _answer(**change: Any) -> bytes:
    return json.dumps({"memories": [{**MEMORY, **change}]}).encode()


def test_a_memory_is_read_whole() -> None:
    (memory,) = wire.decode_memories(
        _answer(expires_at="2030-01-01T00:00:00Z", propagation={"a": [None]}, pin=True, score=1, future="ignored"),
        ["team:a"],
    )
    assert memory.id == UUID(MEMORY["id"])
    assert (memory.kind, memory.source, memory.pin, memory.score) == (Kind.SUMMARY, Source.USER, True, 1.0)
    assert memory.created_at == datetime(2026, 4, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert memory.created_at.tzinfo is UTC
    assert memory.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert memory.propagation == {"a": [None]}


@pytest.mark.parametrize("raw", [b'{"memories": null}', b'{"memories": []}'])
def test_no_memories(raw: bytes) -> None:
    assert wire.decode_memories(raw, ["team:a"]) == []


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"{}", b'{"memories": {}}', b'{"memories": [5]}', b"[" * 99999]
)
def test_no_search_answer_at_all(raw: bytes) -> None:
    with pytest.raises(PluginMisspoke):
        wire.decode_memories(raw, ["team:a"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", 5),
        ("id", "6f1b8b1e"),
        ("id", "6f1b8b1e00004000800000000000000100000"),
        ("namespace", "team:other"),
        ("namespace", None),
        ("content", None),
        ("content", 5),
        ("kind", "poem"),
        ("kind", None),
        ("source", ""),
        ("created_at", None),
        ("created_at", 1711965600),
        ("created_at", "2026-04-01"),
        ("created_at", "2026-04-01T12:00:00"),
        ("created_at", "2026-04-31T12:00:00Z"),
        ("created_at", "20260401T120000Z"),
        ("expires_at", "never"),
        ("pin", "true"),
        ("pin", 1),
        ("score", "0.5"),
        ("score", True),
    ],
)
def test_a_malformed_memory(field: str, value: Any) -> None:
    with pytest.raises(PluginMisspoke):
        wire.decode_memories(_answer(**{field: value}), ["team:a"])


def test_not_a_number_is_not_json() -> None:
    with pytest.raises(PluginMisspoke):
        wire.decode_memories(_answer(score=float("nan")), ["team:a"])


def test_no_answer_is_quoted_in_the_error() -> None:
    with pytest.raises(PluginMisspoke) as caught:
        wire.decode_memories(_answer(content=None, propagation="s3cret"), ["team:a"])
    assert "s3cret" not in caught.value.message


def test_a_commit_answered_with_another_id_is_a_breach() -> None:
    commit = PluginCommit(uuid4(), "team:a", "x")
    wire.check_committed(json.dumps({"id": str(commit.id), "namespace": "team:a"}).encode(), commit)
    answers: list[Any] = [
        {"id": str(uuid4()), "namespace": "team:a"},
        {"id": str(commit.id), "namespace": "team:b"},
        {"id": str(commit.id)},
        {"namespace": "team:a"},
        [],
    ]
    for answer in answers:
        with pytest.raises(PluginMisspoke):
            wire.check_committed(json.dumps(answer).encode(), commit)


@pytest.mark.parametrize(
    "change",
    [{"name": "team:b"}, {"kind": "galaxy"}, {"kind": None}, {"metadata": []}, {"created_at": None}, {"expires_at": 1}],
)
def test_a_malformed_namespace(change: dict[str, Any]) -> None:
    assert wire.decode_namespace(json.dumps(NAMESPACE).encode(), "team:a").metadata is None
    with pytest.raises(PluginMisspoke):
        wire.decode_namespace(json.dumps({**NAMESPACE, **change}).encode(), "team:a")


@pytest.mark.parametrize(
    "body",
    [
        {"version": "1.0.0", "capabilities": []},
        {"status": "fine", "version": "1.0.0"},
        {"status": "ok"},
        {"status": "ok", "version": 1},
        {"status": "ok", "version": "1.0.0", "capabilities": "fts"},
        {"status": "ok", "version": "1.0.0", "capabilities": [1]},
    ],
)
def test_a_malformed_health(body: dict[str, Any]) -> None:
    with pytest.raises(PluginMisspoke):
        wire.decode_health(json.dumps(body).encode())


def test_health_without_capabilities_has_none() -> None:
    assert (
        wire.decode_health(b'{"status":"degraded","version":"1.2.0","capabilities":null}').capabilities == frozenset()
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_4xx_is_rejected_in_the_plugins_words(status: int) -> None:
    error = wire.decode_error(status, b'{"code":"forbidden","message":"no","details":{"x":1}}')
    assert isinstance(error, PluginRejected)
    assert (error.http_status, error.plugin_code, error.message, error.details) == (status, "forbidden", "no", {"x": 1})
    assert not error.ambiguous


@pytest.mark.parametrize("status", [408, 425, 429])
def test_not_now_is_not_never(status: int) -> None:
    assert isinstance(wire.decode_error(status, b"slow down"), PluginFault)


@pytest.mark.parametrize(("status", "ambiguous"), [(500, False), (501, False), (503, False), (502, True), (504, True)])
def test_a_5xx_is_a_fault_and_a_gateways_is_ambiguous(status: int, ambiguous: bool) -> None:
    for raw in (b"<html>", b"", b"[]", b'{"code":5,"message":[]}', b"\xff"):
        error = wire.decode_error(status, raw)
        assert isinstance(error, PluginFault)
        assert (error.http_status, error.plugin_code, error.ambiguous) == (status, "internal", ambiguous)
    assert len(wire.decode_error(status, json.dumps({"message": "x" * 10_000}).encode()).message) == wire.MAX_MESSAGE
