"""The settler on a real ledger: outcomes in company, leases passed on meanwhile, and what a dead database does."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from cutover.domain.errors import CutoverError
from cutover.domain.events import Event, TaskFailed
from cutover.engine.settle import Settler
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger, Settlement, WriteResult
from tests.integration.protocol_scene import eventually
from tests.integration.read_scene import CHILD, add_workspaces


class Scene:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = Ledger(database, UUID(int=1))
        self.events: list[Event] = []
        self.superseded = 0
        self.settler = Settler("t", self.ledger, self.events.append, self._superseded)

    def _superseded(self) -> None:
        self.superseded += 1

    async def claimed(self, count: int) -> list[WriteResult]:
        await self.database.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope)"
            " SELECT $1, i::text, 'LOCAL' FROM generate_series(1, $2::int) i",
            CHILD,
            count,
        )
        return await self.ledger.claim(2, 60.0, count, backfill=False)

    async def marks(self) -> int:
        return int(await self.database.fetchval("SELECT count(*) FROM cutover.mark"))


@pytest.fixture
async def s(database: str) -> AsyncIterator[Scene]:
    opened = await Database.connect(database, application_name="somebody", max_size=4)
    await migrate.up(opened)
    await add_workspaces(opened)
    await opened.execute("SELECT cutover.install_capture()")
    await opened.execute("SELECT cutover.set_phase(1, 'A1', 'test', 'test')")
    yield Scene(opened)
    await opened.close()


def outcome(state: WriteResult, word: str) -> Settlement:
    assert state.rev is not None
    assert state.lease_id is not None
    return Settlement(state.memory_id, state.rev, state.lease_id, state.seq, word, 0.0, "")


async def test_what_is_noted_is_told_soon_and_by_flush_at_once(s: Scene) -> None:
    for state in await s.claimed(600):
        s.settler.note(outcome(state, "delivered"))
    await s.settler.flush()
    assert await s.marks() == 0
    await s.settler.flush()
    state = (await s.claimed(1))[0]
    s.settler.note(outcome(state, "delivered"))
    await eventually(lambda: s.settler.settled_lease(state.memory_id) is None)
    assert await s.marks() == 0


async def test_until_it_is_told_the_lease_may_be_passed_on(s: Scene) -> None:
    one, two = await s.claimed(2)
    s.settler.note(outcome(one, "delivered"))
    s.settler.note(outcome(two, "ambiguous"))
    assert s.settler.settled_lease(one.memory_id) == one.lease_id
    assert s.settler.is_delivered(one.memory_id)
    assert s.settler.settled_lease(two.memory_id) is None
    assert not s.settler.is_delivered(two.memory_id)
    await s.settler.flush()
    assert s.settler.settled_lease(one.memory_id) is None
    assert await s.marks() == 1


async def test_settle_says_whether_the_mark_is_gone(s: Scene) -> None:
    one, two = await s.claimed(2)
    await s.database.execute("UPDATE agent_memories SET content = 'newer' WHERE id = $1", two.memory_id)
    assert await s.settler.settle(outcome(one, "delivered"))
    assert s.superseded == 0
    assert not await s.settler.settle(outcome(two, "delivered"))
    assert s.superseded == 1
    assert await s.marks() == 1


async def test_one_memory_twice_in_a_batch_is_told_in_order(s: Scene) -> None:
    first = (await s.claimed(1))[0]
    s.settler.note(outcome(first, "failed"))
    again = await s.ledger.edit(2, 60.0, first.lease_id, first.memory_id, CHILD, "newer", None)
    assert again.lease_id is not None
    s.settler.note(outcome(again, "delivered"))
    assert s.settler.settled_lease(first.memory_id) == again.lease_id
    await s.settler.flush()
    assert await s.marks() == 0


async def test_a_locked_mark_is_told_when_it_is_free(s: Scene) -> None:
    one, two = await s.claimed(2)
    async with s.database.transaction() as foreign:
        await foreign.execute("UPDATE agent_memories SET namespace = 'facts' WHERE id = $1", one.memory_id)
        locked = asyncio.create_task(s.settler.settle(outcome(one, "delivered")))
        assert await s.settler.settle(outcome(two, "delivered"))
        assert not locked.done()
    assert not await asyncio.wait_for(locked, 10)  # changed meanwhile: its mark stays, without the lease
    assert not await s.database.fetchval("SELECT ambiguous FROM cutover.mark")


async def test_a_fault_is_told_and_takes_nobody_with_it(s: Scene) -> None:
    one, two = await s.claimed(2)
    await s.database.execute("ALTER FUNCTION cutover.settle RENAME TO settle_gone")
    with pytest.raises(CutoverError):
        await s.settler.settle(outcome(one, "delivered"))
    assert s.settler.settled_lease(one.memory_id) is None
    assert [event.task for event in s.events if isinstance(event, TaskFailed)] == ["settle"]
    await s.database.execute("ALTER FUNCTION cutover.settle_gone RENAME TO settle")
    assert await s.settler.settle(outcome(two, "delivered"))
