"""Issue 2 §7: SIGKILL of daemon and plugin at random points under load, a restarted PostgreSQL, two daemons at once.

After every one of them the history checker must find nothing lost, resurrected, stale or divergent.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from cutover.embedded.stack import prepare_database
from cutover.embedded.traffic import Traffic
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene, add_memories, scene

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
ROUNDS = 20


@contextlib.asynccontextmanager
async def under_load(made: Scene, traffic: Traffic) -> AsyncIterator[None]:
    """Traffic while the body runs; it ends in order, and by no fault of its own."""
    async with traffic:
        running = asyncio.create_task(traffic.run())
        try:
            yield
            traffic.stop()
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def acknowledged(traffic: Traffic, count: int, timeout: float = 30.0) -> None:
    """Wait for `count` more acknowledged writes over the daemon."""
    goal = traffic.tally.acknowledged_by_daemon + count

    async def condition() -> bool:
        return traffic.tally.acknowledged_by_daemon >= goal

    await until(condition, f"{count} more acknowledged writes", timeout=timeout)


@pytest.mark.parametrize("phase", ["A1", "A3"])
async def test_sigkill_at_random_points_under_load(make_scene: MakeScene, phase: str) -> None:
    """Half of the rounds in A1, with SQL writers past the daemon; half in A3, without (legacy is to be frozen)."""
    made = await make_scene()
    chooser = random.Random(20_26)
    await made.enter("A1")
    traffic = made.traffic(seed=5, workers=8, rate=250.0)
    if phase == "A3":
        await made.enter("A2", "A3")
        await traffic.stop_sql()
    async with under_load(made, traffic):
        for _ in range(ROUNDS // 2):
            await acknowledged(traffic, chooser.randint(1, 40))
            victims = chooser.choice(
                [[made.daemon.child], [made.plugin], [made.daemon.child, made.plugin], [made.plugin, made.daemon.child]]
            )
            for victim in victims:
                victim.kill()
            for victim in sorted(victims, key=lambda each: each is not made.plugin):
                await victim.start()
        await acknowledged(traffic, 30)
    assert traffic.tally.faults == []
    await made.assert_converged("legacy" if phase == "A1" else "plugin")


@pytest.mark.parametrize("via", ["contract", "database"])
async def test_a_backfill_under_load_survives_sigkill_and_is_repeatable(make_scene: MakeScene, via: str) -> None:
    made = await make_scene(settings={"CUTOVER_BACKFILL_CHUNK": "50"})
    for memory_id, content in (await add_memories(made.database_url, made.seats, 1500)).items():
        made.history.found(memory_id, content)
    await made.enter("A1", "A2")
    traffic = made.traffic(seed=9, rate=150.0)
    async with under_load(made, traffic):
        await made.control.start_backfill(via=via, rate=1000)
        for share in (0.15, 0.4, 0.7):

            async def reached(share: float = share) -> bool:
                return (await made.witness.counts())[1] > 1500 * share

            await until(reached, f"{share:.0%} of the copy", timeout=60)
            made.daemon.child.kill()
            await made.daemon.child.start()
        await made.control.backfilled(timeout=60)
        await acknowledged(traffic, 20)
    await made.assert_converged()
    before = await made.witness.fingerprints()
    await made.control.copy(timeout=60)
    await made.drained()
    assert await made.witness.fingerprints() == before, "a second run copies nothing twice and changes nothing"
    assert (await made.control.sweep())["unexplained"] == 0


async def test_two_daemons_on_one_database(make_scene: MakeScene) -> None:
    """They start at once on an empty schema, share the traffic, follow each other's phase, and one dies."""
    made = await make_scene(daemons=2, start=False)
    for daemon in made.daemons:
        daemon.child.launch()
    for daemon in made.daemons:
        await daemon.child.ready()
    traffic = made.traffic(seed=3, workers=8, rate=200.0)
    async with under_load(made, traffic):
        for phase in ("A1", "A2", "A3"):
            if phase == "A3":
                await traffic.stop_sql()
            await made.enter(phase)
            await acknowledged(traffic, 60)
        made.daemons[1].child.kill()
        await acknowledged(traffic, 40)
        await made.daemons[1].child.start()
        await acknowledged(traffic, 40)
    assert traffic.tally.faults == []
    await made.drained()
    await made.assert_converged("plugin")


async def test_a_rollback_from_a3_under_load_loses_nothing(make_scene: MakeScene) -> None:
    """A3→A2 replays the journal into legacy: afterwards legacy is the authority and holds every acknowledged write."""
    made = await make_scene()
    await made.enter("A1", "A2")
    traffic = made.traffic(seed=8, rate=150.0)
    async with under_load(made, traffic):
        await acknowledged(traffic, 40)
        await traffic.stop_sql()
        await made.enter("A3")
        await acknowledged(traffic, 80)
        await made.enter("A2")
        await acknowledged(traffic, 40)
    assert traffic.tally.faults == []
    await made.assert_converged("legacy")
    assert (await made.control.sweep())["unexplained"] == 0


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_postgres_restart_under_load(own_postgres: EmbeddedPostgres, tmp_path: Path, mode: str) -> None:
    """`fast` as an operator would, `immediate` as a crash would."""
    url = await prepare_database(own_postgres, "restarted")
    async with scene(url, tmp_path / "logs") as made:
        await made.enter("A1")
        traffic = made.traffic(seed=4, rate=150.0)
        async with under_load(made, traffic):
            await acknowledged(traffic, 60)
            await asyncio.to_thread(own_postgres.restart, "fast" if mode == "fast" else "immediate")
            await acknowledged(traffic, 60)
            assert made.daemon.child.pid is not None, "the daemon outlives its database's restart"
        await made.assert_converged()
