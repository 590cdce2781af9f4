"""The plugin face of a real daemon in A0, A1 and A3: what a contract client sees, and where it ends up."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from tests.served import Served, served

FACT: dict[str, Any] = {"content": "the sky is blue", "kind": "fact", "source": "agent"}


@pytest.fixture(scope="module", params=["A0", "A1", "A3"])
def tenant(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[tuple[str, Served]]:
    """The phase and a tenant in it, shared by the tests of this module: each makes its own workspaces."""
    with served(postgres, request.param) as running:
        yield request.param, running


@pytest.fixture
def phase(tenant: tuple[str, Served]) -> str:
    return tenant[0]


@pytest.fixture
def running(tenant: tuple[str, Served]) -> Served:
    return tenant[1]


@pytest.fixture
async def http(running: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.daemon.at.plugin, timeout=10.0) as client:
        yield client


async def commit(http: httpx.AsyncClient, namespace: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    return await http.post(f"/v1/namespaces/{namespace}/memories", json={**FACT, **fields}, headers=headers)


async def found(http: httpx.AsyncClient, *namespaces: str, **fields: Any) -> list[dict[str, Any]]:
    answer = await http.post("/v1/search", json={"namespaces": list(namespaces), **fields})
    assert answer.status_code == 200, answer.text
    memories: list[dict[str, Any]] = answer.json()["memories"]
    return memories


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert set(answer.json()) <= {"code", "message", "details"}
    assert answer.headers["content-type"] == "application/json"


async def test_health_speaks_for_the_phase(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert answer.json()["version"].startswith("1.")
    assert "fts" in answer.json()["capabilities"]


@pytest.mark.parametrize(("prefix", "scope"), [("workspace", "LOCAL"), ("team", "TEAM"), ("org", "GLOBAL")])
async def test_a_commit_lands_where_the_phase_says(
    http: httpx.AsyncClient, running: Served, phase: str, prefix: str, scope: str
) -> None:
    root = await running.workspace()
    namespace = f"{prefix}:{root}"
    answer = await commit(http, namespace)
    assert answer.status_code == 201, answer.text
    memory_id = UUID(answer.json()["id"])
    assert answer.json()["namespace"] == namespace
    assert answer.headers.get("Cutover-Shadow") == {"A0": None, "A1": "delivered", "A3": None}[phase]
    legacy = await running.execute("SELECT workspace_id, scope FROM agent_memories WHERE id = $1", memory_id)
    assert [tuple(row) for row in legacy] == ([] if phase == "A3" else [(root, scope)])
    if phase != "A0":
        copies = await running.execute("SELECT namespace FROM memory_plugin.memory_records WHERE id = $1", memory_id)
        assert [row["namespace"] for row in copies] == [namespace]
    (memory,) = await found(http, namespace, query="blue sky")
    assert memory["id"] == str(memory_id)
    assert (memory["namespace"], memory["kind"], memory["source"]) == (namespace, "fact", "agent")
    assert memory["content"] == FACT["content"]
    assert memory["created_at"].endswith("Z")
    assert "propagation" not in memory


async def test_an_id_is_an_upsert_and_forgetting_takes_the_right_namespace(
    http: httpx.AsyncClient, running: Served
) -> None:
    mine, other = f"workspace:{await running.workspace()}", f"workspace:{await running.workspace()}"
    memory_id = str(uuid4())
    for content in ("first", "second"):
        answer = await commit(http, mine, id=memory_id, content=content)
        assert (answer.status_code, answer.json()["id"]) == (201, memory_id)
    assert [memory["content"] for memory in await found(http, mine)] == ["second"]
    refused(await commit(http, other, id=memory_id), 409, "bad_request")
    wrong = {"requested_by_namespace": other}
    refused(await http.request("DELETE", f"/v1/memories/{memory_id}", json=wrong), 404, "not_found")
    right = {"requested_by_namespace": mine}
    answer = await http.request("DELETE", f"/v1/memories/{memory_id}", json=right)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await found(http, mine) == []
    refused(await http.request("DELETE", f"/v1/memories/{memory_id}", json=right), 404, "not_found")


async def test_what_legacy_cannot_hold_is_refused_in_a0_and_native_after(
    http: httpx.AsyncClient, running: Served, phase: str
) -> None:
    namespace = f"workspace:{await running.workspace()}"
    custom = f"custom:notes-{uuid4().hex}"
    await http.put(f"/v1/namespaces/{custom}", json={"kind": "custom"})
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        (namespace, {"kind": "summary"}),
        (namespace, {"expires_at": "2999-01-01T00:00:00Z"}),
        (custom, {}),
    )
    for where, fields in cases:
        answer = await commit(http, where, **fields)
        if phase == "A0":
            refused(answer, 400, "bad_request")
        else:
            assert answer.status_code == 201, answer.text
            listed = {memory["id"]: memory for memory in await found(http, where)}
            assert listed[answer.json()["id"]]["kind"] == fields.get("kind", "fact")
            legacy = await running.execute("SELECT 1 FROM agent_memories WHERE id = $1", UUID(answer.json()["id"]))
            assert legacy == []


async def test_opaque_fields_come_back_as_they_went_in(http: httpx.AsyncClient, running: Served) -> None:
    namespace = f"workspace:{await running.workspace()}"
    for propagation in ({"a": [1, None, {"ü": "Ω"}]}, [1, 2], "text", 5, False):
        answer = await commit(http, namespace, propagation=propagation, source="user", pin=True)
        assert answer.status_code == 201, answer.text
        listed = {memory["id"]: memory for memory in await found(http, namespace)}
        memory = listed[answer.json()["id"]]
        assert (memory.get("propagation"), memory["source"], memory.get("pin")) == (propagation, "user", True)


async def test_an_idempotency_key_replays_its_answer_and_takes_no_other_body(
    http: httpx.AsyncClient, running: Served
) -> None:
    namespace = f"workspace:{await running.workspace()}"
    key = {"Idempotency-Key": f"key-{uuid4()}"}
    first, again = await commit(http, namespace, key), await commit(http, namespace, key)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert len(await found(http, namespace)) == 1
    refused(await commit(http, namespace, key, content="something else"), 422, "bad_request")
    for bad in ("", "has space", "x" * 256):
        refused(await commit(http, namespace, {"Idempotency-Key": bad}), 400, "bad_request")


async def test_secrets_are_redacted_here_too(http: httpx.AsyncClient, running: Served) -> None:
    namespace = f"workspace:{await running.workspace()}"
    secret = "ghp_" + "a1B2" * 9
    answer = await commit(http, namespace, content=f"the token is {secret}")
    assert answer.status_code == 201
    (memory,) = await found(http, namespace)
    assert secret not in memory["content"]
    assert "[REDACTED:GITHUB_PAT]" in memory["content"]
    assert secret not in running.daemon.child.output()


async def test_a_namespaces_life(http: httpx.AsyncClient, running: Served) -> None:
    name = f"workspace:{await running.workspace()}"
    refused(await http.patch(f"/v1/namespaces/{name}", json={"metadata": {"a": 1}}), 404, "not_found")
    put = await http.put(
        f"/v1/namespaces/{name}",
        json={"kind": "workspace", "expires_at": "2999-01-01T00:00:00Z", "metadata": {"owner": "me"}},
    )
    assert put.status_code == 200, put.text
    assert put.json()["name"] == name
    assert put.json()["metadata"] == {"owner": "me"}
    patched = await http.patch(f"/v1/namespaces/{name}", json={"expires_at": None})
    assert "expires_at" not in patched.json()
    assert patched.json()["metadata"] == {"owner": "me"}
    refused(await http.patch(f"/v1/namespaces/{name}", json={}), 400, "bad_request")
    assert (await commit(http, name)).status_code == 201
    assert (await http.delete(f"/v1/namespaces/{name}")).status_code == 204
    assert await found(http, name) == []


async def test_bad_requests_get_the_contracts_shape_and_write_nothing(http: httpx.AsyncClient, running: Served) -> None:
    workspace = await running.workspace()
    namespace = f"workspace:{workspace}"
    wrong: tuple[dict[str, Any], ...] = (
        {"content": " \n"},
        {"content": "a\0b"},
        {"kind": "opinion"},
        {"source": None},
        {"id": "1"},
        {"expires_at": "tomorrow"},
        {"embedding": [1.0]},
        {"pin": "yes"},
    )
    for fields in wrong:
        refused(await commit(http, namespace, **fields), 400, "bad_request")
    for raw in (b"", b"{", b"[]", b'{"content": "\\ud800", "kind": "fact", "source": "agent"}'):
        answer = await http.post(f"/v1/namespaces/{namespace}/memories", content=raw)
        refused(answer, 400, "bad_request")
    refused(await commit(http, "Workspace:x"), 400, "bad_request")
    refused(await http.post("/v1/search", json={"namespaces": []}), 400, "bad_request")
    refused(await http.get("/v1/nothing"), 404, "not_found")
    refused(await http.get("/v1/search"), 405, "bad_request")
    refused(await http.get("/tenants/nobody/v1/health"), 404, "not_found")
    too_large = b'{"content": "' + b"a" * (5 * 1024 * 1024) + b'"}'
    refused(await http.post("/v1/search", content=too_large), 413, "bad_request")
    assert await running.execute("SELECT 1 FROM agent_memories WHERE workspace_id = $1", workspace) == []
    assert await found(http, namespace) == []


async def test_the_named_tenants_path_is_the_same_face(http: httpx.AsyncClient, running: Served) -> None:
    namespace = f"workspace:{await running.workspace()}"
    answer = await http.post(f"/tenants/sample/v1/namespaces/{namespace}/memories", json=FACT)
    assert answer.status_code == 201
    assert len(await found(http, namespace)) == 1


async def test_a_stuck_database_is_answered_503_before_the_caller_gives_up(
    http: httpx.AsyncClient, running: Served, phase: str
) -> None:
    namespace = f"workspace:{await running.workspace()}"
    memory_id = uuid4()
    locker = await asyncpg.connect(running.database_url)
    try:
        await locker.execute("BEGIN; LOCK TABLE workspaces, agent_memories IN ACCESS EXCLUSIVE MODE")
        body = {**FACT, "id": str(memory_id)}
        # 2 s is the real caller's time-out (domain §2): httpx raises when no answer has come by then.
        answer = await http.post(f"/v1/namespaces/{namespace}/memories", json=body, timeout=2.0)
        refused(answer, 503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    finally:
        await locker.close()
    # Whatever became of that write, the same one again is taken, and is there once.
    answer = await commit(http, namespace, id=str(memory_id))
    assert answer.status_code == 201, answer.text
    assert [memory["id"] for memory in await found(http, namespace)] == [str(memory_id)]


@pytest.fixture
def own(phase: str, postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant for this test alone, whose plugin may be hurt: what comes after would see the recovery's ramp."""
    with served(postgres, phase) as made:
        yield made


async def test_a_stuck_plugin_is_answered_before_the_caller_gives_up(own: Served, phase: str) -> None:
    namespace = f"workspace:{await own.workspace()}"
    async with httpx.AsyncClient(base_url=own.daemon.at.plugin, timeout=2.0) as http:
        await http.put(f"/v1/namespaces/{namespace}", json={"kind": "workspace"})
        own.plugin.pause()
        shadows = []
        for _ in range(3):
            answer = await commit(http, namespace)
            if answer.status_code == 201:
                shadows.append(answer.headers.get("Cutover-Shadow"))
            else:
                refused(answer, 503, "unavailable")
        own.plugin.resume()
        # In A0 nobody asks the plugin; in A1 legacy has it and the mark will bring it over; in A3 nobody is told yes.
        assert set(shadows) == {"A0": {None}, "A1": {"pending"}, "A3": set()}[phase]

        async def served_again() -> bool:
            return bool((await commit(http, namespace)).status_code == 201)

        await until(served_again, "served again", timeout=30.0)


async def test_an_empty_search_is_an_empty_array(http: httpx.AsyncClient, running: Served) -> None:
    answer = await http.post("/v1/search", json={"namespaces": [f"workspace:{await running.workspace()}"]})
    assert answer.json() == {"memories": []}
