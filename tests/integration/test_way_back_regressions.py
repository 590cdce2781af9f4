"""The way back while others go on writing: nothing that was acknowledged is lost, and who is in the way is named."""

import asyncio
from typing import Any

import asyncpg

from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, STRANGER

PATIENT: dict[str, Any] = {"delivery_deadline": 3.0, "plugin_timeout": 3.0}


async def waits(s: Scene) -> None:
    """Until a replay waits for a lock."""

    async def seen() -> bool:
        return bool(
            await s.database.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%replay%'"
            )
        )

    await until(seen, "the replay to wait", timeout=20, every=0.01)


async def test_what_is_deleted_or_becomes_a_native_while_the_journal_goes_ahead_stays_so(database: str) -> None:
    async with scene(database, phase=Phase.A3, proxied=False, **PATIENT) as s:
        edited, deleted, native = [await s.create(CHILD, each) for each in ("edited", "deleted", "native")]
        await s.quiet()
        await s.edit(CHILD, edited.id, "edited again")
        await s.quiet()
        state = await s.tenant.phase.reload()
        for _ in range(5):  # the machine may be too busy for the replay's patience
            other = await asyncpg.connect(database)
            try:
                transaction = other.transaction()
                await transaction.start()
                # The replay has read its words by the time it wants this one.
                await other.execute(
                    "SELECT FROM cutover.journal WHERE memory_id = $1 AND state = 'applied'"
                    " ORDER BY seq LIMIT 1 FOR UPDATE",
                    edited.id,
                )
                ahead = asyncio.create_task(s.tenant._way_back.prepare(state))
                await waits(s)
                await s.delete(CHILD, deleted.id)
                await s.commit(f"workspace:{CHILD}", "a summary", Kind.SUMMARY, id=native.id)
                await transaction.rollback()
                notes = await ahead
            finally:
                await other.close()
            if notes:
                break
        assert notes, "it went ahead"
        assert await s.count(f"cutover.tombstone WHERE memory_id = '{deleted.id}'") == 1
        assert await s.count(f"cutover.native WHERE memory_id = '{native.id}'") == 1
        await s.quiet()
        assert await s.differences() == []


async def test_a_workspace_that_is_purged_during_the_step_takes_its_memories_along(database: str) -> None:
    async with scene(database, phase=Phase.A3, proxied=False, **PATIENT) as s:
        made, kept = await s.create(STRANGER, "made in A3"), await s.create(CHILD, "kept")
        await s.quiet()
        purge = await asyncpg.connect(database)
        try:
            transaction = purge.transaction()
            await transaction.start()
            await purge.execute("DELETE FROM workspaces WHERE id = $1", STRANGER)
            back = asyncio.create_task(s.step(Phase.A2))
            await waits(s)
            await transaction.commit()
            assert (await back)["to"] == "A2"
        finally:
            await purge.close()
        await s.quiet()
        assert await s.legacy(made.id) is None
        assert await s.plugin(made.id) is None
        assert await s.legacy(kept.id) is not None
        assert await s.differences() == []
