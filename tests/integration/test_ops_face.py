"""The ops face of a real daemon: probes with their reasons, control calls and who may make them, the page."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from cutover.domain.phase import Phase
from cutover.embedded.control import Control
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from tests.served import Served, served

PATIENCE = 30.0


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A0 with old memories. Tests of this module leave it in A0, with its plugin up."""
    with served(postgres, rows=250) as made:
        yield made


@pytest.fixture
async def http(running: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.daemon.at.ops, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def admin(running: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.daemon.admin_token}"}


async def reads(http: httpx.AsyncClient, path: str, status: int) -> dict[str, Any]:
    """The body of a GET once it has that status (answers are cached for a second)."""
    body: dict[str, Any] = {}

    async def condition() -> bool:
        nonlocal body
        answer = await http.get(path)
        body = answer.json()
        return answer.status_code == status

    await until(condition, f"{path} {status}", timeout=PATIENCE, every=0.1)
    return body


async def test_livez_and_head(http: httpx.AsyncClient) -> None:
    answer = await http.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "pass"})
    for path in ("/livez", "/readyz", "/readyz/A0", "/metrics", "/"):
        head = await http.head(path)
        assert (head.status_code, head.content) == (200, b""), path


async def test_readyz_says_why_in_the_health_json(http: httpx.AsyncClient) -> None:
    body = await reads(http, "/readyz", 200)
    assert (body["status"], body["tenant"], body["phase"]) == ("pass", "sample", "A0")
    for made in body["checks"].values():
        for check in made:
            assert set(check) == {"status", "observedValue", "observedUnit", "threshold", "time", "output", "next"}
            assert check["output"]
            assert check["time"].endswith("Z")


async def test_every_phase_has_a_gate_with_reasons_and_remedies(http: httpx.AsyncClient) -> None:
    a0 = await http.get("/readyz/A0")
    assert (a0.status_code, a0.json()["target"]) == (200, "A0")
    for phase in ("A2", "A3", "A4"):
        answer = await http.get(f"/readyz/{phase}")
        assert answer.status_code == 503
        failed = [check for made in answer.json()["checks"].values() for check in made if check["status"] == "fail"]
        assert failed
        assert all(check["output"] and check["next"] for check in failed)
    for unknown in ("/readyz/A5", "/readyz/a1", "/readyz/checks/nothing", "/readyz/checks/%00", "/readyz/x/y"):
        answer = await http.get(unknown)
        members = {"error"} if unknown == "/readyz/x/y" else {"error", "next"}  # of no route there is nothing to say
        assert (answer.status_code, set(answer.json())) == (404, members)
    for name in ("%00", "a%00b", "SWEEPS", "a" * 61, "%F0%9F%A6%86"):
        answer = await http.get(f"/api/v1/procedures/{name}")
        assert (answer.status_code, set(answer.json())) == (404, {"error", "next"})


async def test_one_check_by_its_id(http: httpx.AsyncClient) -> None:
    for check_id in (await http.get("/readyz/A1")).json()["checks"]:
        answer = await http.get(f"/readyz/checks/{check_id}")
        assert answer.status_code in (200, 503)
        assert list(answer.json()["checks"]) == [check_id]


async def test_metrics_are_negotiated(http: httpx.AsyncClient) -> None:
    plain = await http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert "cutover_phase{" in plain.text
    opened = await http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")


CONTROLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("phase/certify", {"target": "A1"}),
    ("phase/approve", {"certificate": "0" * 64}),
    ("phase/promote", {"reason": "test"}),
    ("phase/rollback", {"reason": "test"}),
    ("sweeps", {"kind": "count"}),
    ("backfill", {"mode": "dry-run"}),
    ("backfill/pause", {}),
    ("backfill/resume", {}),
    ("backfill/abort", {}),
)


@pytest.mark.parametrize(("path", "body"), CONTROLS, ids=[path for path, _ in CONTROLS])
@pytest.mark.parametrize("prefix", ["/api/v1", "/api/v1/tenants/sample", "/tenants/sample/api/v1"])
async def test_control_calls_need_the_admin_token(
    http: httpx.AsyncClient, prefix: str, path: str, body: dict[str, Any]
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
        answer = await http.post(f"{prefix}/{path}", json=body, headers=headers)
        assert (answer.status_code, set(answer.json())) == (401, {"error", "next"})
    assert (await http.get(f"{prefix}/phase")).json()["phase"] == "A0"


async def test_without_a_configured_token_control_is_refused_with_the_way_out(postgres: EmbeddedPostgres) -> None:
    def refused(made: Served) -> httpx.Response:
        url = f"{made.daemon.at.ops}/api/v1/phase/promote"
        return httpx.post(url, json={"reason": "test"}, headers={"Authorization": "Bearer anything"})

    def run() -> httpx.Response:
        with served(postgres, settings={"CUTOVER_ADMIN_TOKEN": "", "CUTOVER_ADMIN_TOKENS_FILE": ""}) as made:
            return refused(made)

    answer = await asyncio.to_thread(run)
    assert answer.status_code == 403
    assert "CUTOVER_ADMIN_TOKEN" in answer.json()["next"]


async def test_promote_and_rollback_move_one_step_and_are_fenced(
    http: httpx.AsyncClient, admin: dict[str, str]
) -> None:
    before = (await http.get("/api/v1/phase")).json()
    wrong = {"reason": "test", "expected_epoch": before["epoch"] + 1}
    assert (await http.post("/api/v1/phase/promote", json=wrong, headers=admin)).status_code == 409
    for body, status in (
        ({}, 400),
        ({"reason": "x", "target": "A9"}, 400),
        ({"reason": "x", "force": True}, 400),
        ({"reason": "x", "target": "A2"}, 409),
        ({"reason": "x", "target": "A0"}, 409),
    ):
        answer = await http.post("/api/v1/phase/promote", json=body, headers=admin)
        assert (answer.status_code, set(answer.json())) == (status, {"error", "next"}), body
    assert (await http.get("/api/v1/phase")).json() == before

    body = {"reason": "test", "expected_epoch": before["epoch"], "actor": "alice"}
    answer = await http.post("/api/v1/phase/promote", json=body, headers=admin)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["from"], answer.json()["phase"], answer.json()["epoch"]) == ("A0", "A1", before["epoch"] + 1)
    assert (await reads(http, "/readyz", 200))["phase"] == "A1"
    back = await http.post("/api/v1/phase/rollback", json={"reason": "test"}, headers=admin)
    assert (back.status_code, back.json()["phase"]) == (200, "A0")


async def test_a_phase_change_records_who_and_why(
    http: httpx.AsyncClient, admin: dict[str, str], running: Served
) -> None:
    body = {"reason": "a very particular reason", "actor": "alice"}
    assert (await http.post("/api/v1/phase/promote", json=body, headers=admin)).status_code == 200
    assert (await http.post("/api/v1/phase/rollback", json={"reason": "back"}, headers=admin)).status_code == 200
    recorded = await running.execute("SELECT to_jsonb(e)::text AS event FROM cutover.phase_event e")
    assert any("a very particular reason" in row["event"] and "alice" in row["event"] for row in recorded)


async def enters(made: Served, *phases: str) -> None:
    """For tests that are about something else."""
    async with Control(made.daemon.at.ops, made.daemon.admin_token) as control:
        for phase in phases:
            await control.enter(phase, override="a test")


async def test_sweep_and_backfill_over_the_api(http: httpx.AsyncClient, admin: dict[str, str], running: Served) -> None:
    async def post(path: str, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
        answer = await http.post(f"/api/v1/{path}", json=body, headers=admin)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    await enters(running, "A1", "A2")
    try:
        planned = await post("backfill", {"mode": "dry-run"})
        assert planned
        await post("backfill", {"mode": "apply"}, 202)

        async def complete() -> bool:
            return bool((await http.get("/api/v1/backfill")).json()["complete"])

        async def a3_opens() -> bool:
            made = (await http.get("/readyz/A3")).json()["checks"]
            # Days without bypass writers and a rehearsal of the way back are not this test's affair.
            return {each for each, (check,) in made.items() if check["status"] == "fail"} <= {
                "bypass_writers",
                "rehearsal",
            }

        await until(complete, "backfill complete", timeout=PATIENCE, every=0.1)
        swept = await post("sweeps", {"kind": "count"})
        assert swept["outcome"] == "clean"
        status = (await http.get("/api/v1/status")).json()
        assert status["drift"]["unexplained"] == 0
        await until(a3_opens, "the gate of A3, with recall compared since the backfill", timeout=PATIENCE, every=0.1)
        body = (await http.get("/readyz/A3")).json()
        assert body["target"] == "A3"
        assert "two approvals" in body["notes"][0]
    finally:
        await enters(running, "A1", "A0")


async def test_tenants_and_status_in_all_three_places(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/api/v1/tenants")).json()["tenants"]
    assert [(each["name"], each["default"], each["phase"]) for each in listed] == [("sample", True, "A0")]
    for path in ("/api/v1/status", "/tenants/sample/api/v1/status", "/api/v1/tenants/sample/status"):
        body = (await http.get(path)).json()
        assert (body["tenant"], body["phase"]) == ("sample", "A0")
    assert (await http.get("/api/v1/tenants/sample")).json() == (await http.get("/api/v1/phase")).json()
    nobody = ("/tenants/nobody/api/v1/status", "/api/v1/tenants/nobody/status", "/tenants/nobody/readyz")
    for path in (*nobody, "/api/v1/tenants/nobody"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()) == (404, {"error": "no such tenant"})


async def test_a_dead_plugin_closes_gates_but_a0_goes_on_serving(http: httpx.AsyncClient, running: Served) -> None:
    running.plugin.kill()
    try:
        body = await reads(http, "/readyz/checks/plugin", 503)
        (check,) = body["checks"]["plugin"]
        await reads(http, "/readyz/A1", 503)
        assert (check["status"], check["observedValue"]) == ("fail", False)
        assert check["next"]
        assert (await http.get("/readyz")).status_code == 200
    finally:
        await running.plugin.start()
    assert (await reads(http, "/readyz/checks/plugin", 200))["status"] == "pass"


class Page(HTMLParser):
    """What a browser would be told to load and run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        assert "style" not in given
        if tag in ("link", "script"):
            self.links.append(given.get("href") or given.get("src") or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


async def test_the_page_shows_the_ladder_and_runs_nothing_inline(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = Page()
    page.feed(answer.text)
    assert not {"style", "iframe", "img"} & set(page.tags)
    words = " ".join(page.words)
    assert all(f"{phase} {phase.meaning}" in words for phase in Phase)
    assert "Is anything lost?" in words
    assert len(page.links) == 3
    for link, kind in zip(page.links, ("image/svg+xml", "text/css", "text/javascript"), strict=True):
        assert (await http.get(link)).headers["content-type"].startswith(kind)
    assert (await http.get("/tenants/sample/")).status_code == 200


async def test_no_secret_shows_anywhere(http: httpx.AsyncClient, running: Served) -> None:
    secrets = (running.daemon.admin_token, running.database_url)
    for path in ("/", "/readyz", "/readyz/A1", "/metrics", "/api/v1/status", "/api/v1/tenants", "/api/v1/backfill"):
        text = (await http.get(path)).text
        assert not any(secret in text for secret in secrets), path
    log = running.daemon.child.output()
    assert not any(secret in log for secret in secrets)


async def test_probes_are_not_logged(http: httpx.AsyncClient, running: Served) -> None:
    before = len(running.daemon.child.output().splitlines())
    for _ in range(50):
        await http.get("/livez")
        await http.get("/metrics")
    assert "livez" not in running.daemon.child.output()
    assert len(running.daemon.child.output().splitlines()) < before + 50
