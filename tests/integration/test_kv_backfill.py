"""`cutover backfill --source kv` (decision 0014): the K/V rows from before, with the controls of every backfill."""

import asyncio
from typing import Any

import pytest

from cutover.domain.backfill import RowSource, Via
from cutover.domain.errors import CutoverError, IllegalStep, InvalidRequest, OperatorError
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from tests.integration.kv_scene import drop, kv_differences, kv_id, kv_scene, put, quiet
from tests.integration.protocol_scene import Scene
from tests.integration.read_scene import CHILD, ROOT


async def fill(s: Scene, rows: int) -> None:
    await s.database.execute(
        "INSERT INTO workspace_memory (workspace_id, key, value) SELECT $1, 'key ' || n, to_jsonb(n)"
        " FROM generate_series(1, $2) n",
        CHILD,
        rows,
    )


async def test_it_copies_what_was_there_and_says_so(database: str) -> None:
    async with kv_scene(database) as s:
        await fill(s, 170)
        await s.enter(Phase.A2)
        told = await s.tenant.operations.start_backfill(apply=False, source=RowSource.KV, actor="test")
        assert (told["rows"], told["workspaces"], told["placeable"]) == (170, 1, 170)
        assert not await s.tenant._backfill.complete()
        told = await s.backfill(source=RowSource.KV)
        assert (told["state"], told["scope"], told["total"], told["scanned"], told["marked"]) == (
            "finished", "kv", 170, 170, 170,
        )  # fmt: skip
        assert told["via"] == "contract"
        assert await s.tenant._backfill.complete()
        await quiet(s)
        assert await kv_differences(s) == []
        told = await s.backfill(source=RowSource.KV)  # all is reached: nothing is done twice
        assert (told["scanned"], await s.count("cutover.mark")) == (170, 0)


async def test_a_limit_an_abort_and_a_dead_daemon_are_gone_on_from(database: str) -> None:
    async with kv_scene(database) as s:
        await fill(s, 400)
        await s.enter(Phase.A2)
        told = await s.backfill(source=RowSource.KV, limit=60)
        assert (told["scanned"], await s.count("cutover.kv")) == (60, 60)
        await s.tenant.operations.start_backfill(apply=True, source=RowSource.KV, rate=100.0, actor="test")
        await s.daemons[-1].abandon()
        await s.daemon()

        async def ended() -> bool:
            progress = s.tenant._backfill.progress
            return progress is not None and progress.state == "finished"

        await until(ended, "the resumed run", timeout=30, every=0.05)
        progress = s.tenant._backfill.progress
        assert progress is not None
        assert (progress.request.source, progress.scanned) == (RowSource.KV, 400)
        await quiet(s)
        assert await kv_differences(s) == []


async def test_live_changes_win_over_the_copy(database: str) -> None:
    async with kv_scene(database) as s:
        await fill(s, 300)
        await s.enter(Phase.A2)
        copying = asyncio.create_task(s.backfill(source=RowSource.KV))
        for number in range(1, 301, 3):
            await put(s.database, CHILD, f"key {number}", "newer")
            await drop(s.database, CHILD, f"key {number + 1}")
            await put(s.database, ROOT, f"key {number}", "new")
        assert (await asyncio.wait_for(copying, 60))["state"] == "finished"
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.content(kv_id(CHILD, "key 1")) == '"newer"'


async def test_a_row_about_to_be_deleted_holds_it_up_and_is_not_mapped(database: str) -> None:
    async with kv_scene(database) as s:
        await fill(s, 3)
        await s.enter(Phase.A2)
        async with s.database.transaction() as foreign:
            await foreign.execute("DELETE FROM workspace_memory WHERE key = 'key 2'")
            copying = asyncio.create_task(s.backfill(source=RowSource.KV))

            async def held_up() -> bool:
                progress = s.tenant._backfill.progress
                return progress is not None and progress.throttled == "row_locks"

            await until(held_up, "the copy to wait", timeout=15, every=0.01)
        assert (await asyncio.wait_for(copying, 30))["state"] == "finished"
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.count("cutover.kv") == 2


async def test_a3_takes_it_too(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2) as s:
        await fill(s, 20)
        await s.enter(Phase.A3)
        await s.daemon(kv=True)
        assert (await s.backfill(source=RowSource.KV))["state"] == "finished"
        await quiet(s)
        assert await kv_differences(s) == []


@pytest.mark.parametrize(
    ("phase", "on", "arguments", "kind"),
    [
        (Phase.A1, True, {}, IllegalStep),
        (Phase.A2, False, {}, OperatorError),
        (Phase.A2, True, {"via": Via.DATABASE}, InvalidRequest),
        (Phase.A2, True, {"workspace_id": CHILD}, InvalidRequest),
    ],
)
async def test_what_cannot_be_is_refused(
    database: str, phase: Phase, on: bool, arguments: dict[str, Any], kind: type[CutoverError]
) -> None:
    async with kv_scene(database, phase=phase, kv=on) as s:
        with pytest.raises(kind):
            await s.tenant.operations.start_backfill(apply=True, source=RowSource.KV, actor="test", **arguments)
        assert s.tenant._backfill.progress is None or not s.tenant._backfill.progress.under_way


async def test_a_copy_by_sql_does_not_hide_a_row_whose_id_a_memory_has(database: str) -> None:
    memory = kv_id(CHILD, "k")
    async with kv_scene(database, rows=[(memory, CHILD, "memory", "LOCAL")]) as s:
        await put(s.database, CHILD, "k", 1)
        await s.enter(Phase.A1)
        await s.step(Phase.A2)
        async with s.database.transaction() as both:  # so that nobody delivers in between
            epoch = await both.fetchval("SELECT epoch FROM cutover.phase_state")
            await both.execute("SELECT cutover.open_kv_backfill($1)", epoch)
            await both.execute("SELECT cutover.kv_backfill_chunk($1, 10)", epoch)
            await both.execute("SELECT cutover.open_backfill($1, 'tenant', NULL)", epoch)
            await both.execute("SELECT cutover.copy_chunk($1, 'tenant', NULL, 10)", epoch)
        await s.quiet()
        assert await s.content(memory) == "memory"
        assert (
            await s.database.fetchval("SELECT reason FROM cutover.quarantine WHERE memory_id = $1", memory)
            == "id_taken"
        )
