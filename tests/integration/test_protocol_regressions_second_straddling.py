"""Transactions of strangers that straddle what we do: a phase change in the middle, a purge before its COMMIT."""

import asyncio
from uuid import UUID

from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from tests.integration.lock_scene import Connection, foreign_transaction, until_waiting
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, GRANDCHILD

FORGETS = on("DELETE", r"/v1/memories/")


async def insert(stranger: Connection, content: str) -> UUID:
    """A row of a workspace, written by somebody else."""
    memory_id: UUID = await stranger.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, 'LOCAL') RETURNING id",
        CHILD,
        content,
    )
    return memory_id


async def row_across_the_way_back(s: Scene, database: str) -> UUID:
    """A row that is written in A3, past a freeze that somebody switched off, and committed in A2."""
    await s.tamper()
    async with foreign_transaction(database) as stranger:
        memory_id = await insert(stranger, "foreign")
        await s.step(Phase.A2)
        await stranger.execute("COMMIT")
    await s.quiet()
    assert await s.content(memory_id) == "foreign"
    return memory_id


async def test_an_edit_after_it_is_not_lost_in_a3(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        memory_id = await row_across_the_way_back(s, database)
        await s.edit(CHILD, memory_id, "edited")
        await s.quiet()
        assert await s.content(memory_id) == "edited"
        await s.enter(Phase.A3)
        await s.quiet()
        assert await s.content(memory_id) == "edited"
        await s.edit(CHILD, memory_id, None, "relabelled")  # sends the whole state as A3 knows it
        await s.quiet()
        assert await s.content(memory_id) == "edited"
        assert await s.differences() == []


async def test_a_delete_after_it_is_not_undone_in_a3(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        memory_id = await row_across_the_way_back(s, database)
        rule = s.proxy.rule(FORGETS, answer(500))  # so that the reconciler has to read what there is to send
        await s.delete(CHILD, memory_id)
        rule.off()
        assert rule.hits
        await s.quiet()
        assert await s.plugin(memory_id) is None
        await s.enter(Phase.A3)
        await s.quiet()
        assert await s.plugin(memory_id) is None
        assert await s.legacy(memory_id) is None
        assert await s.differences() == []


async def test_a_create_of_a3_for_a_workspace_that_is_being_purged_leaves_nothing(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        async with foreign_transaction(database) as stranger:
            assert await stranger.execute("DELETE FROM workspaces WHERE id = $1", GRANDCHILD) == "DELETE 1"
            creating = asyncio.create_task(s.create(GRANDCHILD, "secret"))
            await until_waiting(s.database, "cutover.")
            await stranger.execute("COMMIT")
        (told,) = await asyncio.gather(creating, return_exceptions=True)
        await s.quiet()
        held = "SELECT count(*) FROM memory_plugin.memory_records WHERE content = 'secret'"
        assert await s.database.fetchval(held) == 0, told
