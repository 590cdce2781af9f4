"""What a review of the backfill found, one test each."""

import asyncio
import contextlib
from dataclasses import replace
from uuid import UUID

import pytest

from cutover.domain.backfill import BackfillRequest, Via
from cutover.domain.errors import OperatorError
from cutover.embedded.processes import until
from cutover.engine.tenant import Tenant
from tests.integration.protocol_scene import refused, scene
from tests.integration.read_scene import CHILD
from tests.integration.test_backfill_by_sql import LIMITS, exact, in_a2, key, reaches, rows, start

SLOWLY = replace(LIMITS, rate=100.0)
PATIENCE = 60.0
LOCK = """
select pg_terminate_backend(pid) from pg_locks
where locktype = 'advisory' and objsubid = 1 and (classid::bigint << 32) | objid::bigint = 7304916220481577220
  and database = (select oid from pg_database where datname = current_database())
"""


async def test_rows_that_come_meanwhile_do_not_use_up_what_a_limited_run_must_reach(database: str) -> None:
    old = [(key(number + 1000), CHILD, f"row {number}", "LOCAL") for number in range(20)]
    async with scene(database, rows=old, backfill=LIMITS) as s:
        await in_a2(s)
        await s.backfill(via=Via.DATABASE, limit=1)
        for number in range(1, 31):
            await s.insert(CHILD, f"new {number}", id=UUID(int=(1000 << 96) + number))
        await s.quiet()
        told = [await s.backfill(via=Via.DATABASE, limit=10) for _ in range(4)]
        assert [each["scanned"] for each in told] == [11, 21, 31, 41]
        assert not await s.tenant._backfill.complete()
        await s.backfill(via=Via.DATABASE, limit=10)
        assert await s.tenant._backfill.complete()
        await exact(s)


async def test_a_limit_of_exactly_all_rows_is_the_whole_backfill(database: str) -> None:
    async with scene(database, rows=rows(20), backfill=LIMITS) as s:
        await in_a2(s)
        for via in (Via.DATABASE, Via.CONTRACT):
            await s.database.execute("DELETE FROM cutover.backfill_cursor")
            await s.backfill(via=via, limit=20)
            assert await s.tenant._backfill.complete(), via


async def test_a_run_survives_the_end_of_its_lock(database: str) -> None:
    async with scene(database, rows=rows(200), backfill=SLOWLY) as s:
        await in_a2(s)
        await start(s, via=Via.DATABASE)
        await reaches(s, lambda told: told["scanned"] > 20, PATIENCE)
        assert await s.database.fetchval(LOCK)
        told = await reaches(s, lambda told: told["state"] not in ("running", "paused"), PATIENCE)
        assert (told["state"], told["scanned"], told["why"]) == ("finished", 200, "")
        await exact(s)


async def test_a_start_during_boot_is_answered_and_ends_nothing(database: str) -> None:
    async with scene(database, rows=rows(200), backfill=SLOWLY) as s:
        await in_a2(s)
        await start(s, via=Via.DATABASE)
        await reaches(s, lambda told: told["scanned"] > 20, PATIENCE)
        await s.daemons[-1].abandon()
        for turns in (0, 3, 9):
            async with contextlib.AsyncExitStack() as stack:
                booting = await Tenant.open(s.options, lambda event: None, stack)
                await booting.phase.reload()
                task = asyncio.create_task(booting._backfill.run())
                for _ in range(turns):
                    await asyncio.sleep(0)
                asked = booting.operations.start_backfill(apply=True, actor="ada", via=Via.DATABASE)
                assert "under way" in str(await refused(asked, OperatorError))
                assert not task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert await s.count("cutover.task_run WHERE kind = 'backfill'") == 1


async def test_a_run_that_was_aborted_is_not_taken_up(database: str) -> None:
    async with scene(database, rows=rows(300), backfill=SLOWLY) as s:
        await in_a2(s)
        await start(s, via=Via.DATABASE)
        told = await reaches(s, lambda told: told["scanned"] > 20, PATIENCE)
        run = s.tenant._backfill._run
        assert run is not None
        await run.record("abort", "ada")  # the first thing an abort writes; killed before the run has looked
        await s.daemons[-1].abandon()
        await s.daemon()

        async def closed() -> bool:
            return bool(await s.count("cutover.task_run WHERE kind = 'backfill' AND state = 'interrupted'"))

        await until(closed, "the run to be closed", timeout=PATIENCE)
        assert (await s.tenant.operations.backfill_status())["state"] == "idle"
        why = await s.database.fetchval("SELECT outcome ->> 'why' FROM cutover.task_run WHERE kind = 'backfill'")
        assert why == "aborted by ada"
        assert (await s.backfill(via=Via.DATABASE, rate=0.0))["scanned"] == 300 >= told["scanned"]


async def test_a_large_chunk_is_cut_by_its_bytes(database: str) -> None:
    large = [(key(number), CHILD, f"{number} " + "word " * 60_000, "LOCAL") for number in range(1, 11)]
    async with scene(database, rows=large, backfill=LIMITS) as s:
        await in_a2(s)
        store = s.tenant._backfill._store
        epoch = s.tenant.phase.current().epoch
        await store.open(epoch, "tenant", None)
        chunks = [await store.copy_chunk(epoch, "tenant", None, 200, timeout=PATIENCE) for _ in range(4)]
        assert [(chunk.scanned, chunk.done) for chunk in chunks] == [(3, False), (3, False), (3, False), (1, True)]
        await exact(s)


async def test_a_row_larger_than_a_chunk_is_a_chunk(database: str) -> None:
    large = [(key(number), CHILD, f"{number} " + "word " * 400_000, "LOCAL") for number in range(1, 4)]
    async with scene(database, rows=large, backfill=LIMITS) as s:
        await in_a2(s)
        store = s.tenant._backfill._store
        epoch = s.tenant.phase.current().epoch
        await store.open(epoch, "tenant", None)
        chunks = [await store.copy_chunk(epoch, "tenant", None, 200, timeout=PATIENCE) for _ in range(3)]
        assert [(chunk.scanned, chunk.done) for chunk in chunks] == [(1, False), (1, False), (1, True)]


async def test_white_space_is_counted_as_it_is_placed(database: str) -> None:
    async with scene(database, backfill=LIMITS) as s:
        for content in ("\u00a0", "\u3000", "\x1c", "\u0085", "\u2003", "", " \t\n", "\u200b"):
            await s.insert(CHILD, content)
        await in_a2(s)
        planned = await s.tenant._backfill.plan(BackfillRequest())
        await s.backfill(via=Via.DATABASE)
        held = await s.count("cutover.quarantine WHERE reason = 'empty_content'")
        assert planned.empty_content == held == 7


async def test_a_run_whose_daemon_died_is_taken_up_by_one_that_was_there_before(database: str) -> None:
    async with scene(database, rows=rows(300), backfill=SLOWLY) as s:
        first, second = s.daemons[0], await s.daemon()
        await in_a2(s)
        await first.tenant.phase.reload()
        await first.tenant.operations.start_backfill(apply=True, actor="ada", via=Via.DATABASE)

        async def elsewhere() -> bool:
            told = await second.tenant.operations.backfill_status()
            return bool(told["state"] == "elsewhere")

        await until(elsewhere, "the second daemon to know of the run", timeout=PATIENCE)
        error = await refused(second.tenant.operations.pause_backfill(paused=True, actor="bob"), OperatorError)
        assert "another daemon" in str(error)
        await first.abandon()
        told = await reaches(s, lambda told: told["state"] == "finished", PATIENCE)
        assert (told["scanned"], told["requested_by"]) == (300, "ada")
        await exact(s)


AWAY = """
create function public.away() returns trigger language plpgsql as $$ begin
    raise exception 'shutting down' using errcode = '57P03';
end $$;
create trigger away before insert or update on cutover.%s for each row execute function public.away();
"""


@pytest.mark.parametrize("via", [Via.DATABASE, Via.CONTRACT])
@pytest.mark.parametrize("table", ["backfill_cursor", "task_checkpoint"])
async def test_a_database_that_fails_for_a_moment_holds_the_run_back(database: str, via: Via, table: str) -> None:
    async with scene(database, rows=rows(120), backfill=SLOWLY) as s:
        await in_a2(s)
        await start(s, via=via)
        await reaches(s, lambda told: told["scanned"] > 20, PATIENCE)
        await s.database.execute(AWAY % table)
        await reaches(s, lambda told: told["throttled"] == "database", PATIENCE)
        await s.database.execute("DROP FUNCTION public.away CASCADE")
        told = await reaches(s, lambda told: told["state"] not in ("running", "paused"), PATIENCE)
        assert (told["state"], told["scanned"]) == ("finished", 120), told["why"]
        await exact(s)
