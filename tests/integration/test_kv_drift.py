"""The drift ledger's cause `kv` (decision 0014): K/V memories are accounted for, lost and extra ones are not."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from tests.conftest import MakeDatabase
from tests.integration.kv_scene import backfill_kv, drop, kv_id, kv_scene, put
from tests.integration.protocol_scene import Scene
from tests.integration.read_scene import CHILD, ROOT
from tests.integration.test_drift import causes

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")


@pytest.fixture(params=[False, True], ids=["one database", "two databases"])
async def urls(make_database: MakeDatabase, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The tenant's database, and where the plugin has one of its own."""
    url = await make_database()
    return url, {"plugin_at": await make_database(legacy=False)} if request.param else {}


async def lose(s: Scene, *ids: UUID) -> None:
    await s.plugin_database.execute("DELETE FROM memory_plugin.memory_records WHERE id = ANY ($1::uuid[])", list(ids))


async def plant(s: Scene) -> None:
    """A memory that looks like a K/V row's, and is nobody's."""
    await s.plugin_database.execute(
        "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source, propagation)"
        " SELECT $1, namespace, content, kind, source, propagation FROM memory_plugin.memory_records"
        " WHERE propagation #> '{cutover,kv}' IS NOT NULL LIMIT 1",
        uuid4(),
    )


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_delivered_rows_are_kv_and_lost_or_extra_ones_unexplained(
    urls: tuple[str, dict[str, Any]], phase: Phase
) -> None:
    async with kv_scene(urls[0], phase=phase, **urls[1]) as s:
        await s.create(CHILD, "memory")
        await s.commit("custom:x", "native", Kind.SUMMARY)
        made = [await put(s.database, CHILD, f"{n}", n) for n in range(4)]
        await put(s.database, ROOT, "expired", 1, datetime.now(UTC) - timedelta(hours=1))
        await s.quiet()
        causes(await s.sweep(), native=1, kv=4)
        await lose(s, *made[:2])
        causes(await s.sweep(), native=1, kv=4, unexplained=2)
        for _ in range(3):
            await plant(s)
        causes(await s.sweep(), native=1, kv=4, unexplained=-1)


async def test_under_way_in_both_directions(urls: tuple[str, dict[str, Any]]) -> None:
    async with kv_scene(urls[0], phase=Phase.A2, **urls[1]) as s:
        assert s.proxy is not None
        await put(s.database, CHILD, "old", 1)
        await put(s.database, CHILD, "gone", 1)
        await s.quiet()
        faults = [s.proxy.rule(COMMITS, answer(500)), s.proxy.rule(FORGETS, answer(500))]
        await put(s.database, CHILD, "old", 2)
        await put(s.database, CHILD, "new", 1)
        causes(await s.sweep(), kv=2)
        await drop(s.database, CHILD, "gone")
        causes(await s.sweep(), kv=1, in_flight=-1)
        await lose(s, kv_id(CHILD, "old"))  # nobody can tell yet: it is on its way
        causes(await s.sweep(), in_flight=-1)
        for fault in faults:
            fault.off()
        await s.quiet()
        causes(await s.sweep(), kv=2)


async def test_rows_from_before_are_not_expected_until_they_are_reached(urls: tuple[str, dict[str, Any]]) -> None:
    rows = [(uuid4(), CHILD, f"{n}", "LOCAL") for n in range(6)]
    async with kv_scene(urls[0], rows=rows, **urls[1]) as s:
        for number in range(10):
            await put(s.database, CHILD, f"{number}", number)
        causes(await s.sweep(), not_backfilled=6)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        made = await put(s.database, CHILD, "live", 1)
        await s.quiet()
        causes(await s.sweep(), not_backfilled=6, kv=1)
        await lose(s, made)  # neither backfill has begun: a lost K/V memory is not taken for a row not yet copied
        causes(await s.sweep(), not_backfilled=6, kv=1, unexplained=1)
        await put(s.database, CHILD, "live", 2)
        store, epoch = s.tenant._kv._store, (await s.tenant.phase.reload()).epoch
        await store.open_backfill(epoch)
        await store.mark_chunk(epoch, 4)
        await s.quiet()
        causes(await s.sweep(), not_backfilled=6, kv=5)
        await backfill_kv(s)
        causes(await s.sweep(), not_backfilled=6, kv=11)
        await s.backfill()
        causes(await s.sweep(), kv=11)
        async with s.database.transaction() as connection:  # and what gets past the capture is seen
            await connection.execute("ALTER TABLE workspace_memory DISABLE TRIGGER ALL")
            await connection.execute(
                "INSERT INTO workspace_memory (workspace_id, key, value) VALUES ($1, 'unseen', '1')", CHILD
            )
            await connection.execute("ALTER TABLE workspace_memory ENABLE ALWAYS TRIGGER cutover_capture_kv")
        causes(await s.sweep(), kv=12, unexplained=1)


async def test_quarantined_and_expiring_rows(urls: tuple[str, dict[str, Any]]) -> None:
    async with kv_scene(urls[0], phase=Phase.A2, **urls[1]) as s:
        assert s.proxy is not None
        memory = await s.insert(CHILD, "memory", id=kv_id(CHILD, "taken"))
        await put(s.database, CHILD, "taken", 1)
        await s.quiet()
        assert await s.content(memory) == "memory"
        causes(await s.sweep())
        fault = s.proxy.rule(COMMITS, answer(400))
        await put(s.database, CHILD, "refused", 1)
        await s.quiet()
        fault.off()
        assert await s.count("cutover.quarantine") == 2
        causes(await s.sweep())
        await put(s.database, CHILD, "short", 1, datetime.now(UTC) + timedelta(hours=1))
        await s.quiet()
        causes(await s.sweep(), kv=1)
        # Time goes by on both sides at once.
        over = "SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL"
        await s.database.execute("ALTER TABLE workspace_memory DISABLE TRIGGER cutover_capture_kv")
        await s.database.execute(f"UPDATE workspace_memory {over}")
        await s.database.execute("ALTER TABLE workspace_memory ENABLE ALWAYS TRIGGER cutover_capture_kv")
        await s.plugin_database.execute(f"UPDATE memory_plugin.memory_records {over}")
        causes(await s.sweep())


async def test_switched_off_it_all_goes_and_is_accounted_for_on_the_way(urls: tuple[str, dict[str, Any]]) -> None:
    async with kv_scene(urls[0], phase=Phase.A2, **urls[1]) as s:
        for number in range(5):
            await put(s.database, CHILD, f"{number}", number)
        await s.quiet()
        await s.step(Phase.A1)
        await s.step(Phase.A0)
        causes(await s.sweep(), kv=5)
        await s.step(Phase.A1)
        await s.quiet()
        causes(await s.sweep(), kv=5)
        await s.daemons[-1].stop()
        await s.daemon(kv=False)
        await s.tenant._kv.tidy()
        await s.quiet()
        causes(await s.sweep())
        assert await s.count("cutover.kv") == 0


async def test_live_writers_are_never_unexplained(urls: tuple[str, dict[str, Any]]) -> None:
    async with kv_scene(urls[0], phase=Phase.A2, **urls[1]) as s:
        stop = asyncio.Event()

        async def write(number: int) -> None:
            while not stop.is_set():
                await put(s.database, CHILD, f"{number}", number)
                await put(s.database, CHILD, f"{number}", "again")
                await drop(s.database, CHILD, f"{number}")

        writers = [asyncio.create_task(write(number)) for number in range(3)]
        sweeps = [await s.sweep() for _ in range(8)]
        stop.set()
        await asyncio.gather(*writers)
        assert [sweep["unexplained"] for sweep in sweeps] == [0] * 8
        await s.quiet()
        causes(await s.sweep())
