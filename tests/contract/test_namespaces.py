"""The contract's namespace calls and health (domain §3)."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.contract.conftest import NamespaceFactory

Commit = Callable[..., Awaitable[dict[str, Any]]]
Search = Callable[..., Awaitable[list[dict[str, Any]]]]


def assert_error(answer: httpx.Response, status: int, code: str) -> None:
    """The contract's error shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["code"] == code
    assert isinstance(body["message"], str)
    assert body["message"]
    assert set(body) <= {"code", "message", "details"}


async def test_health_says_ok_version_1_and_capabilities(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/health")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] in ("ok", "degraded")
    assert body["version"].split(".")[0] == "1"
    assert set(body["capabilities"]) <= {"embedding", "fts", "ttl", "pin", "propagation"}
    assert {"fts", "ttl", "pin", "propagation"} <= set(body["capabilities"])


@pytest.mark.parametrize("kind", ["workspace", "team", "org", "custom"])
async def test_put_creates_a_namespace_of_each_kind(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory, kind: str
) -> None:
    name = await namespace_factory(kind, put=False)
    answer = await http.put(
        f"/v1/namespaces/{name}",
        json={"kind": kind, "expires_at": "2999-01-02T03:04:05.123456Z", "metadata": {"owner": "Ω", "depth": [1]}},
    )
    assert answer.status_code == 200
    body = answer.json()
    assert body["name"] == name
    assert body["kind"] == kind
    assert body["metadata"] == {"owner": "Ω", "depth": [1]}
    assert datetime.fromisoformat(body["expires_at"]) == datetime.fromisoformat("2999-01-02T03:04:05.123456Z")
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None


async def test_put_replaces_everything_but_created_at(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory
) -> None:
    name = await namespace_factory("custom", put=False)
    first = await http.put(
        f"/v1/namespaces/{name}",
        json={"kind": "custom", "expires_at": "2999-01-01T00:00:00Z", "metadata": {"a": 1}},
    )
    second = await http.put(f"/v1/namespaces/{name}", json={"kind": "custom"})
    assert second.status_code == 200
    assert second.json().get("expires_at") is None
    assert second.json().get("metadata") is None
    assert second.json()["created_at"] == first.json()["created_at"]


async def test_put_takes_null_fields(http: httpx.AsyncClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    answer = await http.put(f"/v1/namespaces/{name}", json={"kind": "custom", "metadata": None, "expires_at": None})
    assert answer.status_code == 200


async def test_put_keeps_the_memories(http: httpx.AsyncClient, namespace: str, commit: Commit, search: Search) -> None:
    written = await commit(namespace, "stays where it is")
    assert (await http.put(f"/v1/namespaces/{namespace}", json={"kind": "workspace"})).status_code == 200
    assert [memory["id"] for memory in await search(namespace)] == [written["id"]]


async def test_patch_changes_only_what_is_given(http: httpx.AsyncClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    await http.put(f"/v1/namespaces/{name}", json={"kind": "custom", "metadata": {"kept": True}})
    answer = await http.patch(f"/v1/namespaces/{name}", json={"expires_at": "2999-01-01T00:00:00+02:00"})
    assert answer.status_code == 200
    body = answer.json()
    assert body["metadata"] == {"kept": True}
    assert datetime.fromisoformat(body["expires_at"]) == datetime.fromisoformat("2998-12-31T22:00:00Z")
    answer = await http.patch(f"/v1/namespaces/{name}", json={"metadata": {"kept": False}})
    assert answer.json()["metadata"] == {"kept": False}
    assert answer.json()["expires_at"] == body["expires_at"]


async def test_patch_of_nothing_is_refused(http: httpx.AsyncClient, namespace: str) -> None:
    assert_error(await http.patch(f"/v1/namespaces/{namespace}", json={}), 400, "bad_request")


async def test_patch_of_an_unknown_namespace(http: httpx.AsyncClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    assert_error(await http.patch(f"/v1/namespaces/{name}", json={"metadata": {}}), 404, "not_found")


async def test_delete_takes_all_its_memories_along(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory, commit: Commit, search: Search
) -> None:
    doomed, other = await namespace_factory("custom"), await namespace_factory("custom")
    await commit(doomed, "goes")
    kept = await commit(other, "stays")
    answer = await http.delete(f"/v1/namespaces/{doomed}")
    assert answer.status_code == 204
    assert answer.content == b""
    assert [memory["id"] for memory in await search(doomed, other)] == [kept["id"]]
    assert_error(await http.delete(f"/v1/namespaces/{doomed}"), 404, "not_found")


@pytest.mark.parametrize(
    "name",
    [
        "nocolon",
        ":x",
        "custom:",
        "Custom:x",
        "custom:a b",
        "custom:a/b",
        "custom:ä",
        "cus-tom:x",
        "custom:" + "x" * 250,
    ],
)
async def test_names_outside_the_pattern_are_refused(http: httpx.AsyncClient, name: str) -> None:
    quoted = name.replace("/", "%2F").replace(" ", "%20")
    assert_error(await http.put(f"/v1/namespaces/{quoted}", json={"kind": "custom"}), 400, "bad_request")


async def test_a_name_of_256_characters_is_taken(http: httpx.AsyncClient, namespace_factory: NamespaceFactory) -> None:
    name = (await namespace_factory("custom", put=False)).ljust(256, "z")
    assert (await http.put(f"/v1/namespaces/{name}", json={"kind": "custom"})).status_code == 200
    assert (await http.delete(f"/v1/namespaces/{name}")).status_code == 204


@pytest.mark.parametrize("letters", ["a.b", "A-Z_0", "x:y:z", "..", "%2D"])
async def test_every_letter_of_the_pattern_is_taken(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory, letters: str
) -> None:
    name = await namespace_factory("custom", put=False) + letters
    answer = await http.put(f"/v1/namespaces/{name}", json={"kind": "custom"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == name.replace("%2D", "-")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "galaxy"},
        {"kind": 7},
        {"kind": None},
        {"kind": "custom", "expires_at": "tomorrow"},
        {"kind": "custom", "expires_at": "2030-01-01"},
        {"kind": "custom", "expires_at": "2030-01-01T00:00:00"},
        {"kind": "custom", "expires_at": 5},
        {"kind": "custom", "metadata": [1]},
        {"kind": "custom", "metadata": "x"},
    ],
)
async def test_bad_definitions_are_refused(
    http: httpx.AsyncClient, namespace_factory: NamespaceFactory, body: dict[str, Any]
) -> None:
    name = await namespace_factory("custom", put=False)
    assert_error(await http.put(f"/v1/namespaces/{name}", json=body), 400, "bad_request")
    assert_error(await http.delete(f"/v1/namespaces/{name}"), 404, "not_found")
