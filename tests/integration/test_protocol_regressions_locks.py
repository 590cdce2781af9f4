"""What a stranger has locked holds up what it must, and nothing else."""

import asyncio

import pytest

from cutover.domain.errors import CutoverError
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import Receipt
from cutover.embedded.fault_proxy import on
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT, SIBLING, STRANGER

COMMITS = on("POST", r"/memories$")


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1])
async def test_a_locked_workspace_does_not_hold_up_creates_of_others(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, delivery_deadline=2.0) as s, foreign_transaction(database) as stranger:
        await stranger.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", CHILD)
        # The first waits alone; those behind it share batches with creates of others.
        stuck = [asyncio.create_task(attempt(s))]
        await until_waiting(s.database, "create_memories")
        stuck += [asyncio.create_task(attempt(s)) for _ in range(3)]
        others = [s.create(w, "not locked") for w in (ROOT, SIBLING, STRANGER, ROOT)]
        made = await asyncio.wait_for(asyncio.gather(*others), 6)
        assert stranger.is_in_transaction()
        verdicts = await asyncio.wait_for(asyncio.gather(*stuck), 6)
        assert all(isinstance(verdict, CutoverError) for verdict in verdicts)
        await stranger.execute("ROLLBACK")
        after = await attempt(s)
        assert isinstance(after, Receipt)
        rows = await s.database.fetch("SELECT id FROM agent_memories")
        assert {row["id"] for row in rows} == {*(m.id for m in made), after.id}  # a no is a no
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.differences() == []


async def attempt(s: Scene) -> Receipt | CutoverError:
    """A create of the locked workspace, and what its caller hears."""
    try:
        return await s.create(CHILD, "locked", Scope.TEAM)
    except CutoverError as error:
        return error


async def test_a_foreign_transaction_that_stays_open_does_not_stop_all_settling(database: str) -> None:
    async with scene(database, phase=Phase.A1, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        assert s.proxy is not None
        locked = await s.create(CHILD, "before")
        await s.quiet()
        held = s.proxy.hold(COMMITS)
        edit = s.daemons[-1].start(s.edit(CHILD, locked.id, "ours"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        async with foreign_transaction(database) as stranger:
            # Its trigger has the mark of the memory whose delivery is under way.
            await stranger.execute("UPDATE agent_memories SET content = 'theirs' WHERE id = $1", locked.id)
            await held.release()
            await edit
            others = [(await s.create(CHILD, f"{number}")).id for number in range(5)]

            async def settled() -> bool:
                return not set(others) & set(await s.marks())

            await until(settled, "the other memories to be settled", timeout=6)
            assert await s.mark(locked.id) is not None
            await stranger.execute("COMMIT")
        await s.quiet()
        assert await s.content(locked.id) == "theirs"
        assert await s.differences() == []


async def test_marks_that_a_stranger_holds_do_not_stop_the_reconciler(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        rows = [(await s.create(CHILD, f"{number}")).id for number in range(40)]
        await s.quiet()
        async with foreign_transaction(database) as stranger:
            await s.proxy.refuse()
            await s.database.execute("UPDATE agent_memories SET content = content || ' again'")
            await stranger.execute("UPDATE agent_memories SET updated_at = now() WHERE id = any($1)", rows[:30])
            await s.proxy.accept()

            async def delivered() -> bool:
                return set(await s.marks()) == set(rows[:30])

            await until(delivered, "what is not locked to be delivered", timeout=8)
            await stranger.execute("ROLLBACK")
        await s.quiet()
        assert await s.differences() == []
