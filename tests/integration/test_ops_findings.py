"""Findings on the ops API of a real daemon: who may settle them, what bad input is told, pages, and no content."""

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from tests.served import Served, served

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PATIENCE = 30.0
SECRET_CONTENT = "what the agent said in confidence"


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A1, whose findings no sweep of its own touches."""
    with served(postgres, "A1", settings={"CUTOVER_DIGEST_INTERVAL": "24h"}) as made:
        yield made


@pytest.fixture
async def http(running: Served) -> AsyncIterator[httpx.AsyncClient]:
    await running.execute("DELETE FROM cutover.divergence")
    await running.execute("DELETE FROM cutover.quarantine")
    async with httpx.AsyncClient(base_url=f"{running.daemon.at.ops}/api/v1", timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def admin(running: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.daemon.admin_token}"}


async def found(running: Served, memory: UUID | None = None, cls: str = "content", **values: Any) -> UUID:
    row = {
        "memory_id": memory or uuid4(), "class": cls, "state": "confirmed", "namespace": "workspace:x",
        "namespace_kind": "workspace", "writer": "daemon", "first_run": UUID(int=1), "last_run": UUID(int=1),
        "first_seen": NOON, "confirmed_at": NOON, "onset_before": NOON, **values,
    }  # fmt: skip
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    sql = f"INSERT INTO cutover.divergence ({', '.join(row)}, snapshot) VALUES ({marks}, pg_current_snapshot()::text)"
    await running.execute(sql, *row.values())
    made: UUID = row["memory_id"]
    return made


async def quarantined(running: Served, memory: UUID | None = None, reason: str = "no_workspace") -> UUID:
    memory = memory or uuid4()
    await running.execute("INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, $2, 1)", memory, reason)
    return memory


SOME_ID = "0b5e9c1e-5a0f-4c5e-9d4b-0a1b2c3d4e5f"
CONTROLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sweeps", {"kind": "digest"}),
    ("sweeps", {"kind": "recall"}),
    ("divergence/accept", {"ids": [SOME_ID], "why": "x"}),
    ("divergence/repair", {"all": True}),
    ("quarantine/retry", {"all": True}),
    ("quarantine/acknowledge", {"id": SOME_ID, "why": "x"}),
)


@pytest.mark.parametrize(("path", "body"), CONTROLS, ids=[f"{path} {body}" for path, body in CONTROLS])
async def test_settling_needs_the_admin_token(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = await http.post(path, json=body, headers=headers)
        assert (answer.status_code, set(answer.json())) == (401, {"error", "next"})


@pytest.mark.parametrize("prefix", ["/api/v1", "/api/v1/tenants/sample", "/tenants/sample/api/v1"])
async def test_reading_is_open_in_all_three_places(running: Served, prefix: str) -> None:
    async with httpx.AsyncClient(base_url=running.daemon.at.ops, timeout=PATIENCE) as http:
        for path in ("sweeps", "divergence", "divergence/groups", "quarantine"):
            assert (await http.get(f"{prefix}/{path}")).status_code == 200, path


BAD: tuple[tuple[str, Any], ...] = (
    ("divergence/accept", {"why": "x"}),
    ("divergence/accept", {"ids": [SOME_ID]}),
    ("divergence/accept", {"ids": [SOME_ID], "why": ""}),
    ("divergence/accept", {"ids": [SOME_ID], "class": "content", "why": "x"}),
    ("divergence/accept", {"ids": ["not-a-uuid"], "why": "x"}),
    ("divergence/accept", {"ids": SOME_ID, "why": "x"}),
    ("divergence/accept", {"class": "colour", "why": "x"}),
    ("divergence/accept", {"group": "ABC", "why": "x"}),
    ("divergence/accept", {"all": True, "why": "x"}),
    ("divergence/repair", {}),
    ("divergence/repair", {"all": False}),
    ("divergence/repair", {"all": True, "limit": 0}),
    ("divergence/repair", {"ids": [SOME_ID] * 1001}),
    ("divergence/repair", {"all": True, "force": True}),
    ("divergence/repair", []),
    ("quarantine/retry", {}),
    ("quarantine/retry", {"all": True, "reason": "no_workspace"}),
    ("quarantine/retry", {"reason": "bored"}),
    ("quarantine/acknowledge", {"id": SOME_ID}),
    ("quarantine/acknowledge", {"ids": [SOME_ID], "why": "x"}),
    ("sweeps", {"kind": "checksum"}),
    ("sweeps", {"kind": "digest", "full": "yes"}),
    ("divergence/accept", {"ids": [SOME_ID], "why": "   "}),
    ("divergence/accept", {"ids": [SOME_ID], "why": "a\x00b"}),
    ("divergence/accept", {"ids": [SOME_ID], "why": "ghp_0123456789abcdefghij"}),
    ("sweeps", {"kind": "digest", "actor": "\x00"}),
)


@pytest.mark.parametrize(("path", "body"), BAD, ids=[f"{path} {str(body)[:60]}" for path, body in BAD])
async def test_bad_bodies_are_told_what_is_wrong(
    http: httpx.AsyncClient, admin: dict[str, str], path: str, body: Any
) -> None:
    answer = await http.post(path, json=body, headers=admin)
    assert (answer.status_code, set(answer.json())) == (400, {"error", "next"}), answer.text
    assert answer.json()["next"]


@pytest.mark.parametrize(
    "path",
    [
        "divergence?state=lost",
        "divergence?class=colour",
        "divergence?limit=0",
        "divergence?limit=100000",
        "divergence?workspace=x",
        "divergence?after=somewhere",
        "divergence?group=%00",
        "divergence?clas=content",
        "divergence/groups?source=moon",
        "divergence/not-a-uuid",
        "quarantine?acknowledged=perhaps",
        "quarantine?after=1",
        "quarantine/not-a-uuid",
        "sweeps?kind=checksum",
        "sweeps?limit=x",
        "sweeps/not-a-uuid",
        "divergence?after=00000000-0000-0000-0000-000000000000/%00",
        "verify/00000000-0000-0000-0000-000000000000/mismatches?after=00000000-0000-0000-0000-000000000000.%00",
    ],
)
async def test_bad_queries_are_told_what_is_wrong(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert (answer.status_code, set(answer.json())) == (400, {"error", "next"}), answer.text


async def test_what_is_not_there_is_404_with_the_way_on(http: httpx.AsyncClient, admin: dict[str, str]) -> None:
    for path in (f"divergence/{uuid4()}", f"quarantine/{uuid4()}", f"sweeps/{uuid4()}"):
        answer = await http.get(path)
        assert (answer.status_code, set(answer.json())) == (404, {"error", "next"}), path
    for path, body in (
        ("divergence/repair", {"all": True}),
        ("divergence/accept", {"class": "content", "why": "x"}),
        ("quarantine/retry", {"all": True}),
        ("quarantine/acknowledge", {"id": str(uuid4()), "why": "x"}),
    ):
        answer = await http.post(path, json=body, headers=admin)
        assert (answer.status_code, set(answer.json())) == (404, {"error", "next"}), path


async def test_lists_go_page_by_page(http: httpx.AsyncClient, running: Served) -> None:
    for number in range(5):
        await found(running, UUID(int=number))
        await quarantined(running, UUID(int=number))
    for path, name in (("divergence", "divergences"), ("quarantine", "quarantine")):
        seen: list[int] = []
        after = ""
        while True:
            told = (await http.get(f"{path}?limit=2{after}")).json()
            seen += [UUID(row["memory_id"]).int for row in told[name]]
            if told["next"] is None:
                break
            after = f"&after={told['next']}"
        assert seen == [0, 1, 2, 3, 4], path
    swept = {run["run"] for run in (await http.get("sweeps?limit=200")).json()["sweeps"]}
    first = (await http.get("sweeps?limit=1")).json()
    assert first["sweeps"][0]["run"] in swept


async def test_several_values_of_a_filter(http: httpx.AsyncClient, running: Served) -> None:
    await found(running)
    await found(running, cls="namespace")
    await found(running, cls="embedding", state="suspect", confirmed_at=None)

    async def classes(asked: str) -> set[str]:
        return {row["class"] for row in (await http.get(f"divergence?{asked}")).json()["divergences"]}

    assert await classes("") == {"content", "namespace", "embedding"}
    assert await classes("class=content,namespace") == {"content", "namespace"}
    assert await classes("class=content&class=embedding") == {"content", "embedding"}
    assert await classes("state=suspect") == {"embedding"}
    groups = (await http.get("divergence/groups")).json()
    assert len(groups["groups"]) == 3
    assert groups["open"]["confirmed"] == {"content": 1, "namespace": 1}
    assert groups["open"]["suspect"] == {"embedding": 1}


async def test_who_settled_it_is_the_token_and_the_person_behind_it(
    http: httpx.AsyncClient, admin: dict[str, str], running: Served
) -> None:
    named, unnamed = await found(running), await found(running)
    body = {"ids": [str(named)], "why": "known", "actor": "alice"}
    answer = await http.post("divergence/accept", json=body, headers=admin)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1), answer.text
    answer = await http.post("divergence/accept", json={"ids": [str(unnamed)], "why": "known"}, headers=admin)
    assert answer.status_code == 200
    told = {
        memory: (await http.get(f"divergence/{memory}")).json()["findings"][0]["accepted_by"]
        for memory in (named, unnamed)
    }
    assert told == {named: "alice (token of admin)", unnamed: "admin"}


async def test_named_ones_that_cannot_be_accepted_say_why(
    http: httpx.AsyncClient, admin: dict[str, str], running: Served
) -> None:
    sure = await found(running)
    doubt = await found(running, state="suspect", confirmed_at=None)
    gone = await found(running, state="repaired", closed_at=NOON, closed_by="itself")
    nothing = uuid4()
    body = {"ids": [str(each) for each in (sure, doubt, gone, nothing)], "why": "known"}
    told = (await http.post("divergence/accept", json=body, headers=admin)).json()
    assert (told["accepted"], told["by_class"]) == (1, {"content": 1})
    why = {UUID(one["memory_id"]): one["why"] for one in told["refused"]}
    assert "one look only" in why[doubt]
    assert "went away (itself)" in why[gone]
    assert "nothing was ever found" in why[nothing]
    again = await http.post("divergence/accept", json={"ids": [str(sure)], "why": "known"}, headers=admin)
    assert again.status_code == 409
    assert "has accepted it already" in again.json()["error"]


async def test_extras_are_refused_with_the_reason_and_the_way_out(
    http: httpx.AsyncClient, admin: dict[str, str], running: Served
) -> None:
    await found(running, cls="missing_in_legacy")
    answer = await http.post("divergence/repair", json={"class": "missing_in_legacy"}, headers=admin)
    assert answer.status_code == 409
    assert "told that it was saved" in answer.json()["error"]
    assert "divergence accept" in answer.json()["next"]
    assert await running.execute("SELECT FROM cutover.mark") == []


async def test_metrics_and_status_follow_what_is_open(http: httpx.AsyncClient, running: Served) -> None:
    await found(running, first_seen=NOON)
    await found(running)
    await quarantined(running)
    ops = running.daemon.at.ops
    wanted = (
        'cutover_divergent_rows{class="content",tenant="sample"} 2.0',
        'cutover_divergence_first_seen_timestamp_seconds{tenant="sample"} 1.7776368e+09',
    )

    async def shown() -> bool:
        text = (await http.get(f"{ops}/metrics")).text
        return all(line in text for line in wanted)

    await until(shown, "the metrics", timeout=PATIENCE, every=0.2)

    async def in_status() -> bool:
        status = (await http.get("status")).json()
        return (status["divergences"]["confirmed"], status["quarantine_blocking"]) == ({"content": 2}, 1)

    await until(in_status, "the status", timeout=PATIENCE, every=0.2)
    page = (await http.get(f"{ops}/")).text
    assert "2 differences confirmed" in page
    assert "in quarantine, and blocking the cutover: 1" in page
    assert "digest, full none yet" in " ".join(re.sub(r"<[^>]*>", " ", page).split())


async def test_no_content_in_any_answer(http: httpx.AsyncClient, admin: dict[str, str], running: Served) -> None:
    workspace = await running.workspace()
    (row,) = await running.execute(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, 'LOCAL') RETURNING id",
        workspace,
        SECRET_CONTENT,
    )
    memory = row["id"]
    await found(running, memory, expected_hash=bytes(32), expected_length=len(SECRET_CONTENT))
    await quarantined(running, memory)
    paths = (
        *("divergence", "divergence/groups", f"divergence/{memory}", "quarantine", f"quarantine/{memory}", "sweeps"),
        "status",
    )
    texts = [(await http.get(path)).text for path in paths]
    repaired = await http.post("divergence/repair", json={"ids": [str(memory)]}, headers=admin)
    retried = await http.post("quarantine/retry", json={"ids": [str(memory)]}, headers=admin)
    assert repaired.status_code == 200
    assert retried.status_code in (200, 404), "the repair marked it already"
    assert not any(
        "confidence" in text for text in (*texts, repaired.text, retried.text, running.daemon.child.output())
    )
