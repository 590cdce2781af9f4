"""The process: boot gate, the plugin as its child, a graceful end, clients that hang up (architecture §1, obs. §1)."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from cutover.embedded.callers import Http, MemoriesCaller, Outcome
from cutover.embedded.control import Control
from cutover.embedded.fault_proxy import delay, on
from cutover.embedded.processes import Processes, daemon_child, free_port, until
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import FAST, add_seats

pytestmark = pytest.mark.acceptance


async def test_boot_gate_ends_the_daemon_with_the_reason(make_scene: MakeScene) -> None:
    made = await make_scene(settings={"CUTOVER_BOOT_GATE_SECONDS": "1"})
    await made.enter("A1")
    await made.daemon.child.terminate()
    made.plugin.kill()
    before = len(made.daemon.child.output())
    made.daemon.child.launch()
    assert await made.daemon.child.ended(timeout=20) not in (0, None)
    words = made.daemon.child.output()[before:]
    assert "plugin" in words
    assert "Traceback" not in words
    await made.plugin.start()
    await made.daemon.child.start()


async def test_the_boot_gate_waits_for_a_plugin_that_comes_late(make_scene: MakeScene) -> None:
    made = await make_scene()
    await made.enter("A1")
    await made.daemon.child.terminate()
    made.plugin.kill()
    made.proxy.seen.clear()
    made.daemon.child.launch()

    async def asked() -> bool:
        assert made.daemon.child.pid is not None, made.daemon.child.last_words()
        return len(made.proxy.seen) > 2

    await until(asked, "the daemon to ask for the plugin's health", timeout=20)
    await made.plugin.start()
    await made.daemon.child.ready()


async def test_a_daemon_whose_faces_do_not_listen_yet_is_not_ready(make_scene: MakeScene) -> None:
    """Behind the boot gate only the ops face is there, and says so; ready is said when every face listens."""
    made = await make_scene()
    await made.enter("A1")
    await made.daemon.child.terminate()
    made.plugin.kill()
    made.daemon.child.launch()
    at = made.daemon.at
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        ops, memories = Http(session, at.ops), Http(session, at.memories)

        async def answers() -> bool:
            return (await ops.call("GET", "/livez"))[0].status == 200

        await until(answers, "the ops face to answer", timeout=20, every=0.02)
        reply, body = await ops.call("GET", "/readyz")
        assert reply.status == 503
        assert set(body["checks"]) == {"starting"}
        await made.plugin.start()
        await made.daemon.child.ready()
        assert (await memories.call("GET", "/nowhere"))[0].status == 404


async def test_in_a0_the_daemon_starts_without_the_plugin(make_scene: MakeScene) -> None:
    made = await make_scene(start=False)
    made.plugin.kill()
    await made.daemon.child.start()
    assert (await made.control.ready())[0] == 200


async def test_sigterm_turns_readyz_red_first_finishes_what_is_under_way_and_exits_0(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene()
    await made.enter("A1")
    slow = made.proxy.rule(on("POST", r"/memories$"), delay(0.8))
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    writes = [
        asyncio.create_task(caller.create(seat, f"under way {n}", "LOCAL", "general", str(uuid4())))
        for n, seat in enumerate(made.seats)
    ]

    async def under_way() -> bool:
        return slow.hits >= len(writes)

    await until(under_way, "all deliveries under way", timeout=10)
    made.daemon.child.send(signal.SIGTERM)
    red = False
    while made.daemon.child.pid is not None and not red:
        try:
            async with session.get(f"{made.daemon.at.ops}/readyz") as response:
                red = response.status == 503
        except aiohttp.ClientError:
            break
    assert red, "/readyz answers 503 while the daemon drains"
    replies = await asyncio.gather(*writes)
    assert [reply.outcome for reply in replies] == [Outcome.DONE] * len(writes), replies
    assert await made.daemon.child.ended() == 0
    # What was answered `pending` kept its mark, and arrives with the next life.
    slow.off()
    await made.daemon.child.start()
    await made.drained()
    legacy, plugin = await made.witness.legacy(), await made.witness.plugin()
    for reply in replies:
        assert reply.memory_id in legacy
        assert reply.memory_id in plugin


async def test_a_client_that_hangs_up_does_not_split_its_write(make_scene: MakeScene) -> None:
    """The connection is cut right after the request was sent, at every moment of the write."""
    made = await make_scene()
    await made.enter("A1")
    seat = made.seats[0]
    host, _, port = made.daemon.at.memories.removeprefix("http://").rpartition(":")
    made.proxy.rule(on("POST", r"/memories$"), delay(0.05))
    for number in range(30):
        body = json.dumps({"content": f"cut off {number}", "scope": "LOCAL"}).encode()
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /workspaces/{seat.workspace_id}/memories HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {seat.token}"
            f"\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        began = time.monotonic()

        async def long_enough(began: float = began, wanted: float = 0.004 * number) -> bool:
            return time.monotonic() - began >= wanted

        await until(long_enough, "the moment to hang up", timeout=5, every=0.001)
        writer.transport.abort()
    await made.drained()
    legacy = {content for content in (await made.witness.legacy()).values() if content.startswith("cut off")}
    plugin = {row.content for row in (await made.witness.plugin()).values() if row.content.startswith("cut off")}
    assert legacy == plugin
    assert legacy, "the later ones were under way already"


# -- the plugin as the daemon's child ---------------------------------------------------------------------------------


def children_of(parent: int) -> list[int]:
    """Process ids of its living children."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(ppid) == parent and state != "Z":
                    found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether that process still runs."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_the_plugin_command_is_started_restarted_and_stopped_last(
    database: str, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """With the derived database URL: its tables must be found in schema `memory_plugin`."""
    seats = await add_seats(database)
    port = free_port()
    # The command gets its database from the environment that the daemon derives (architecture §1).
    command = shlex.join([sys.executable, "-m", "cutover", "plugin", "serve", "--listen", f"127.0.0.1:{port}"])
    settings = {**FAST, "CUTOVER_PLUGIN_COMMAND": command}
    with Processes(tmp_path) as processes:
        daemon = daemon_child(
            processes, database_url=database, plugin_url=f"http://127.0.0.1:{port}", settings=settings
        )
        await daemon.child.start()
        async with Control(daemon.at.ops, daemon.admin_token) as control:
            await control.enter("A1", override="a test")
            caller = MemoriesCaller(Http(session, daemon.at.memories))

            async def again() -> bool:
                reply = await caller.create(seats[0], f"by the child {uuid4()}", "LOCAL", "general")
                return reply.outcome is Outcome.DONE

            await until(again, "writes", timeout=20)
            assert daemon.child.pid is not None
            first = children_of(daemon.child.pid)
            assert len(first) == 1
            os.kill(first[0], signal.SIGKILL)

            async def refused_or_replaced() -> bool:
                now = children_of(daemon.child.pid or 0)
                return bool(now) and now != first

            await until(refused_or_replaced, "another child", timeout=20)
            await until(again, "writes again", timeout=20)
            second = children_of(daemon.child.pid)
            assert await daemon.child.terminate() == 0
            assert not alive(second[0]), "the child is stopped with the daemon"
