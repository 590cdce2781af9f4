"""A backfill beside callers who edit and delete the very rows it copies, on a plugin that fails one call in ten, with
a pause file that comes and goes: both deliveries, judged by the history of every operation (issue 3 §4)."""

from pathlib import Path

import pytest

from cutover.embedded.fault_proxy import ProxiedRequest, answer, delay, swallow
from cutover.embedded.processes import until
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene, add_memories
from tests.acceptance.test_crashes import acknowledged, under_load

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
ROWS = 1200
SLOW = 0.4
PATIENT = {"CUTOVER_BREAKER_FAILURES": "1000", "CUTOVER_BREAKER_RATIO": "0.9"}
"""One failure in ten is what the plugin is like here: the breaker is to let callers through all the same."""


def memories(request: ProxiedRequest) -> bool:
    """Commits and forgets of memories, canaries aside."""
    body = b"cutover-canary" in request.body or "cutover-canary" in request.target
    return not body and (request.target.endswith("/memories") or "/v1/memories/" in request.target)


async def scanned(made: Scene) -> int:
    return int((await made.control.backfill()).get("scanned") or 0)


@pytest.mark.parametrize("via", ["contract", "database"])
async def test_edits_and_deletes_win_beside_a_copy_on_a_plugin_that_fails(
    make_scene: MakeScene, tmp_path: Path, via: str
) -> None:
    made = await make_scene(settings={"CUTOVER_BACKFILL_CHUNK": "25", **PATIENT})
    traffic = made.traffic(seed=31, workers=8, rate=200.0)
    seats = {seat.workspace_id: seat for seat in made.seats}
    for memory_id, content in (await add_memories(made.database_url, made.seats, ROWS)).items():
        made.history.found(memory_id, content)
    connection = await made.witness.connection()
    for row in await connection.fetch("SELECT id, workspace_id FROM agent_memories"):
        traffic.know(row["id"], seats[row["workspace_id"]], "LOCAL")
    await made.enter("A1", "A2")
    rules = [
        made.proxy.rule(memories, answer(500, {"code": "internal", "message": "no"}), share=0.04),
        made.proxy.rule(memories, swallow(), share=0.03),
        made.proxy.rule(memories, delay(SLOW), share=0.03),
    ]
    stop = tmp_path / "pause"
    async with under_load(made, traffic):
        await acknowledged(traffic, 20)
        await made.control.start_backfill(via=via, rate=150, pause_file=str(stop))
        for share in (0.2, 0.5, 0.8):

            async def reached(share: float = share) -> bool:
                return await scanned(made) >= ROWS * share

            async def paused() -> bool:
                told = await made.control.backfill()
                return (told["state"], told["throttled"]) == ("paused", "pause_file")

            await until(reached, f"{share:.0%} of the rows", timeout=90, every=0.05)
            stop.touch()
            await until(paused, "a rest", timeout=30, every=0.02)
            held = await scanned(made)
            await acknowledged(traffic, 10)
            assert await scanned(made) == held, "nothing is taken up while the file is there"
            stop.unlink()
        await made.control.backfilled(timeout=120)
        await acknowledged(traffic, 20)
    assert traffic.tally.faults == []
    assert all(rule.hits for rule in rules)
    for rule in rules:
        rule.off()
    await made.assert_converged()
    assert (await made.control.sweep())["unexplained"] == 0
    old = {operation.memory_id for operation in made.history.operations[:ROWS]}
    changed = [each for each in made.history.operations[ROWS:] if each.memory_id in old and each.acknowledged]
    assert {"edit", "delete"} <= {each.kind for each in changed}, "nobody changed what was copied"
