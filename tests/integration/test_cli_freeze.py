"""Scream tests and the freeze on the command line, against a running daemon (issue 4 §3)."""

import asyncio
import json
import threading
from collections.abc import Iterator
from uuid import UUID

import asyncpg
import pytest

from cutover.embedded.control import Control
from cutover.embedded.postgres import EmbeddedPostgres
from tests.integration.test_cli_daemon import Command, wait_for
from tests.served import Served, served

INSERT = "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'x', 'LOCAL')"


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A2, everything copied."""
    with served(postgres, "A2", rows=3) as made:
        yield made


@pytest.fixture
def command(running: Served) -> Command:
    return Command(running)


async def attempt(running: Served, workspace: UUID, name: str) -> bool:
    """Whether a stranger's insert was refused."""
    writer = await asyncpg.connect(running.database_url, server_settings={"application_name": name})
    try:
        await writer.execute(INSERT, workspace)
    except asyncpg.PostgresError as error:
        return error.sqlstate == "CU003"
    finally:
        await writer.close()
    return False


def frozen(running: Served) -> bool:
    sql = "SELECT FROM cutover.freeze WHERE mode = 'scream' AND until > clock_timestamp()"
    return bool(asyncio.run(running.execute(sql)))


def test_a_scream_test_in_which_nobody_breaks(command: Command) -> None:
    planned = command("phase", "scream-test", "--dry-run")
    assert planned.returncode == 0
    assert "count and name the refused statements for 60 s" in planned.stdout
    unasked = command("phase", "scream-test")
    assert unasked.returncode == 2
    assert "give --yes" in unasked.stderr
    done = command("phase", "scream-test", "--seconds", "1", "--yes")
    assert done.returncode == 0, done.stderr
    assert "nobody was refused" in done.stderr
    assert command("phase", "scream-test", "--stop").returncode == 3  # none is under way


def test_a_scream_test_names_who_broke_and_ends_with_3(command: Command, running: Served) -> None:
    workspace = asyncio.run(running.workspace())
    results = []
    thread = threading.Thread(
        target=lambda: results.append(command("phase", "scream-test", "--seconds", "60", "--yes", "-o", "tsv"))
    )
    thread.start()
    wait_for(lambda: frozen(running), lambda: "not frozen")
    assert asyncio.run(attempt(running, workspace, "nightly-report"))
    assert asyncio.run(attempt(running, workspace, "nightly-report"))
    stopped = command.json("phase", "scream-test", "--stop", code=3)
    assert stopped["freeze"]["over"]
    thread.join(60)
    (done,) = results
    assert done.returncode == 3
    assert "nightly-report/" in done.stdout
    assert "2 statements of 1 writers were refused" in done.stderr
    wait_for(lambda: not frozen(running), lambda: "still frozen")
    assert not asyncio.run(attempt(running, workspace, "nightly-report"))


async def enter_a3(running: Served) -> None:
    async with Control(running.daemon.at.ops, running.daemon.admin_token) as control:
        await control.copy(timeout=60)
        await control.enter("A3", override="a test", timeout=60)


def freeze_check(command: Command) -> dict[str, str]:
    checks: list[dict[str, str]] = json.loads(command("phase", "check", "A3", "-o", "json").stdout)["checks"]
    return next(check for check in checks if check["check"] == "freeze")


def test_tampering_turns_readiness_red_until_somebody_refreezes(command: Command, running: Served) -> None:
    asyncio.run(enter_a3(running))
    assert freeze_check(command)["status"] == "pass"
    asyncio.run(running.execute("ALTER TABLE agent_memories DISABLE TRIGGER cutover_freeze"))
    wait_for(lambda: freeze_check(command)["status"] == "fail", lambda: freeze_check(command))
    assert "cutover phase refreeze" in freeze_check(command)["next"]
    looked = command("phase", "refreeze", "--reason", "who did that?", "--dry-run")
    assert "trigger cutover_freeze is disabled" in looked.stdout
    mended = command("phase", "refreeze", "--reason", "an import had switched it off", "--yes")
    assert mended.returncode == 0, mended.stderr
    assert "trigger cutover_freeze is disabled" in mended.stdout
    wait_for(lambda: freeze_check(command)["status"] == "pass", lambda: freeze_check(command))
    logged = asyncio.run(running.execute("SELECT actor, reason FROM cutover.freeze_log ORDER BY number DESC LIMIT 1"))
    assert logged[0]["reason"] == "an import had switched it off"
    assert "token of" in logged[0]["actor"]
