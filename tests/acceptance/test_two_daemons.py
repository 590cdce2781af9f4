"""Issue 4 §6: several daemons on one database; one of them is cut off from it and comes back."""

import asyncio
import hashlib
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from typing import Literal
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from cutover.domain.procedure import Packaged
from cutover.embedded.callers import Http, MemoriesCaller, Outcome
from cutover.embedded.control import Control
from cutover.embedded.processes import DaemonChild, clean_environment, daemon_child, until
from cutover.stores.database import Database
from cutover.stores.procedures import Procedures, packaged
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import FAST, Scene
from tests.byte_proxy import ByteProxy

pytestmark = pytest.mark.acceptance
LEASE = "2s"
PATIENCE = 30.0


async def phase_of(session: aiohttp.ClientSession, daemon: DaemonChild) -> str | None:
    async with session.get(f"{daemon.at.ops}/api/v1/phase") as response:
        found: str | None = (await response.json())["phase"]
        return found


async def readiness(session: aiohttp.ClientSession, daemon: DaemonChild) -> int:
    async with session.get(f"{daemon.at.ops}/readyz") as response:
        return response.status


async def write(made: Scene, session: aiohttp.ClientSession, daemon: DaemonChild, content: str) -> tuple[int, str]:
    """Status and body of one create through a daemon's plugin face, which asks the database nothing before the gate."""
    url = f"{daemon.at.plugin}/v1/namespaces/workspace:{made.seats[0].workspace_id}/memories"
    body = {"content": content, "kind": "fact", "source": "agent"}
    async with session.post(url, json=body) as response:
        return response.status, await response.text()


async def learned(session: aiohttp.ClientSession, daemon: DaemonChild, phase: str) -> None:
    async def condition() -> bool:
        return await phase_of(session, daemon) == phase

    await until(condition, f"{phase} at the other daemon", timeout=PATIENCE, every=0.05)


@pytest.mark.parametrize("how", ["closed", "silent"])
async def test_a_daemon_that_is_cut_off_refuses_and_the_other_goes_on(
    make_scene: MakeScene, session: aiohttp.ClientSession, how: Literal["closed", "silent"]
) -> None:
    settings = {"CUTOVER_PHASE_LEASE": LEASE}
    made = await make_scene(settings=settings)
    async with ByteProxy(made.database_url) as link:
        cut_off = daemon_child(
            made.processes,
            database_url=link.url,
            plugin_url=made.proxy.url,
            name="cut-off",
            settings={**FAST, **settings},
        )
        await cut_off.child.start()
        await made.enter("A1")
        await learned(session, cut_off, "A1")
        assert (await write(made, session, cut_off, "before"))[0] == 201

        link.cut(how)
        refused: list[int] = []
        words: list[str] = []

        async def unconfirmed() -> bool:
            status, body = await write(made, session, cut_off, f"cut off {len(refused)}")
            refused.append(status)
            words.append(body)
            return "phase cannot be confirmed" in body

        await until(unconfirmed, "the refusal of a daemon without its lease", timeout=PATIENCE, every=0.2)
        assert set(refused) == {503}, words
        assert await readiness(session, cut_off) == 503

        # The other one knows nothing of it, and goes on; so does the tenant.
        assert (await write(made, session, made.daemon, "meanwhile"))[0] == 201
        assert await readiness(session, made.daemon) == 200
        await made.enter("A2")
        assert (await write(made, session, cut_off, "still cut off"))[0] == 503

        link.heal()
        await learned(session, cut_off, "A2")

        async def serving() -> bool:
            return (await write(made, session, cut_off, "after"))[0] == 201

        await until(serving, "service after the cut", timeout=PATIENCE, every=0.2)
        connection = await asyncpg.connect(made.database_url)
        try:
            rows = {r["content"] for r in await connection.fetch("SELECT content FROM agent_memories")}
        finally:
            await connection.close()
        # Of what was under way when the line went silent the caller was told that it may yet happen, and it may.
        undecided = {f"cut off {number}" for number, body in enumerate(words) if "may yet be applied" in body}
        assert len(undecided) < len(words)
        assert rows - undecided == {"before", "meanwhile", "after"}, "what was refused has left something"
        cut_off.child.kill()


async def test_a_phase_that_one_daemon_changes_is_the_other_ones_at_once_and_work_is_done_once(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    # The interval is long, so that every count sweep but those at the start has been asked for.
    made = await make_scene(daemons=2)
    one, two = made.daemons
    async with Control(two.at.ops, two.admin_token) as other:
        for number, phase in enumerate(("A1", "A2", "A1", "A0", "A1")):
            await (made.control if number % 2 else other).enter(phase)
            for daemon in (one, two):
                await learned(session, daemon, phase)
        told = [await control.call("GET", "/api/v1/audit") for control in (made.control, other)]
        assert [body["ok"] for _, body in told] == [True, True], json.dumps(told)
        assert {body["events"] for _, body in told} == {5}
    for daemon in (one, two):
        caller = MemoriesCaller(Http(session, daemon.at.memories))
        assert (await caller.create(made.seats[0], f"{uuid4()}", "LOCAL", "general")).outcome is Outcome.DONE
    connection = await asyncpg.connect(made.database_url)
    try:
        procedures = "SELECT count(*), count(DISTINCT name) FROM cutover.memory_procedure_version"
        assert len(set(await connection.fetchrow(procedures) or ())) == 1
        runs = "SELECT count(*) FROM cutover.task_run WHERE kind = 'phase' AND state = 'finished'"
        assert await connection.fetchval(runs) == 5
    finally:
        await connection.close()


async def test_the_record_from_the_command_line(make_scene: MakeScene) -> None:
    """`cutover procedure list|show|diff` and `cutover audit verify`, exit codes included."""
    made = await make_scene()
    environment = {**clean_environment(), "CUTOVER_OPS_URL": made.daemon.at.ops}

    async def cli(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cutover", *words, env=environment, stdout=PIPE, stderr=STDOUT
        )
        told, _ = await process.communicate()
        return process.returncode or 0, told.decode()

    code, told = await cli("procedure", "list")
    assert code == 0, told
    assert all(name in told for name in packaged()), told
    code, told = await cli("procedure", "show", "a3-cutover")
    assert (code, packaged()["a3-cutover"].body in told) == (0, True), told
    assert await cli("procedure", "diff", "sweeps") == (0, "no difference\n")
    assert (await cli("procedure", "show", "tea"))[0] == 1
    body = "# Sweeps\nanother text\n"
    other = Packaged("sweeps", "Sweeps", body, hashlib.sha256(body.encode()).digest())
    database = await Database.connect(made.database_url, max_size=1)
    try:
        await Procedures(database).seed("99.0", {"sweeps": other})
        code, told = await cli("procedure", "diff", "sweeps")
        assert (code, "-another text" in told) == (3, True), told
        assert (await cli("procedure", "diff", "sweeps", "--from", "1", "--to", "2"))[0] == 3
        code, told = await cli("audit", "verify")
        assert (code, "whole" in told) == (0, True), told
        assert (await cli("audit", "verify", "--head", "00" * 32))[0] == 3
        assert (await cli("audit", "verify", "--head", "nonsense"))[0] == 2
        forge = "ALTER TABLE cutover.phase_state DISABLE TRIGGER ALL; UPDATE cutover.phase_state SET epoch = 7"
        await database.execute(forge)
        code, told = await cli("audit", "verify")
        assert (code, "the record is broken" in told) == (3, True), told
    finally:
        await database.close()
