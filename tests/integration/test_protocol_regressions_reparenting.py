"""Workspaces that get another parent while their memories are being written, or while nobody captures (A0)."""

import asyncio
import contextlib

import pytest

from cutover.domain.errors import Refused
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import Receipt
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting, waiting
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, STRANGER

MOVE = "UPDATE workspaces SET parent_id = $2 WHERE id = $1"


@pytest.mark.parametrize("scope", [Scope.TEAM, Scope.GLOBAL])
@pytest.mark.parametrize("phase", [Phase.A1, Phase.A3])
async def test_a_create_that_is_not_committed_yet_is_seen_by_a_change_of_parents(
    database: str, phase: Phase, scope: Scope
) -> None:
    writer = CHILD if scope is Scope.TEAM else ROOT
    async with scene(database, phase=phase, delivery_deadline=2.0) as s, foreign_transaction(database) as stranger:
        # A key is recorded after the namespace was resolved: there the create waits.
        await stranger.execute("LOCK TABLE cutover.idempotency IN SHARE MODE")
        create = asyncio.create_task(s.create(writer, "racing", scope, key="k"))
        await until_waiting(s.database, "begin_commits" if phase is Phase.A3 else "create_memories")
        move = asyncio.create_task(s.database.execute(MOVE, writer, STRANGER))

        async def moving() -> bool:
            return move.done() or await waiting(s.database, "UPDATE workspaces") > 0

        await until(moving, "the change of parents", timeout=5, every=0.005)
        await stranger.execute("ROLLBACK")
        made = await create
        await move
        await s.quiet()
        row = await s.plugin(made.id)
        assert row is not None
        assert row["namespace"] == ("team" if scope is Scope.TEAM else "org") + f":{STRANGER}"
        assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_creates_and_changes_of_parents_at_once(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        stop = asyncio.Event()
        made: list[Receipt] = []

        async def write() -> None:
            while not stop.is_set():
                with contextlib.suppress(Refused):  # a change of parents may take longer than a caller waits
                    made.append(await s.create(CHILD, "ours", Scope.TEAM))

        writers = [asyncio.create_task(write()) for _ in range(16)]
        for number in range(80):
            await s.database.execute(MOVE, CHILD, ROOT if number % 2 else STRANGER)
            seen = len(made)

            async def more(seen: int = seen) -> bool:
                return len(made) > seen

            await until(more, "creates under the new parent", timeout=5, every=0.001)
        stop.set()
        await asyncio.gather(*writers)
        await s.quiet()
        assert await s.differences() == []


async def before_and_after_a0(s: Scene) -> Receipt:
    """A memory of the team of ROOT, delivered; then its workspace moved while nothing was captured; then A1 again."""
    made = await s.create(CHILD, "ours", Scope.TEAM)
    await s.quiet()
    await s.enter(Phase.A0)
    await s.database.execute(MOVE, CHILD, STRANGER)
    await s.enter(Phase.A1)
    return made


async def test_a_memory_moved_in_a0_leaves_its_old_team_when_it_is_deleted(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        made = await before_and_after_a0(s)
        await s.quiet()
        await s.delete(CHILD, made.id)
        await s.quiet()
        assert await s.plugin(made.id) is None


async def test_a_memory_moved_in_a0_leaves_its_old_team_on_the_way_back_to_a1(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        made = await before_and_after_a0(s)
        await s.quiet()
        row = await s.plugin(made.id)
        assert row is not None
        assert row["namespace"] == f"team:{STRANGER}"
        assert await s.differences() == []


async def test_global_memories_below_a_workspace_moved_in_a0_leave_their_old_root(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        made = await s.insert(GRANDCHILD, "everybody's", "GLOBAL")
        await s.quiet()
        await s.enter(Phase.A0)
        await s.database.execute(MOVE, CHILD, STRANGER)
        await s.enter(Phase.A1)
        await s.quiet()
        row = await s.plugin(made)
        assert row is not None
        assert row["namespace"] == f"org:{STRANGER}"
