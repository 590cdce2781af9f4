"""Others delete past the daemon while the plugin is the authority: whoever deletes has the last word (issue 4 §3)."""

import asyncio
import uuid

import pytest

from cutover.domain.errors import NotFound
from cutover.domain.phase import Phase
from cutover.domain.requests import Receipt
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, STRANGER

DELETES = {
    "row": "DELETE FROM agent_memories WHERE id = '{memory}'",
    "purge": (
        "DELETE FROM agent_memories WHERE workspace_id = '{workspace}'; DELETE FROM workspaces WHERE id = '{workspace}'"
    ),
}


async def gone(s: Scene, memory_id: uuid.UUID) -> None:
    """Neither side holds it, and nothing is left that would bring it back."""
    await s.quiet()
    assert await s.legacy(memory_id) is None
    assert await s.plugin(memory_id) is None
    newest = "SELECT op FROM cutover.journal WHERE memory_id = $1 AND state <> 'withdrawn' ORDER BY seq DESC LIMIT 1"
    assert await s.database.fetchval(newest, memory_id) == "forget"
    assert await s.differences() == []


@pytest.mark.parametrize("how", DELETES)
async def test_an_edit_that_waits_for_an_open_foreign_delete_does_not_bring_the_memory_back(
    database: str, how: str
) -> None:
    old, edited = uuid.uuid4(), uuid.uuid4()
    rows = [(old, STRANGER, "before", "LOCAL"), (edited, STRANGER, "before", "LOCAL")]
    async with scene(database, phase=Phase.A3, rows=rows, proxied=False) as s:
        await s.edit(STRANGER, edited, "known to the journal")
        await s.quiet()
        for memory_id in (old, edited):
            async with foreign_transaction(database) as stranger:
                await stranger.execute(DELETES[how].format(memory=memory_id, workspace=STRANGER))
                edit = asyncio.create_task(s.edit(STRANGER, memory_id, "edited meanwhile"))
                await until_waiting(s.database, "begin_edit")
                await stranger.execute("COMMIT")
                with pytest.raises(NotFound):
                    await edit
            await gone(s, memory_id)
            if how == "purge":  # both went with their workspace
                await gone(s, edited)
                break


async def test_a_foreign_delete_that_waits_for_an_edit_has_the_last_word(database: str) -> None:
    memory_id = uuid.uuid4()
    async with scene(database, phase=Phase.A3, rows=[(memory_id, CHILD, "before", "LOCAL")], proxied=False) as s:
        epoch = await s.database.fetchval("SELECT epoch FROM cutover.phase_state")
        async with foreign_transaction(database) as edit, foreign_transaction(database) as stranger:
            await edit.execute("SELECT set_config('lock_timeout', '0', true)")
            # The edit in the middle: it has the mark, its word is not there yet.
            await edit.execute("SELECT cutover.touch_mark($1, '{}', 'journal', 'cutover')", memory_id)
            delete = asyncio.create_task(stranger.execute("DELETE FROM agent_memories WHERE id = $1", memory_id))
            await until_waiting(s.database, "DELETE FROM agent_memories")
            status = await edit.fetchval(
                "SELECT status FROM cutover.begin_edit($1, $2, 5, null, $3, $4, 'edited', null)",
                epoch, uuid.uuid4(), memory_id, CHILD,
            )  # fmt: skip
            assert status == "ok"
            await edit.execute("COMMIT")
            await delete
            await stranger.execute("COMMIT")
        words = await s.database.fetch("SELECT op FROM cutover.journal WHERE memory_id = $1 ORDER BY seq", memory_id)
        assert [word["op"] for word in words] == ["upsert", "forget"]
        await gone(s, memory_id)


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A3])
async def test_a_commit_that_waits_for_an_open_foreign_delete_makes_the_memory_anew(
    database: str, phase: Phase
) -> None:
    memory_id = uuid.uuid4()
    async with scene(database, phase=phase, rows=[(memory_id, CHILD, "before", "LOCAL")], proxied=False) as s:
        async with foreign_transaction(database) as stranger:
            await stranger.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
            commit = asyncio.create_task(s.commit(f"workspace:{CHILD}", "anew", id=memory_id))
            await until_waiting(s.database, "cutover.")
            await stranger.execute("COMMIT")
            made = await commit
        assert isinstance(made, Receipt)
        await s.quiet()
        assert await s.content(memory_id) == "anew"
        assert await s.differences() == []


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_foreign_delete_whose_snapshot_is_older_than_the_flip_is_not_lost(
    database: str, isolation: str
) -> None:
    row, purged = uuid.uuid4(), uuid.uuid4()
    rows = [(row, CHILD, "before", "LOCAL"), (purged, STRANGER, "before", "LOCAL")]
    async with scene(database, phase=Phase.A2, rows=rows, proxied=False) as s:
        await s.quiet()
        async with foreign_transaction(database) as stranger:
            await stranger.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            await stranger.execute("SELECT count(*) FROM workspaces")
            await s.enter(Phase.A3)
            await s.edit(CHILD, row, "edited in A3")
            made = await s.create(STRANGER, "made in A3")
            await s.quiet()
            await stranger.execute(DELETES["row"].format(memory=row))
            await stranger.execute(DELETES["purge"].format(workspace=STRANGER))
            await stranger.execute("COMMIT")

        async def looked_again() -> bool:
            return not await s.count("cutover.purge_again")

        await until(looked_again, "another look at the workspace", timeout=20)
        for memory_id in (row, purged, made.id):
            await gone(s, memory_id)
