"""Gates from outside: `/readyz/{phase}`, `/readyz/checks/{id}`, `cutover phase show|check` on a daemon of its own."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cutover.domain.evidence import Evidence
from cutover.domain.gate import every_check
from cutover.embedded.postgres import EmbeddedPostgres
from tests.served import Served, served

PATIENCE = 60.0


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with served(postgres, settings={"CUTOVER_GATE_PLUGIN_HEALTHY": "1s"}) as made:
        yield made


def command(running: Served, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cutover", *arguments],
        env={"CUTOVER_OPS_URL": running.daemon.at.ops, "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        cwd="/",
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def until_check(running: Served, code: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    until = time.monotonic() + PATIENCE
    while (done := command(running, "phase", "check", *arguments)).returncode != code:
        assert time.monotonic() < until, (done.stdout, done.stderr)
        time.sleep(0.5)
    return done


def test_phase_check_is_0_when_open_and_says_what_is_loosened(running: Served) -> None:
    done = until_check(running, 0, "A1", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["phase"], told["target"], told["verdict"]) == ("A0", "A1", "the gate is open")
    checks = {each["check"]: each for each in told["checks"]}
    assert checks["plugin_healthy"]["threshold"] == ">= 1 s (loosened from 10 min)"
    assert told["status"] == checks["thresholds"]["status"] == "warn"
    assert "plugin_healthy is 1 s, loosened from 10 min" in checks["thresholds"]["reason"]
    plain = command(running, "phase", "check")
    assert plain.returncode == 0
    assert "A1: the gate is open" in plain.stderr
    assert "(loosened from 10 min)" in plain.stdout


def test_phase_check_is_3_when_closed_and_says_why_and_what_next(running: Served) -> None:
    done = command(running, "phase", "check", "A3", "-o", "json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["verdict"] == "the gate is closed"
    failed = {each["check"] for each in told["checks"] if each["status"] == "fail"}
    assert {"step", "digest", "rehearsal", "backfill"} <= failed
    assert all(each["next"] for each in told["checks"] if each["status"] == "fail")
    assert "error: A3: the gate is closed" in done.stderr
    assert "next: cutover phase check A1" in done.stderr
    assert "two approvals" in done.stderr
    assert "two approvals" in told["notes"][0]


def test_phase_check_of_the_current_phase_judges_its_invariants(running: Served) -> None:
    done = command(running, "phase", "check", "A0")
    assert done.returncode == 0
    assert "its invariants hold" in done.stderr


def test_phase_check_of_a_phase_that_there_is_not_is_a_usage_error(running: Served) -> None:
    assert command(running, "phase", "check", "A9").returncode == 2


def test_phase_show_shows_every_check_of_the_next_phase_with_its_threshold(running: Served) -> None:
    until_check(running, 0, "A1")
    told = json.loads(command(running, "phase", "show", "-o", "json").stdout)
    assert (told["phase"], told["next"], told["gate"]) == ("A0", "A1", "the gate is open")
    assert {"pgvector", "search_path", "strays", "canary"} <= {each["check"] for each in told["checks"]}
    table = command(running, "phase", "show")
    assert table.returncode == 0
    assert "THRESHOLD" in table.stdout
    assert "plugin_healthy 1 s (not 10 min)" in " ".join(table.stdout.split())


def test_the_daemon_is_unreachable_is_4(running: Served) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cutover", "phase", "check", "A1"],
        env={"CUTOVER_OPS_URL": "http://127.0.0.1:9", "PYTHONPATH": ":".join(sys.path)},
        cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4


async def test_every_phase_and_every_check_answers_get_and_head_with_one_status(running: Served) -> None:
    async with httpx.AsyncClient(base_url=running.daemon.at.ops, timeout=30) as http:

        async def asked(path: str) -> tuple[int, Any]:
            """GET and HEAD agree, unless what they tell of changed just between them."""
            for _ in range(20):
                got, head = await http.get(path), await http.head(path)
                if got.status_code == head.status_code:
                    break
                await asyncio.sleep(0.2)
            assert (head.status_code, head.content) == (got.status_code, b"")
            return got.status_code, got.json()

        for phase in ("A0", "A1", "A2", "A3", "A4"):
            status, body = await asked(f"/readyz/{phase}")
            assert status == (503 if body["status"] == "fail" else 200)
            assert (body["target"], body["tenant"]) == (phase, "sample")
        assert (await asked("/readyz/A9"))[0] == 404
        for check_id in every_check(Evidence()):
            status, body = await asked(f"/readyz/checks/{check_id}")
            assert list(body["checks"]) == [check_id]
            assert status == (503 if body["checks"][check_id][0]["status"] == "fail" else 200)
        assert (await asked("/readyz/checks/no_such_check"))[0] == 404
        assert (await asked("/readyz/checks/backfill"))[0] == 503
        assert (await asked("/readyz/checks/schema"))[0] == 200


def test_a_dead_plugin_closes_the_gate_of_a1_by_its_checks(running: Served) -> None:
    """The last test of this daemon."""
    until_check(running, 0, "A1")
    asyncio.run(running.plugin.terminate())
    until, failed = time.monotonic() + PATIENCE, set[str]()
    while not {"plugin", "plugin_healthy"} <= failed:  # the canary may fail before the probe does
        assert time.monotonic() < until, failed
        done = until_check(running, 3, "A1", "-o", "json")
        failed = {each["check"] for each in json.loads(done.stdout)["checks"] if each["status"] == "fail"}
    assert command(running, "phase", "check", "A0").returncode == 0, "A0 does not need it"
