"""The contract's commit and forget (domain §3)."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.contract.conftest import NamespaceFactory
from tests.contract.implementations import Running
from tests.contract.test_namespaces import Commit, Search, assert_error

BASE: dict[str, Any] = {"content": "a memory", "kind": "fact", "source": "agent"}


async def test_a_commit_without_an_id_gets_a_fresh_uuid(namespace: str, commit: Commit, search: Search) -> None:
    first, second = await commit(namespace, "same words"), await commit(namespace, "same words")
    assert first["namespace"] == namespace
    assert UUID(first["id"]) != UUID(second["id"])
    assert {memory["id"] for memory in await search(namespace)} == {first["id"], second["id"]}


async def test_a_commit_with_an_id_keeps_that_id(namespace: str, commit: Commit, search: Search) -> None:
    memory_id = str(uuid4())
    assert await commit(namespace, "mine", id=memory_id) == {"id": memory_id, "namespace": namespace}
    assert [memory["id"] for memory in await search(namespace)] == [memory_id]


async def test_everything_comes_back(namespace: str, commit: Commit, search: Search) -> None:
    written = await commit(
        namespace,
        '  Größe 中文 🐘 \n tab\t \\ "quoted"  ',
        kind="checkpoint",
        source="runtime",
        expires_at="2999-12-31T23:59:59.123456Z",
        propagation={"cutover": {"scope": "LOCAL"}, "n": [1, 2.5, None, True], "ü": ""},
        pin=True,
    )
    (memory,) = await search(namespace)
    assert memory["id"] == written["id"]
    assert memory["namespace"] == namespace
    assert memory["content"] == '  Größe 中文 🐘 \n tab\t \\ "quoted"  '
    assert (memory["kind"], memory["source"], memory["pin"]) == ("checkpoint", "runtime", True)
    assert memory["propagation"] == {"cutover": {"scope": "LOCAL"}, "n": [1, 2.5, None, True], "ü": ""}
    assert datetime.fromisoformat(memory["expires_at"]) == datetime.fromisoformat("2999-12-31T23:59:59.123456Z")


async def test_optional_fields_are_absent_or_null_when_not_given(
    namespace: str, commit: Commit, search: Search
) -> None:
    await commit(namespace, "plain")
    (memory,) = await search(namespace)
    assert memory.get("expires_at") is None
    assert memory.get("propagation") is None
    assert not memory.get("pin")
    assert set(memory) <= {
        "id",
        "namespace",
        "content",
        "kind",
        "source",
        "expires_at",
        "propagation",
        "pin",
        "created_at",
        "score",
    }


async def test_timestamps_are_rfc_3339_with_a_zone(namespace: str, commit: Commit, search: Search) -> None:
    await commit(namespace, "when")
    (memory,) = await search(namespace)
    assert memory["created_at"][10] == "T"
    assert memory["created_at"].endswith("Z") or memory["created_at"][-6] in "+-"
    assert datetime.fromisoformat(memory["created_at"]).utcoffset() is not None


@pytest.mark.parametrize("kind", ["fact", "summary", "checkpoint"])
@pytest.mark.parametrize("source", ["agent", "runtime", "user"])
async def test_every_kind_and_source(namespace: str, commit: Commit, search: Search, kind: str, source: str) -> None:
    await commit(namespace, "words", kind=kind, source=source)
    assert [(memory["kind"], memory["source"]) for memory in await search(namespace)] == [(kind, source)]


async def test_an_upsert_replaces_everything_but_created_at(namespace: str, commit: Commit, search: Search) -> None:
    memory_id = str(uuid4())
    await commit(
        namespace,
        "before",
        id=memory_id,
        kind="summary",
        source="user",
        pin=True,
        propagation={"a": 1},
        expires_at="2999-01-01T00:00:00Z",
    )
    (before,) = await search(namespace)
    await commit(namespace, "after", id=memory_id)
    (after,) = await search(namespace)
    assert after["content"] == "after"
    assert (after["kind"], after["source"]) == ("fact", "agent")
    assert not after.get("pin")
    assert after.get("propagation") is None
    assert after.get("expires_at") is None
    assert after["created_at"] == before["created_at"]


async def test_an_upsert_moves_a_memory_between_namespaces(
    namespace_factory: NamespaceFactory, commit: Commit, search: Search
) -> None:
    old, new = await namespace_factory("custom"), await namespace_factory("custom")
    memory_id = str(uuid4())
    await commit(old, "wanders", id=memory_id)
    (before,) = await search(old)
    assert (await commit(new, "wanders", id=memory_id))["namespace"] == new
    assert await search(old) == []
    (after,) = await search(new)
    assert (after["id"], after["namespace"]) == (memory_id, new)
    assert after["created_at"] == before["created_at"]


async def test_the_same_commit_twice_is_one_memory(namespace: str, commit: Commit, search: Search) -> None:
    memory_id = str(uuid4())
    for _ in range(2):
        await commit(namespace, "once", id=memory_id)
    assert len(await search(namespace)) == 1


async def test_a_memory_of_100_kb_comes_back_whole(namespace: str, commit: Commit, search: Search) -> None:
    content = "déjà vu 🐘 " * 9000
    await commit(namespace, content)
    assert [memory["content"] for memory in await search(namespace)] == [content]


async def test_a_commit_into_a_namespace_never_put_fails_and_says_why(
    plugin: Running, http: httpx.AsyncClient, namespace_factory: NamespaceFactory, search: Search
) -> None:
    name = await namespace_factory("custom", put=False)
    answer = await http.post(f"/v1/namespaces/{name}/memories", json=BASE)
    if plugin.puts_namespaces:
        assert answer.status_code == 201
        assert len(await search(name)) == 1
        return
    assert_error(answer, 500, "internal")
    assert "memory_records_namespace_fkey" in answer.json()["message"]
    assert await search(name) == []


@pytest.mark.parametrize(
    "change",
    [
        {"content": ""},
        {"content": " \n\t "},
        {"content": None},
        {"content": 5},
        {"content": "nul \x00 character"},
        {"kind": "poem"},
        {"kind": None},
        {"source": "rumour"},
        {"source": None},
        {"id": "not-a-uuid"},
        {"id": 7},
        {"expires_at": "soon"},
        {"expires_at": "2030-01-01 00:00:00Z"},
        {"expires_at": "2030-13-01T00:00:00Z"},
        {"pin": "yes"},
        {"embedding": [0.5] * 3},
        {"embedding": ["a"] * 1536},
        {"embedding": "0.5"},
    ],
    ids=lambda change: str(change)[:40],
)
async def test_bad_commits_are_refused_and_write_nothing(
    http: httpx.AsyncClient, namespace: str, search: Search, change: dict[str, Any]
) -> None:
    answer = await http.post(f"/v1/namespaces/{namespace}/memories", json={**BASE, **change})
    assert_error(answer, 400, "bad_request")
    assert await search(namespace) == []


@pytest.mark.parametrize("field", ["content", "kind", "source"])
async def test_required_fields(http: httpx.AsyncClient, namespace: str, field: str) -> None:
    body = {name: value for name, value in BASE.items() if name != field}
    assert_error(await http.post(f"/v1/namespaces/{namespace}/memories", json=body), 400, "bad_request")


async def test_unknown_fields_are_ignored(namespace: str, commit: Commit) -> None:
    await commit(namespace, "words", workspace_id=str(uuid4()), score=3, future={"x": 1})


async def test_forget(http: httpx.AsyncClient, namespace: str, commit: Commit, search: Search) -> None:
    memory_id = (await commit(namespace, "gone soon"))["id"]
    body = {"requested_by_namespace": namespace}
    answer = await http.request("DELETE", f"/v1/memories/{memory_id}", json=body)
    assert answer.status_code == 204
    assert answer.content == b""
    assert await search(namespace) == []
    assert_error(await http.request("DELETE", f"/v1/memories/{memory_id}", json=body), 404, "not_found")


async def test_forget_from_another_namespace_is_not_found(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory, commit: Commit, search: Search
) -> None:
    mine, other = await namespace_factory("custom"), await namespace_factory("custom")
    memory_id = (await commit(mine, "not yours"))["id"]
    answer = await http.request("DELETE", f"/v1/memories/{memory_id}", json={"requested_by_namespace": other})
    assert_error(answer, 404, "not_found")
    assert [memory["id"] for memory in await search(mine)] == [memory_id]


@pytest.mark.parametrize(
    "body", [{}, {"requested_by_namespace": ""}, {"requested_by_namespace": 5}, {"namespace": "a:b"}]
)
async def test_forget_needs_the_namespace(http: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert_error(await http.request("DELETE", f"/v1/memories/{uuid4()}", json=body), 400, "bad_request")


async def test_forget_of_something_that_is_no_id(http: httpx.AsyncClient, namespace: str) -> None:
    body = {"requested_by_namespace": namespace}
    assert_error(await http.request("DELETE", "/v1/memories/nonsense", json=body), 400, "bad_request")


async def test_a_forgotten_id_can_be_committed_again(
    http: httpx.AsyncClient, namespace: str, commit: Commit, search: Search
) -> None:
    memory_id = str(uuid4())
    await commit(namespace, "first", id=memory_id)
    await http.request("DELETE", f"/v1/memories/{memory_id}", json={"requested_by_namespace": namespace})
    await commit(namespace, "second", id=memory_id)
    assert [memory["content"] for memory in await search(namespace)] == ["second"]
