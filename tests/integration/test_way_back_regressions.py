"""The way back while others go on writing: nothing that was acknowledged is lost, and who is in the way is named."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from cutover.domain.errors import IllegalStep
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


async def test_one_locked_row_keeps_only_its_own_chunk_and_who_holds_it_is_named(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.engine.way_back._CHUNK", 2)
    monkeypatch.setattr("cutover.engine.way_back._ROUNDS", 1)
    monkeypatch.setattr("cutover.engine.transition._ATTEMPTS", 1)
    rows = [(UUID(int=n + 1), CHILD, f"old {n}", "LOCAL") for n in range(7)]
    async with scene(database, phase=Phase.A3, rows=rows, proxied=False, **PATIENT) as s:
        for memory_id, *_ in rows:
            await s.edit(CHILD, memory_id, f"edited {memory_id.int}")
        await s.quiet()
        unheard = "cutover.journal WHERE state = 'applied' AND NOT in_legacy"
        other = await asyncpg.connect(database, server_settings={"application_name": "console"})
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("SELECT FROM agent_memories WHERE id = $1 FOR UPDATE", rows[0][0])
            with pytest.raises(IllegalStep, match=r"console/\w+ \(pid \d+") as told:
                await s.step(Phase.A2)
            assert "in the way" in told.value.message
            assert await s.count(unheard) == 2, "the others went ahead"
            # Too many that cannot go ahead are not tried while writes are held.
            monkeypatch.setattr("cutover.engine.way_back._MOST", 2)
            with pytest.raises(IllegalStep, match="more than 2 memories could not go ahead"):
                await s.step(Phase.A2)
            await transaction.rollback()
        finally:
            await other.close()
        assert (await s.step(Phase.A2))["to"] == "A2"
        assert {row["content"] for row in await s.database.fetch("SELECT content FROM agent_memories")} == {
            f"edited {n + 1}" for n in range(7)
        }
