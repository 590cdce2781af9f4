"""The console's routes of a real daemon, as `curl` sees them: headers, assets, who may talk, streams, names."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from importlib import resources

import asyncpg
import httpx
import pytest

from cutover.embedded.control import Control
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE
from cutover.http.console_page import ASSETS
from cutover.http.event_streams import MOST, MOST_PER_PEER
from cutover.stores.sql import query
from tests.served import Served, served

PATIENCE = 30.0
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A2, whose ops face is known by one name."""
    with served(postgres, "A2", rows=20, settings={"CUTOVER_OPS_HOSTS": "ops.example.com"}) as made:
        yield made


@pytest.fixture
async def http(running: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.daemon.at.ops, timeout=PATIENCE) as client:
        yield client


async def test_the_page_and_every_asset_have_the_policy_and_are_not_kept(http: httpx.AsyncClient) -> None:
    for path in ("/", "/tenants/", "/tenants/sample/", *(f"/console/{name}" for name in ASSETS)):
        answer = await http.get(path)
        assert answer.status_code == 200, path
        parts = answer.headers["Content-Security-Policy"].split("; ")
        assert "; ".join(parts[:5]) == POLICY
        assert set(parts[5:]) == {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "set-cookie" not in answer.headers


async def test_only_the_consoles_own_files_can_be_had(http: httpx.AsyncClient) -> None:
    kept = {each.name for each in resources.files("cutover.http").joinpath("console").iterdir()}
    assert kept == set(ASSETS)
    for path in ("/console/", "/console/nothing.js", "/console/../server.py", "/console/%2e%2e/server.py"):
        assert (await http.get(path)).status_code == 404


async def test_a_foreign_page_and_a_foreign_name_are_refused_wherever_it_listens_and_probes_by_address_are_not(
    http: httpx.AsyncClient,
) -> None:
    token = {"Authorization": f"Bearer {PEOPLE['ada']}"}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        answer = await http.post("/api/v1/sweeps", json={"kind": "count"}, headers={**token, **headers})
        assert (answer.status_code, set(answer.json())) == (403, {"error", "next"})
    pointed_here = {"Host": "evil.example:9202"}
    for path in ("/", "/api/v1/status", "/api/events", "/console/console.js", "/tenants/sample/"):
        assert (await http.get(path, headers=pointed_here)).status_code == 403
    probed = ("/livez", "/readyz", "/readyz/A2", "/metrics")
    for path in probed:
        assert (await http.get(path, headers=pointed_here)).status_code == 403
        assert (await http.get(path, headers={"Host": "["})).status_code in (400, 403)
        for host in ("10.1.2.3:9202", "cutover:9202", "ops.example.com"):
            assert (await http.get(path, headers={"Host": host})).status_code == 200, (path, host)
    own = {"Origin": str(http.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert (await http.post("/api/v1/sweeps", json={"kind": "count"}, headers={**token, **own})).status_code == 200


async def test_a_token_has_the_name_that_the_daemon_puts_down(http: httpx.AsyncClient) -> None:
    for name, token in PEOPLE.items():
        answer = await http.get("/api/v1/whoami", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()) == (200, {"name": name})
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = await http.get("/tenants/sample/api/v1/whoami", headers=headers)
        assert (answer.status_code, set(answer.json())) == (401, {"error", "next"})


async def test_the_last_changes_of_phase_are_told_with_who_and_why(http: httpx.AsyncClient) -> None:
    told = (await http.get("/api/v1/phase/history?limit=5")).json()
    assert [each["to"] for each in told["changes"]] == ["A2", "A1"], "the newest first"
    change = told["changes"][0]
    assert (told["tenant"], change["from"], change["to"], change["by"]) == ("sample", "A1", "A2", "admin")
    assert (change["reason"], change["override"]) == ("embedded run", "a test")
    assert sorted(change["approvers"]) == ["ada", "grace"]
    assert change["epoch"] == (await http.get("/api/v1/phase")).json()["epoch"]
    assert (await http.get("/api/v1/phase/history?limit=0")).status_code == 400


async def behind_the_back(running: Served, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """A statement that no trigger sees."""
    connection = await asyncpg.connect(running.database_url)
    try:
        await connection.execute("ALTER TABLE agent_memories DISABLE TRIGGER cutover_capture_row")
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.execute("ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER cutover_capture_row")
        await connection.close()


async def test_the_age_of_unexplained_drift_is_that_of_the_first_sweep_that_saw_it(
    http: httpx.AsyncClient, running: Served
) -> None:
    headers = {"Authorization": f"Bearer {PEOPLE['ada']}"}

    async def swept() -> object:
        """Since when there is drift, once it was counted."""
        assert (await http.post("/api/v1/sweeps", json={"kind": "count"}, headers=headers)).status_code == 200
        return (await running.execute(query("unexplained_since")))[0][0]

    async with Control(running.daemon.at.ops, running.daemon.admin_token) as control:
        await control.copy(timeout=PATIENCE)
    assert await swept() is None
    gone = await behind_the_back(running, "DELETE FROM agent_memories WHERE content = 'old memory 7' RETURNING *")
    since = await swept()
    assert since is not None
    assert await swept() == since
    assert "1</b><span> row unexplained</span>, for " in (await http.get("/")).text
    await behind_the_back(
        running,
        "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, $3, $4)",
        *(gone[0][name] for name in ("id", "workspace_id", "content", "scope")),
    )
    assert await swept() is None
    assert "0</b><span> rows unexplained</span>" in (await http.get("/")).text


async def test_a_daemon_opens_so_many_streams_and_no_more_and_no_address_takes_all(http: httpx.AsyncClient) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for peer in range(MOST // MOST_PER_PEER):
            way = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{peer + 1}")
            one = await stack.enter_async_context(
                httpx.AsyncClient(base_url=http.base_url, timeout=PATIENCE, transport=way)
            )
            for _ in range(MOST_PER_PEER):
                answer = await stack.enter_async_context(one.stream("GET", "/api/events"))
                assert answer.status_code == 200
            if not peer:
                refused = await one.get("/api/events")
                assert refused.json()["error"] == (
                    f"{MOST_PER_PEER} event streams are open from your address, which is the limit"
                )
        refused = await http.get("/tenants/sample/api/events")
        assert refused.status_code == 503
        assert refused.json()["error"] == f"{MOST} event streams are open, which is the limit"
        assert (await http.get("/")).status_code == 200, "the page itself can still be had"
