"""The contract's bodies: what is taken, what is refused, and that no refusal repeats the input."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.errors import InvalidRequest
from cutover.domain.memory import Kind, Source
from cutover.http.plugin_bodies import (
    Body,
    CommitBody,
    ForgetBody,
    PatchNamespaceBody,
    PutNamespaceBody,
    SearchBody,
    memory_id,
    namespace_name,
    parse,
)

ID = "0b5e9c1e-5a0f-4c5e-9d4b-0a1b2c3d4e5f"
GOOD: dict[str, Any] = {"content": "a fact", "kind": "fact", "source": "agent"}


def commit(**fields: Any) -> CommitBody:
    return parse(CommitBody, json.dumps({**GOOD, **fields}).encode())


def test_a_full_commit_is_taken_whole() -> None:
    body = commit(
        id=ID.upper(),
        kind="summary",
        source="user",
        expires_at="2030-01-02T03:04:05.123456789+02:00",
        propagation={"a": [1, 2.5, None, {"b": "ü"}]},
        pin=True,
        embedding=[0.5] * 1535 + [1],
        workspace_id="sent along, ignored",
    )
    assert body.id == UUID(ID)
    assert (body.kind, body.source, body.pin) == (Kind.SUMMARY, Source.USER, True)
    assert body.expires_at == datetime(2030, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)
    assert body.propagation == {"a": [1, 2.5, None, {"b": "ü"}]}
    assert body.embedding is not None
    assert len(body.embedding) == 1536


def test_nulls_count_as_absent() -> None:
    body = commit(id=None, expires_at=None, propagation=None, pin=None, embedding=None)
    assert (body.id, body.expires_at, body.propagation, body.pin, body.embedding) == (None,) * 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content", ""),
        ("content", " \t\n\u00a0\u2003"),
        ("content", 5),
        ("content", None),
        ("content", "a\0b"),
        ("kind", "memory"),
        ("kind", None),
        ("kind", "FACT"),
        ("source", "system"),
        ("source", None),
        ("id", "not-a-uuid"),
        ("id", ID.replace("-", "")),
        ("id", "{" + ID[1:-1] + "}"),
        ("id", "urn:uuid:" + ID),
        ("id", 7),
        ("expires_at", 1900000000),
        ("expires_at", "2030-01-02"),
        ("expires_at", "2030-01-02T03:04:05"),
        ("expires_at", "2030-01-02 03:04:05Z"),
        ("expires_at", "2030-13-02T03:04:05Z"),
        ("expires_at", "0001-01-01T00:00:00+10:00"),
        ("expires_at", "٢٠٣٠-01-02T03:04:05Z"),
        ("pin", "true"),
        ("pin", 1),
        ("propagation", {"a": "b\0"}),
        ("propagation", {"a\0": 1}),
        ("propagation", [[["\0"]]]),
        ("embedding", [0.5] * 1535),
        ("embedding", [0.5] * 1537),
        ("embedding", ["0.5"] * 1536),
        ("embedding", [True] * 1536),
        ("embedding", [0.5] * 1535 + [1e39]),
        ("embedding", "0.5"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}"):
        commit(**{field: value})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", ["propagation", "embedding"])
def test_numbers_that_json_has_no_word_for_are_refused(field: str, number: str) -> None:
    value = number if field == "propagation" else "[" + ",".join([number] * 1536) + "]"
    raw = json.dumps(GOOD)[:-1] + f', "{field}": {value}}}'
    with pytest.raises(InvalidRequest):
        parse(CommitBody, raw.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"content": "\\ud800", "kind": "fact", "source": "agent"}',
        b'{"content": "a\xed\xa0\x80", "kind": "fact", "source": "agent"}',
        b'{"content": "a", "kind": "fact", "source": "agent", "propagation": {"x": "\\udfff"}}',
        b'{"propagation": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"content": "a", "kind": "fact", "source": "agent"} trailing',
    ],
)
@pytest.mark.parametrize("model", [CommitBody, SearchBody, ForgetBody, PutNamespaceBody])
def test_what_is_not_a_json_object_is_refused(model: type[Body], raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(model, raw)


def test_no_refusal_repeats_the_input() -> None:
    for fields in ({"kind": "hunter2"}, {"id": "hunter2"}, {"expires_at": "hunter2"}, {"pin": "hunter2"}):
        with pytest.raises(InvalidRequest) as refused:
            commit(**fields)
        assert "hunter2" not in refused.value.message


def test_search_bodies() -> None:
    body = parse(SearchBody, b'{"namespaces": ["team:a"], "query": null, "kinds": null, "limit": 0, "x": 1}')
    assert (body.namespaces, body.query, body.kinds, body.limit) == (["team:a"], None, None, 0)
    refused: tuple[dict[str, Any], ...] = (
        {},
        {"namespaces": []},
        {"namespaces": ["Team:a"]},
        {"namespaces": ["team:"]},
        {"namespaces": "team:a"},
        {"namespaces": ["team:" + "a" * 252]},
        {"namespaces": ["team:a"], "limit": 101},
        {"namespaces": ["team:a"], "limit": -1},
        {"namespaces": ["team:a"], "limit": "5"},
        {"namespaces": ["team:a"], "limit": True},
        {"namespaces": ["team:a"], "limit": 1.5},
        {"namespaces": ["team:a"], "kinds": ["fact", "fiction"]},
        {"namespaces": ["team:a"], "query": 5},
        {"namespaces": ["team:a"], "query": "a\0"},
    )
    for wrong in refused:
        with pytest.raises(InvalidRequest):
            parse(SearchBody, json.dumps(wrong).encode())


def test_namespace_bodies_tell_null_from_absent() -> None:
    put = parse(PutNamespaceBody, b'{"kind": "custom", "metadata": {"a": 1}}')
    assert (put.kind, put.expires_at, put.metadata) == ("custom", None, {"a": 1})
    patch = parse(PatchNamespaceBody, b'{"expires_at": null}')
    assert patch.model_fields_set == {"expires_at"}
    assert parse(PatchNamespaceBody, b"{}").model_fields_set == set()
    for wrong in (b'{"kind": "group"}', b'{"kind": "team", "metadata": []}', b'{"kind": "team", "metadata": "x"}'):
        with pytest.raises(InvalidRequest):
            parse(PutNamespaceBody, wrong)


def test_names_and_ids_in_paths() -> None:
    assert namespace_name("custom:a.b-c_d:E") == "custom:a.b-c_d:E"
    assert memory_id(ID) == UUID(ID)
    for name in ("", "a", ":a", "A:b", "a:b\n", "a:b/c", "a:ü", "a:" + "b" * 255):
        with pytest.raises(InvalidRequest):
            namespace_name(name)
    for wrong in ("", "1", ID[:-1], ID + "0", "g" + ID[1:]):
        with pytest.raises(InvalidRequest):
            memory_id(wrong)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    for model in (CommitBody, SearchBody, ForgetBody, PutNamespaceBody, PatchNamespaceBody):
        try:
            parse(model, raw)
        except InvalidRequest as refused:
            assert refused.status == 400  # noqa: PT017 - both outcomes are right; anything else is not


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_propagation_that_is_taken_comes_out_as_it_went_in(value: Any) -> None:
    try:
        body = commit(propagation=value)
    except InvalidRequest:
        assert "\\u0000" in json.dumps(value) or "NaN" in json.dumps(value) or "Infinity" in json.dumps(value)
    else:
        assert body.propagation == value
