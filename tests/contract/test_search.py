"""The contract's search (domain §3)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.contract.conftest import NamespaceFactory
from tests.contract.test_namespaces import Commit, Search, assert_error


def _axis(*weights: float) -> list[float]:
    return [*weights, *([0.0] * (1536 - len(weights)))]


def _contents(memories: list[dict[str, Any]]) -> list[str]:
    return [memory["content"] for memory in memories]


async def test_nothing_found_is_null_or_empty(http: httpx.AsyncClient, namespace: str) -> None:
    answer = await http.post("/v1/search", json={"namespaces": [namespace]})
    assert answer.status_code == 200
    assert answer.json()["memories"] in (None, [])


async def test_only_the_asked_namespaces(namespace_factory: NamespaceFactory, commit: Commit, search: Search) -> None:
    first, second, third = [await namespace_factory("custom") for _ in range(3)]
    for name in (first, second, third):
        await commit(name, f"in {name}")
    assert set(_contents(await search(first, third))) == {f"in {first}", f"in {third}"}
    assert _contents(await search(second, second)) == [f"in {second}"]


async def test_an_unknown_namespace_finds_nothing(namespace_factory: NamespaceFactory, search: Search) -> None:
    assert await search(await namespace_factory("custom", put=False)) == []


async def test_without_a_query_pinned_first_then_newest(namespace: str, commit: Commit, search: Search) -> None:
    for content in ("oldest", "older", "newer", "newest"):
        await commit(namespace, content, pin=content == "older")
    assert _contents(await search(namespace)) == ["older", "newest", "newer", "oldest"]
    assert _contents(await search(namespace, query="")) == ["older", "newest", "newer", "oldest"]


async def test_full_text_finds_stems_and_ranks(namespace: str, commit: Commit, search: Search) -> None:
    often, once = "runs and runs: running the runner runs, he runs", "The deploy is running on Friday"
    for content in (often, once, "nothing of the kind"):  # the better match is the older one
        await commit(namespace, content)
    found = await search(namespace, query="running")
    assert _contents(found) == [often, once]
    assert found[0]["score"] > found[1]["score"]
    assert _contents(await search(namespace, query="friday deploys")) == [once]
    assert await search(namespace, query="friday elephant") == []


async def test_equal_ranks_are_newest_first(namespace: str, commit: Commit, search: Search) -> None:
    ids = [(await commit(namespace, "the very same words"))["id"] for _ in range(4)]
    assert [memory["id"] for memory in await search(namespace, query="words")] == ids[::-1]


async def test_one_character_is_a_substring(namespace: str, commit: Commit, search: Search) -> None:
    for content in ("50% off", "snake_case", "plain words"):
        await commit(namespace, content)
    assert _contents(await search(namespace, query="%")) == ["50% off"]
    assert _contents(await search(namespace, query="_")) == ["snake_case"]
    assert _contents(await search(namespace, query="W")) == ["plain words"]
    assert await search(namespace, query="中") == []


@pytest.mark.parametrize("query", ["'", "' OR 1=1 --", "& | !", "<->", ":*", "\\", '"', "()"])
async def test_operators_in_a_query_are_words(namespace: str, commit: Commit, search: Search, query: str) -> None:
    await commit(namespace, "untouched")
    assert await search(namespace, query=query) == []


async def test_kinds_filter(namespace: str, commit: Commit, search: Search) -> None:
    for kind in ("fact", "summary", "checkpoint"):
        await commit(namespace, f"a {kind} gadget", kind=kind)
    assert set(_contents(await search(namespace, kinds=["fact", "summary"]))) == {"a fact gadget", "a summary gadget"}
    assert _contents(await search(namespace, kinds=["checkpoint"], query="gadget")) == ["a checkpoint gadget"]
    assert len(await search(namespace, kinds=[])) == 3


async def test_limits(namespace: str, commit: Commit, search: Search) -> None:
    for chunk in range(0, 105, 15):
        await asyncio.gather(*(commit(namespace, f"row {chunk + number}") for number in range(15)))
    assert len(await search(namespace)) == 20
    assert len(await search(namespace, limit=None)) == 20
    assert len(await search(namespace, limit=1)) == 1
    assert len(await search(namespace, limit=100)) == 100
    assert len(await search(namespace, limit=100, query="row")) == 100
    assert len(await search(namespace, limit=0)) in (0, 20)  # Go's clients cannot tell 0 from absent


@pytest.mark.parametrize("query", ["", "w", "words"])
async def test_expired_memories_are_never_returned(namespace: str, commit: Commit, search: Search, query: str) -> None:
    await commit(namespace, "past words", expires_at="2020-01-01T00:00:00Z")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    await commit(namespace, "later words", expires_at=later)
    await commit(namespace, "lasting words")
    assert set(_contents(await search(namespace, query=query))) == {"later words", "lasting words"}


async def test_a_memory_expires_while_it_lies_there(namespace: str, commit: Commit, search: Search) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat().replace("+00:00", "Z")
    await commit(namespace, "short-lived", expires_at=soon)
    async with asyncio.timeout(10):
        while await search(namespace):
            pass


async def test_embeddings_are_compared_by_cosine(namespace: str, commit: Commit, search: Search) -> None:
    await commit(namespace, "east", embedding=_axis(5.0))
    await commit(namespace, "north", embedding=_axis(0.0, 0.1))
    await commit(namespace, "north-east", embedding=_axis(1.0, 1.0))
    await commit(namespace, "nowhere")
    found = await search(namespace, embedding=_axis(0.0, 2.0))
    assert _contents(found) == ["north", "north-east", "east"]
    assert [memory["score"] for memory in found] == pytest.approx([1.0, 0.70710678, 0.0], abs=1e-5)
    assert _contents(await search(namespace, embedding=_axis(1.0), query="ignored words", limit=1)) == ["east"]
    assert all("embedding" not in memory for memory in found)


async def test_an_upsert_without_embedding_removes_it(namespace: str, commit: Commit, search: Search) -> None:
    written = await commit(namespace, "seen", embedding=_axis(1.0))
    await commit(namespace, "seen", id=written["id"])
    assert await search(namespace, embedding=_axis(1.0)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"namespaces": []},
        {"namespaces": None},
        {"namespaces": "custom:x"},
        {"namespaces": [5]},
        {"namespaces": ["not a name"]},
        {"limit": 101},
        {"limit": -1},
        {"limit": "5"},
        {"limit": 2.5},
        {"limit": True},
        {"kinds": ["poem"]},
        {"kinds": "fact"},
        {"query": 5},
        {"embedding": [1.0]},
        {"embedding": [True] * 1536},
    ],
    ids=lambda change: str(change)[:40],
)
async def test_bad_searches_are_refused(http: httpx.AsyncClient, namespace: str, change: dict[str, Any]) -> None:
    answer = await http.post("/v1/search", json={"namespaces": [namespace], **change})
    assert_error(answer, 400, "bad_request")
