"""Certificates, approvals and promotions over HTTP, with one and with two daemons (issue 4, section 2)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx
import pytest

from cutover.embedded.control import Control
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import ADMIN_TOKEN, PEOPLE, DaemonChild, until
from tests.served import Served, served

PATIENCE = 60.0
TOKENS = {"admin": ADMIN_TOKEN, **PEOPLE}


class Ops:
    """The ops API of one daemon, by whoever is named."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def post(self, by: str, path: str, body: Mapping[str, Any], status: int) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKENS[by]}"}
        answer = await self.http.post(f"/api/v1/phase/{path}", json=body, headers=headers)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def certify(self, by: str = "edsger", target: str = "A1", override: str | None = "a test") -> str:
        asked = {"target": target} if override is None else {"target": target, "override": override}
        return str((await self.post(by, "certify", asked, 201))["hash"])

    async def approve(self, by: str, certificate: str, status: int = 201) -> dict[str, Any]:
        return await self.post(by, "approve", {"certificate": certificate}, status)

    async def promote(self, certificate: str | None, status: int, target: str = "A1") -> dict[str, Any]:
        body = {"reason": "a test", "target": target} | ({} if certificate is None else {"certificate": certificate})
        return await self.post("admin", "promote", body, status)

    async def void(self, certificate: str) -> str:
        """Why it is void; empty while it is good."""
        listed = (await self.get("phase/certificates?limit=200"))["certificates"]
        (found,) = [each for each in listed if each["hash"] == certificate]
        return found["void"] or ""

    async def steady(self, gate: str = "A1") -> None:
        """What the gate says no longer changes by itself: the first count sweep and the first canary are over."""

        async def condition() -> bool:
            return (await self.get("status"))["drift"] is not None and (
                await self.http.get(f"/readyz/{gate}")
            ).is_success

        await until(condition, f"an open gate of {gate}", timeout=PATIENCE, every=0.1)


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """In A0 with its gate of A1 open; all tests but the last leave it so."""
    with served(postgres) as made:
        yield made


@pytest.fixture
async def ops(running: Served) -> AsyncIterator[Ops]:
    async with httpx.AsyncClient(base_url=running.daemon.at.ops, timeout=PATIENCE) as http:
        made = Ops(http)
        await made.steady()
        yield made


async def back_to_a0(running: Served) -> None:
    async with Control(running.daemon.at.ops, running.daemon.admin_token) as control:
        await control.enter("A0")


async def test_an_open_gate_lets_a1_be_entered_in_one_go_and_the_certificate_is_kept(ops: Ops, running: Served) -> None:
    changed = await ops.promote(None, 200)
    used = changed["certificate"]
    assert (changed["phase"], used["requested_by"], used["override"], used["approvals_needed"]) == (
        "A1",
        "admin",
        None,
        0,
    )
    assert {"database", "plugin", "canary"} <= set(used["checks"])
    assert [sweep["kind"] for sweep in used["sweeps"]] == ["count"]
    assert used["loosened"], "the embedded daemons ask for less than the defaults"
    status = await ops.get("status")
    assert status["override"] is None
    assert status["loosened"] == used["loosened"]
    (event,) = await running.execute(
        "SELECT encode(certificate, 'hex') AS hash, loosened FROM cutover.phase_event WHERE epoch = $1",
        changed["epoch"],
    )
    assert (event["hash"], list(event["loosened"])) == (used["hash"], used["loosened"])
    await back_to_a0(running)
    assert (await ops.get("status"))["loosened"] == []


async def test_an_override_needs_two_people_other_than_the_requester_and_is_shown_until_the_phase_is_left(
    ops: Ops, running: Served
) -> None:
    certificate = await ops.certify(by="ada", override="the window closes tonight")
    assert "lacks 2 approvals" in (await ops.promote(certificate, 409))["error"]
    assert "a person's own token" in (await ops.approve("admin", certificate, 409))["error"]
    assert "requester cannot approve" in (await ops.approve("ada", certificate, 409))["error"]
    assert (await ops.approve("grace", certificate))["approvals_missing"] == 1
    assert "approved it already" in (await ops.approve("grace", certificate[:8], 409))["error"]
    told = await ops.promote(certificate, 409)  # and it says what it lacks
    assert "lacks 1 approval" in told["error"]
    assert certificate[:12] in told["next"]
    approved = await ops.approve("edsger", certificate[:8])
    assert [each["approver"] for each in approved["approvals"]] == ["grace", "edsger"]
    assert (await ops.get(f"phase/certificates/{certificate[:8]}"))["override"] == "the window closes tonight"
    plain = (await ops.promote(None, 200))["certificate"]
    assert (plain["override"], plain["hash"] != certificate) == (None, True), "an override is used when it is named"
    await back_to_a0(running)
    certificate = await ops.certify(by="ada", override="the window closes tonight")
    for name in ("grace", "edsger"):
        await ops.approve(name, certificate)
    changed = await ops.promote(certificate, 200)
    assert changed["certificate"]["hash"] == certificate

    for path in ("status", "phase"):
        shown = (await ops.get(path))["override"]
        assert (shown["why"], shown["by"]) == ("the window closes tonight", "admin"), path
    assert "the window closes tonight" in (await ops.http.get("/")).text
    assert f"used already: it began epoch {changed['epoch']}" in await ops.void(certificate)
    await back_to_a0(running)
    assert (await ops.get("status"))["override"] is None
    rows = await running.execute("SELECT override FROM cutover.phase_event WHERE override IS NOT NULL")
    assert "the window closes tonight" in [row["override"] for row in rows], "recorded for ever"
    assert "is void: it was used already" in (await ops.promote(certificate, 409))["error"]


async def test_the_shared_token_asks_for_nothing_that_others_must_approve(ops: Ops) -> None:
    """Whoever holds it could then approve with the own token, and be one of the two."""
    for target, override in (("A1", "a test"), ("A3", None), ("A4", None), ("A3", "a test")):
        asked = {"target": target} | ({} if override is None else {"override": override})
        told = await ops.post("admin", "certify", asked, 409)
        assert "a person's own token" in told["error"]
        assert "--token-file" in told["next"]
    assert await ops.certify(by="admin", override=None), "an open gate of A1 needs nobody's approval"


async def test_what_the_body_says_does_not_forge_a_name(ops: Ops) -> None:
    certificate = await ops.certify(by="ada")
    forged = {"certificate": certificate, "actor": "grace"}
    assert "name of the token" in (await ops.post("edsger", "approve", forged, 400))["error"]
    asked = {"target": "A1", "override": "a test", "actor": "grace"}
    assert "name of the token" in (await ops.post("ada", "certify", asked, 400))["error"]
    for by, name in (("edsger", "grace"), ("ada", "grace")):
        told = await ops.post(by, "approve", {"certificate": certificate, "name": name}, 403)
        assert f"this token is {by}'s" in told["error"]
    (kept,) = [each for each in (await ops.get("phase/certificates"))["certificates"] if each["hash"] == certificate]
    assert (kept["approvals"], kept["requested_by"]) == ([], "ada")
    await ops.post("grace", "approve", {"certificate": certificate, "name": "grace"}, 201)


@pytest.mark.parametrize(
    ("certificate", "status"),
    [("0" * 8, 404), ("0" * 64, 404), ("0" * 7, 400), ("0" * 65, 400), ("not a hash", 400)],
    ids=["unknown beginning", "unknown", "too short", "too long", "no hash"],
)
async def test_a_certificate_that_is_none(ops: Ops, certificate: str, status: int) -> None:
    for path, body in (("approve", {}), ("promote", {"reason": "a test"})):
        await ops.post("grace", path, {**body, "certificate": certificate}, status)


async def test_certificates_are_for_the_next_step_only(ops: Ops) -> None:
    for target in ("A0", "A2", "A3", "A4"):
        told = await ops.post("edsger", "certify", {"target": target, "override": "a test"}, 409)
        assert "already in A0" in told["error"] or "one at a time" in told["error"]


async def test_a_plan_lists_the_steps_and_what_each_checks(ops: Ops) -> None:
    plan = await ops.get("phase/plan?target=A1")
    assert (plan["from"], plan["to"]) == ("A0", "A1")
    judged, consumed, *rest = plan["steps"]
    assert any(check.startswith("canary: ") for check in judged["checks"])
    assert "certificate" in consumed["what"]
    assert any("expired" in check for check in consumed["checks"])
    assert any("capture triggers" in step["what"] for step in rest)
    assert any("set the phase row from A0 to A1" in step["what"] for step in rest)
    assert (await ops.http.get("/api/v1/phase/plan?target=A3")).status_code == 409
    assert (await ops.get("phase"))["phase"] == "A0"


async def test_a_newer_sweep_with_another_result_voids_it_and_one_with_the_same_does_not(
    ops: Ops, running: Served
) -> None:
    certificate = await ops.certify(override=None)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    assert (await ops.http.post("/api/v1/sweeps", json={"kind": "count"}, headers=headers)).status_code == 200
    assert await ops.void(certificate) == ""
    record = (
        "INSERT INTO cutover.task_run (kind, state, outcome, finished_at)"
        """ VALUES ('sweep.count', 'finished', '{"outcome": "drift", "unexplained": 3}', now()) RETURNING id"""
    )
    (other,) = await running.execute(record)  # another daemon's
    try:
        assert "a newer count sweep found something else: outcome drift, unexplained 3" in await ops.void(certificate)
        assert "is void" in (await ops.promote(certificate, 409))["error"]
    finally:
        await running.execute("DELETE FROM cutover.task_run WHERE id = $1", other["id"])
    assert await ops.void(certificate) == ""


async def test_a_phase_change_voids_it_even_when_the_tenant_is_back(ops: Ops, running: Served) -> None:
    certificate = await ops.certify()
    for name in ("ada", "grace"):
        await ops.approve(name, certificate)
    async with Control(running.daemon.at.ops, running.daemon.admin_token) as control:
        await control.enter("A1", override="meanwhile")
        await control.enter("A0")
    assert "the phase changed: it was issued in A0, epoch" in await ops.void(certificate)
    assert "is void" in (await ops.promote(certificate, 409))["error"]
    assert "is void" in (await ops.approve("edsger", certificate, 409))["error"]


async def test_two_daemons_consume_a_certificate_once(ops: Ops, running: Served) -> None:
    """Both are asked at the same moment, again and again; their settings differ in where they listen only."""
    second = running.another_daemon("second")
    await second.child.start()
    try:
        async with httpx.AsyncClient(base_url=second.at.ops, timeout=PATIENCE) as http:
            other = Ops(http)
            await other.steady()
            for _ in range(3):
                certificate = await ops.certify()
                await ops.approve("ada", certificate)
                await other.approve("grace", certificate)
                assert await other.void(certificate) == ""
                await once(certificate, running.daemon, second)
                used = await running.execute(
                    "SELECT count(*) FROM cutover.phase_event WHERE encode(certificate, 'hex') = $1", certificate
                )
                assert used[0]["count"] == 1
                await back_to_a0(running)
    finally:
        await second.child.terminate()


async def once(certificate: str, *daemons: DaemonChild) -> None:
    async def promote(daemon: DaemonChild) -> int:
        async with httpx.AsyncClient(base_url=daemon.at.ops, timeout=PATIENCE) as http:
            body = {"reason": "a test", "target": "A1", "certificate": certificate}
            headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
            answer = await http.post("/api/v1/phase/promote", json=body, headers=headers)
            return answer.status_code

    statuses = await asyncio.gather(*(promote(daemon) for daemon in daemons for _ in range(2)))
    assert sorted(statuses) == [200, 409, 409, 409]


async def test_a_restart_with_another_setting_voids_it_and_time_does(ops: Ops, running: Served) -> None:
    certificate = await ops.certify(override=None)
    child = running.daemon.child
    before = child.environment
    await child.terminate()
    try:
        await child.start()
        await ops.steady()
        assert await ops.void(certificate) == "", "the same settings after a restart are the same"
        await child.terminate()
        child.environment = {**before, "CUTOVER_CERTIFICATE_VALIDITY": "2s"}
        await child.start()
        await ops.steady()
        assert "configuration changed" in await ops.void(certificate)
        assert "is void" in (await ops.promote(certificate, 409))["error"]

        short = await ops.certify()

        async def expired() -> bool:
            return "expired at" in await ops.void(short)

        await until(expired, "the certificate to expire", timeout=PATIENCE, every=0.2)
        assert "expired at" in (await ops.approve("grace", short, 409))["error"]
        assert "expired at" in (await ops.promote(short, 409))["error"]
    finally:
        await child.terminate()
        child.environment = before
        await child.start()


async def test_a_closed_gate_issues_no_certificate_and_names_its_checks(ops: Ops, running: Served) -> None:
    running.plugin.kill()
    try:

        async def closed() -> bool:
            return (await ops.http.get("/readyz/checks/plugin")).status_code == 503

        await until(closed, "a plugin seen dead", timeout=PATIENCE, every=0.1)
        for path, body in (("certify", {"target": "A1"}), ("promote", {"target": "A1", "reason": "a test"})):
            told = await ops.post("admin", path, body, 409)
            assert "the gate of A1 is closed by" in told["error"]
            found = {check["id"]: check for check in told["checks"]}
            assert "plugin" in found
            assert all(check["reason"] and check["next"] and check["status"] == "fail" for check in found.values())
            assert all(set(check) >= {"measured", "threshold"} for check in found.values())
        # An override gets past the gate, never past what the step itself needs.
        certificate = await ops.certify()
        for name in ("ada", "grace"):
            await ops.approve(name, certificate)
        told = await ops.promote(certificate, 409)
        assert "healthy plugin" in told["error"]
        assert await ops.void(certificate) == ""
    finally:
        await running.plugin.start()
    assert (await ops.get("phase"))["phase"] == "A0"
