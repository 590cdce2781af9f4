"""K/V: what reviews found (decision 0014)."""

from typing import Any

import pytest

from cutover.domain.backfill import RowSource
from cutover.domain.errors import OperatorError
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from cutover.engine.backfill_delivery import KvDelivery
from cutover.engine.backfill_progress import BackfillLimits
from cutover.stores.quarantine import QuarantineStore
from tests.integration.kv_scene import drop, kv_differences, kv_id, kv_scene, put, quiet
from tests.integration.protocol_scene import Scene
from tests.integration.read_scene import CHILD
from tests.integration.test_backfill_by_sql import reaches, start

COMMITS = on("POST", r"/memories$")
JOB = kv_id(CHILD, "job")
SLOW = BackfillLimits(chunk=5, rate=40.0, queue=1000, pause_file=None)


async def taken(s: Scene) -> None:
    """A memory has the id of the K/V row `job`, which is quarantined for it."""
    assert (await s.create(CHILD, "a memory", key="job")).id == JOB
    await put(s.database, CHILD, "job", {"x": 1})
    await s.quiet()
    assert await reasons(s) == ["id_taken"]


async def reasons(s: Scene) -> list[str]:
    return [row["reason"] for row in await s.database.fetch("SELECT reason FROM cutover.quarantine")]


async def becomes(s: Scene, wanted: list[str]) -> None:
    """Every mark is gone and the quarantine has these reasons."""

    async def condition() -> bool:
        return not await s.count("cutover.mark") and await reasons(s) == wanted

    await until(condition, f"the quarantine to hold {wanted}", timeout=30, every=0.02)


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_a_row_waits_for_its_id_though_the_memory_is_quarantined_itself(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        assert s.proxy is not None
        await taken(s)
        fault = s.proxy.rule(COMMITS, answer(400))
        await remarked(s)
        await becomes(s, ["refused_by_plugin"])
        fault.off()
        await s.delete(CHILD, JOB)
        await becomes(s, [])
        await quiet(s)
        assert await kv_differences(s) == []


async def test_a_row_without_its_id_is_quarantined_again_once_the_memory_is_not(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        await taken(s)
        fault = s.proxy.rule(COMMITS, answer(400))
        await remarked(s)
        await becomes(s, ["refused_by_plugin"])
        fault.off()
        await s.edit(CHILD, JOB, "taken by the plugin")
        await becomes(s, ["id_taken"])
        assert await s.content(JOB) == "taken by the plugin"


async def remarked(s: Scene) -> None:
    """The memory is to be delivered once more."""
    await s.database.execute("SELECT cutover.touch_mark($1, '{}', 'repair', 'somebody')", JOB)


async def test_an_acknowledged_row_stays_so_when_the_memory_changes(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        await taken(s)
        await QuarantineStore(s.database).acknowledge(JOB, who="ada", why="the key is a test's")
        await s.database.execute("UPDATE agent_memories SET content = 'changed' WHERE id = $1", JOB)
        await s.quiet()
        assert await s.content(JOB) == "changed"
        row = await s.database.fetchrow("SELECT reason, acknowledged_by, why FROM cutover.quarantine")
        assert row is not None
        assert tuple(row) == ("id_taken", "ada", "the key is a test's")


async def fill(s: Scene, rows: int) -> None:
    await s.database.execute(
        "INSERT INTO workspace_memory (workspace_id, key, value) SELECT $1, 'key ' || n, to_jsonb(n)"
        " FROM generate_series(1, $2) n",
        CHILD,
        rows,
    )


async def late(s: Scene, rows: int) -> None:
    """In A3, with rows from before the switch was thrown."""
    await fill(s, rows)
    await s.daemons[-1].abandon()
    await s.daemon(kv=True)


async def finishes(s: Scene) -> dict[str, Any]:
    told = await reaches(s, lambda told: told["state"] not in ("running", "paused", "none"), timeout=60)
    assert (told["state"], told["why"]) == ("finished", "")
    await quiet(s)
    assert await kv_differences(s) == []
    return told


async def test_a_copy_in_a3_is_resumed_after_a_crash(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2, backfill=SLOW) as s:
        await s.enter(Phase.A3)
        await late(s, 100)
        run = (await start(s, source=RowSource.KV))["run"]
        await reaches(s, lambda told: told["scanned"] > 10)
        await s.daemons[-1].abandon()
        await s.daemon(kv=True)
        await reaches(s, lambda told: told.get("run") == run, timeout=30)
        await finishes(s)


async def test_a_copy_in_a3_goes_on_with_another_epoch(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2, backfill=SLOW) as s:
        await s.enter(Phase.A3)
        await late(s, 100)
        await start(s, source=RowSource.KV)
        await reaches(s, lambda told: told["scanned"] > 10)
        # Another epoch of the same phase, as after a step there and back.
        await s.database.execute("UPDATE cutover.phase_state SET epoch = epoch + 1")
        await finishes(s)


async def test_a_pause_holds_the_deliveries_in_a3_too(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2, backfill=SLOW) as s:
        await s.enter(Phase.A3)
        await late(s, 100)
        await start(s, source=RowSource.KV)
        await reaches(s, lambda told: told["scanned"] > 10)
        await s.tenant.operations.pause_backfill(paused=True, actor="ada")
        await reaches(s, lambda told: told["state"] == "paused")

        async def nothing_on_its_way() -> bool:
            return not await s.database.fetchval("SELECT count(*) FROM cutover.mark WHERE lease_owner IS NOT NULL")

        await until(nothing_on_its_way, "what was claimed before", timeout=30, every=0.02)
        await s.database.execute("SELECT cutover.touch_mark($1, '{}', 'backfill', 'cutover')", kv_id(CHILD, "key 1"))
        assert await s.tenant._reconciler._claim(backfill=True) == []
        mark = await s.mark(kv_id(CHILD, "key 1"))
        assert mark is not None
        assert mark["sent_at"] is None
        await s.tenant.operations.pause_backfill(paused=False, actor="ada")
        await finishes(s)


async def test_a_value_too_large_for_a_request_is_quarantined(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        made = await put(s.database, CHILD, "k", "small")
        await quiet(s)
        await put(s.database, CHILD, "k", "ü" * 500_001)
        await becomes(s, ["refused_by_plugin"])
        assert "too large" in await s.database.fetchval("SELECT detail FROM cutover.quarantine")
        assert await s.plugin(made) is None
        await put(s.database, CHILD, "k", "small again")
        await becomes(s, [])
        assert await s.content(made) == '"small again"'
        await drop(s.database, CHILD, "k")


@pytest.mark.parametrize("back", [False, True])
async def test_a_switch_in_the_middle_of_a_copy_is_named(database: str, back: bool) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        await fill(s, 10)
        store = s.tenant._kv._store
        epoch = (await s.tenant.phase.reload()).epoch
        await store.open_backfill(epoch)
        delivery = KvDelivery(store, 5)
        request: Any = None
        assert (await delivery.chunk(epoch, request, 5)).scanned == 5
        await store.switch(False)
        if back:
            await store.switch(True)
        with pytest.raises(OperatorError, match=r"K/V was switched") as raised:
            await delivery.chunk(epoch, request, 5)
        assert "backfill" in (raised.value.next_step or "")
