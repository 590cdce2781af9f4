"""Issue 4 §4: forward, back and forward again over every reversible step, under traffic, with SIGKILL on the way."""

import asyncio
import contextlib
import random

import asyncpg
import pytest

from cutover.embedded.control import ControlError
from cutover.embedded.processes import until
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene
from tests.acceptance.test_crashes import acknowledged, under_load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]


async def killed_on_the_way(made: Scene, target: str, chooser: random.Random) -> None:
    """A step to `target` that the daemon does not live through; afterwards the tenant is wholly in one phase, and the
    step can be taken."""
    before = await made.control.phase()
    step = asyncio.create_task(made.enter(target))
    await asyncio.sleep(chooser.uniform(0.0, 0.4))
    made.daemon.child.kill()
    await asyncio.gather(step, return_exceptions=True)
    await made.daemon.child.start()

    async def there() -> bool:
        with contextlib.suppress(ControlError):
            assert await made.control.phase() in (before, target)
            await made.enter(target)
            return await made.control.phase() == target
        return False

    await until(there, f"phase {target}", timeout=60, every=0.2)


async def test_forward_back_forward_under_traffic_with_sigkill(make_scene: MakeScene) -> None:
    made = await make_scene()
    chooser = random.Random(20_26)
    traffic = made.traffic(seed=11, workers=6, rate=120.0)
    async with under_load(made, traffic):
        for there, back in (("A1", "A0"), ("A2", "A1"), ("A3", "A2")):
            if there == "A3":
                await traffic.stop_sql()
            await made.enter(there)
            await acknowledged(traffic, 20)
            await killed_on_the_way(made, back, chooser)
            await acknowledged(traffic, 20)
            await killed_on_the_way(made, there, chooser)
            await acknowledged(traffic, 20)
        await made.enter("A2")
        await acknowledged(traffic, 20)
    assert traffic.tally.faults == []
    await made.assert_converged("legacy")
    assert (await made.control.sweep())["unexplained"] == 0

    connection = await asyncpg.connect(made.database_url)
    try:

        async def thawed() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM cutover.freeze")

        await until(thawed, "others may write agent_memories again", timeout=90, every=0.2)
    finally:
        await connection.close()
