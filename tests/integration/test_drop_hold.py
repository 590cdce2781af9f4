"""The hold before the drop against what goes wrong meanwhile: clocks that jump, long readers, a new table."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from cutover.domain.errors import OperatorError
from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD

HELD = replace(DEFAULTS, drop_hold=3600.0)
NOT_HELD = replace(DEFAULTS, drop_hold=0.0)


@contextlib.asynccontextmanager
async def held(url: str, *, over: bool = False) -> AsyncIterator[tuple[Scene, str]]:
    """In A4, without an archive: so the daemon never drops the table by itself."""
    rows = [(uuid4(), CHILD, "a", "LOCAL")]
    async with scene(url, phase=Phase.A3, rows=rows, thresholds=NOT_HELD if over else HELD) as s:
        await s.step(Phase.A4)
        yield s, await s.database.fetchval("SELECT relation FROM cutover.drop_state")


async def test_a_clock_that_jumps_a_day_ahead_does_not_end_the_hold(database: str) -> None:
    async with held(database) as (s, _):
        await until(lambda: _looked(s), "a look", timeout=20, every=0.05)
        # Seen from a day later, everything was a day ago.
        async with s.database.transaction() as connection:
            await connection.execute("ALTER TABLE cutover.drop_event DISABLE TRIGGER USER")
            await connection.execute(
                "UPDATE cutover.drop_event SET at = at - interval '1 day', hold_until = hold_until - interval '1 day'"
            )
            await connection.execute("ALTER TABLE cutover.drop_event ENABLE TRIGGER USER")
            await connection.execute("UPDATE cutover.drop_hold SET looked_at = looked_at - interval '1 day'")
        before = await s.database.fetchval("SELECT held FROM cutover.drop_hold")
        await until(lambda: _looked(s, before), "the next look", timeout=20, every=0.05)
        left = await s.database.fetchval("SELECT remaining FROM cutover.drop_state")
        assert 3600 - 60 - 60 < left <= 3600 - before
        assert not await s.database.fetchval("SELECT cutover.drop_legacy('test')")


async def _looked(s: Scene, beyond: float = 0.0) -> bool:
    return bool(await s.database.fetchval("SELECT held > $1 FROM cutover.drop_hold", beyond))


@pytest.mark.parametrize("step", ["drop_legacy('test')", "take_legacy_back('test', '')"], ids=["drop", "cancel"])
async def test_a_dump_of_the_held_table_makes_nobody_wait_at_workspaces(database: str, step: str) -> None:
    async with held(database, over=True) as (_, name), contextlib.AsyncExitStack() as stack:
        reader, taker, other = [await asyncpg.connect(database) for _ in range(3)]
        for connection in (reader, taker, other):
            stack.push_async_callback(connection.close)
        dump = reader.transaction()
        await dump.start()
        await reader.fetchval(f'SELECT count(*) FROM "{name}"')
        task = asyncio.create_task(taker.fetchval(f"SELECT cutover.{step}"))

        async def waits() -> bool:
            return bool(
                await other.fetchval(
                    "SELECT exists (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted AND relation = $2::regclass)",
                    taker.get_server_pid(),
                    f'public."{name}"',
                )
            )

        await until(waits, "the lock to be waited for", timeout=20, every=0.02)
        await other.execute("SET statement_timeout = '5s'")
        assert await other.fetchval("SELECT count(*) FROM workspaces") > 0
        await dump.rollback()
        assert await task


async def test_another_agent_memories_made_during_the_hold_is_named_blocks_the_drop_and_is_not_frozen(
    database: str,
) -> None:
    async with held(database) as (s, _):
        await s.database.execute("CREATE TABLE IF NOT EXISTS agent_memories (id uuid PRIMARY KEY)")
        shown = await s.tenant.drops.show()
        assert [each["kind"] for each in shown["dependants"]] == ["another table"]
        assert "another table agent_memories" in shown["blocked"]
        with pytest.raises(OperatorError, match=r"another public\.agent_memories was made") as caught:
            await s.tenant.drops.cancel("op", "test")
        assert "rename or drop it" in caught.value.next_step
        await s.tenant.freeze.refreeze("op", "test")  # the held table, not the one that has its name
        await s.database.execute("INSERT INTO agent_memories VALUES ($1)", uuid4())
        await s.database.execute("DROP TABLE agent_memories")
        assert (await s.tenant.drops.cancel("op", "test"))["state"] == "cancelled"
        assert await s.count("agent_memories") == 1
