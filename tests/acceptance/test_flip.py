"""Issue 4 §3 with real processes: the flip under traffic on all faces, killed, stopped, beside a second daemon."""

import asyncio
import random
import time

import asyncpg
import pytest

from cutover.embedded.control import ControlError
from cutover.embedded.history import OperationOutcome
from cutover.embedded.processes import until
from cutover.embedded.traffic import Traffic
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene, add_memories
from tests.acceptance.test_crashes import acknowledged, under_load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
KILLS = 5
_SITUATION = """
SELECT (SELECT phase FROM cutover.phase_state) AS phase,
       (SELECT mode FROM cutover.freeze) AS mode,
       (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_freeze%' AND tgenabled = 'A') AS triggers,
       ARRAY(SELECT cutover.freeze_faults()) AS faults
"""


async def wholly(made: Scene) -> str:
    """The phase; everything in the database must agree with it."""
    connection = await asyncpg.connect(made.database_url)
    try:
        row = await connection.fetchrow(_SITUATION)
    finally:
        await connection.close()
    assert row is not None
    found = dict(row)
    assert found["faults"] == []
    if found["phase"] == "A3":
        assert (found["mode"], found["triggers"]) == ("frozen", 2)
    else:
        assert found["phase"] == "A2"
        # After a way back the triggers stay until a full sweep is clean, and for a moment after that.
        assert found["mode"] in (None, "thawing", "open"), found
        assert found["mode"] or not found["triggers"], found
    return str(found["phase"])


async def in_a2(made: Scene) -> None:
    for memory_id, content in (await add_memories(made.database_url, made.seats, 200)).items():
        made.history.found(memory_id, content)
    await made.enter("A1", "A2")
    await made.control.copy(timeout=60)


async def try_to_enter_a3(made: Scene) -> None:
    """A step that may be cut short by what the test does meanwhile."""
    try:
        await made.control.enter("A3", override="a test")
    except (ControlError, TimeoutError, AssertionError):
        return


async def test_there_and_back_under_traffic_on_all_faces_loses_and_doubles_nothing(make_scene: MakeScene) -> None:
    """With direct SQL going on all the while, and a second daemon whose callers see 503 at most."""
    made = await make_scene(daemons=2)
    await in_a2(made)
    traffic = made.traffic(seed=11, workers=10, rate=120.0)
    async with under_load(made, traffic):
        for _ in range(2):
            await acknowledged(traffic, 40)
            await made.control.enter("A3", override="a test")
            assert await wholly(made) == "A3"
            await acknowledged(traffic, 60)
            await made.control.enter("A2")
            assert await wholly(made) == "A2"
        await acknowledged(traffic, 40)
        await made.control.enter("A3", override="a test")
        await acknowledged(traffic, 60)
    assert traffic.tally.faults == []
    _only_documented(traffic)
    assert not [each for each in made.history.operations if each.outcome is OperationOutcome.UNKNOWN]
    await made.assert_converged("plugin")


async def test_sigkill_during_the_flip_under_traffic_is_wholly_a2_or_wholly_a3(make_scene: MakeScene) -> None:
    made = await make_scene()
    chooser = random.Random(2026)
    await in_a2(made)
    traffic = made.traffic(seed=12, workers=8, rate=120.0)
    async with under_load(made, traffic):
        for _ in range(KILLS):
            await acknowledged(traffic, 20)
            changing = asyncio.create_task(try_to_enter_a3(made))
            await _in_the_hold(made, changing)
            await asyncio.sleep(chooser.uniform(0.0, 0.03))
            made.daemon.child.kill()
            await changing
            await made.daemon.child.start()
            if await wholly(made) == "A3":
                await acknowledged(traffic, 20)
                await made.control.enter("A2")
        await acknowledged(traffic, 20)
        await made.control.enter("A3", override="a test", timeout=60)
        assert await wholly(made) == "A3"
        await acknowledged(traffic, 40)
    assert traffic.tally.faults == []
    await made.assert_converged("plugin")


async def test_sigstop_during_the_flip_keeps_nobody_out_for_long(make_scene: MakeScene) -> None:
    made = await make_scene(daemons=2)
    await in_a2(made)
    traffic = made.traffic(seed=13, workers=8, rate=120.0)
    async with under_load(made, traffic):
        await acknowledged(traffic, 20)
        changing = asyncio.create_task(try_to_enter_a3(made))
        await _in_the_hold(made, changing)
        made.daemon.child.pause()
        try:
            began = time.monotonic()
            connection = await asyncpg.connect(made.database_url)
            try:
                if await wholly(made) == "A2":
                    await connection.execute(
                        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'by hand', 'LOCAL')",
                        made.seats[0].workspace_id,
                    )
            finally:
                await connection.close()
            await acknowledged(traffic, 20)  # through the other daemon
            assert time.monotonic() - began < 20
        finally:
            made.daemon.child.resume()
        await changing
        await made.control.enter("A3", override="a test", timeout=60)
        assert await wholly(made) == "A3"
        await acknowledged(traffic, 40)
    assert traffic.tally.faults == []
    await made.assert_converged("plugin")


async def _in_the_hold(made: Scene, changing: "asyncio.Task[None]") -> None:
    """Until the change of phase holds the writes (or has been too quick to be seen)."""
    connection = await asyncpg.connect(made.database_url)
    lock = (
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) | objid::bigint = cutover.phase_lock_key())"
    )

    async def held() -> bool:
        return changing.done() or bool(await connection.fetchval(lock))

    try:
        await until(held, "the hold", timeout=60, every=0.001)
    finally:
        await connection.close()


def _only_documented(traffic: Traffic) -> None:
    """Success, "not there" and "come again" (0: direct SQL) are the only answers that a change of phase gives."""
    assert set(traffic.tally.statuses) - {0} <= {200, 201, 202, 204, 404, 409, 503}, traffic.tally.statuses
