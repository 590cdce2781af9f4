"""Several daemons on one database: what is scheduled is done by one of them, and known to all (architecture §6)."""

import asyncio

import pytest

from cutover.domain.errors import OperatorError
from cutover.domain.phase import Phase
from cutover.engine.sweep import KIND as COUNT
from cutover.engine.sweep import CountSweeper
from cutover.stores import runs as runs_module
from cutover.stores.runs import Runs
from cutover.stores.task_lock import COUNT_SWEEP, RECALL_SWEEP, task_lock, task_turn
from tests.integration.protocol_scene import eventually, scene


async def test_a_scheduled_count_sweep_is_done_by_one_daemon_and_known_to_both(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        one = s.tenant._sweeper
        two = (await s.daemon()).tenant._sweeper
        await eventually(lambda: one.last is not None and two.last is not None)
        assert one.last is not None
        assert two.last is not None
        assert await s.count(f"cutover.task_run WHERE kind = '{COUNT}'") == 1
        assert two.last.as_json() == one.last.as_json()
        assert two.last.ledger is not None
        assert two.last.ledger == one.last.ledger
        # An operator's is a sweep of its own, and the other daemon learns of it with its next turn.
        asked = await two.run("operator")
        assert await s.count(f"cutover.task_run WHERE kind = '{COUNT}'") == 2
        assert (await one.run("schedule")).as_json() == asked.as_json()


async def test_two_count_sweeps_of_two_daemons_are_never_at_once(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        runs = Runs(s.database)
        sweepers = [CountSweeper("x", s.tenant._sweeper._counter, runs, lambda _: None) for _ in range(4)]
        await asyncio.gather(*(each.run("operator") for each in sweepers))
        together = await s.database.fetchval(
            "SELECT count(*) FROM cutover.task_run a JOIN cutover.task_run b ON a.id < b.id AND a.kind = b.kind"
            f" WHERE a.kind = '{COUNT}' AND (a.started_at, a.finished_at) OVERLAPS (b.started_at, b.finished_at)"
        )
        assert together == 0


async def test_a_recall_sweep_waits_for_the_other_daemons(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        async with task_lock(s.database, RECALL_SWEEP) as lock:
            assert lock.ours
            sweep = asyncio.create_task(s.tenant.operations.run_recall_sweep("test"))
            await asyncio.sleep(0.5)
            assert await s.count("cutover.task_run WHERE kind = 'sweep.recall'") == 0
        assert (await sweep)["outcome"] != "failed"


async def test_a_turn_that_does_not_come_is_told(database: str) -> None:
    async with scene(database) as s, task_lock(s.database, 4711) as lock:
        assert lock.ours
        with pytest.raises(OperatorError, match=r"another daemon .* the lock is held by somebody-else \(pid \d+"):
            async with task_turn(s.database, 4711, patience=0.3):
                pass


async def test_an_operator_who_asks_for_a_count_waits_a_little_and_hears_who_is_in_the_way(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "_PATIENCE", 0.5)
    async with scene(database, phase=Phase.A1) as s:
        # The daemon's own sweeps come first; whoever waits longer than they take has the lock.
        async with task_turn(s.database, COUNT_SWEEP, patience=20):
            async with asyncio.timeout(20):
                with pytest.raises(OperatorError, match="the lock is held by") as caught:
                    await s.tenant.operations.run_count_sweep()
        assert "stopped" in caught.value.next_step


async def test_of_two_daemons_that_change_the_phase_one_does(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        other = (await s.daemon()).tenant
        epoch = s.tenant.phase.current().epoch
        results = await asyncio.gather(
            *(
                each.operations.change_phase(Phase.A2, actor=f"{n}", reason="test", expected_epoch=epoch)
                for n, each in enumerate((s.tenant, other, s.tenant, other))
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(result, dict) for result in results) == 1
        assert await s.count("cutover.phase_event WHERE to_phase = 'A2'") == 1
        assert await s.count("cutover.task_run WHERE kind = 'phase' AND state = 'finished'") == 2
        assert (await other.record.audit(None))["ok"]
