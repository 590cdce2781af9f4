"""There and back again (A2→A3→A2): nothing acknowledged is lost, nothing refused is carried out, and it can be done."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.domain.errors import CutoverError, Refused
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import Receipt
from cutover.embedded.fault_proxy import delay, on
from cutover.embedded.processes import until
from cutover.engine.batch import NaturalBatcher
from cutover.engine.inflight import Inflight
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD

PLACE = f"workspace:{CHILD}"
COMMITS = on("POST", r"/memories$")
LEAVER = UUID(int=77)


async def until_waited_for(inflight: Inflight, memory_id: UUID) -> None:
    async def condition() -> bool:
        return bool(inflight._waiters[memory_id])

    await until(condition, "a write that waits for its memory", timeout=5, every=0.005)


@pytest.mark.parametrize(("routed", "carried_out"), [(Phase.A2, Phase.A3), (Phase.A3, Phase.A2)])
async def test_writes_that_waited_for_their_memory_go_to_the_authority_of_the_day(
    database: str, routed: Phase, carried_out: Phase
) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=5.0) as s:
        edited, deleted, replaced = [(await s.create(CHILD, "before")).id for _ in range(3)]
        await s.enter(routed)
        await s.quiet()
        inflight = s.tenant.memories._writes._inflight
        for memory_id in (edited, deleted, replaced):
            assert inflight.try_acquire(memory_id)
        writes: list[Awaitable[object]] = [
            s.daemons[-1].start(s.edit(CHILD, edited, "after")),
            s.daemons[-1].start(s.delete(CHILD, deleted)),
            s.daemons[-1].start(s.commit(PLACE, "after", id=replaced)),
        ]
        for memory_id in (edited, deleted, replaced):
            await until_waited_for(inflight, memory_id)
        await s.step(carried_out)
        for memory_id in (edited, deleted, replaced):
            inflight.release(memory_id)
        await asyncio.gather(*writes)
        await s.quiet()
        frozen = carried_out is Phase.A3
        for memory_id in (edited, replaced):
            row = await s.legacy(memory_id)
            assert row is not None
            assert row["content"] == ("before" if frozen else "after")
            assert await s.content(memory_id) == "after"
        assert (await s.legacy(deleted) is not None) is frozen
        assert await s.plugin(deleted) is None
        assert await s.differences() == []
        await s.enter(Phase.A2)
        await s.quiet()
        assert await s.differences() == []


async def test_creates_that_queued_for_a_batch_are_written_to_legacy_after_the_way_back(database: str) -> None:
    async with scene(database, phase=Phase.A3, delivery_deadline=5.0) as s:
        holder = await asyncpg.connect(database)
        try:
            await holder.execute("SELECT pg_advisory_lock(cutover.phase_lock_key())")
            creates = await queued(s, s.tenant.memories._writes._commits)
            await holder.execute("SELECT cutover.ease_freeze('open', 'test')")
            await holder.execute("SELECT cutover.set_phase($1, 'A2', 'test', 'test')", s.tenant.phase.current().epoch)
            await s.tenant.phase.reload()
        finally:
            await holder.close()
        made = await asyncio.gather(*creates)
        for number, receipt in enumerate(made):
            row = await s.legacy(receipt.id)
            assert row is not None
            assert row["content"] == f"{number}"
        await s.quiet()
        assert await s.differences() == []
        assert await s.count("cutover.journal") == 0


async def queued(s: Scene, batcher: NaturalBatcher[Any, Any]) -> list[Awaitable[Receipt]]:
    """Six creates: two batches of one wait in the database, four wait for a batch."""
    creates: list[Awaitable[Receipt]] = []

    async def condition() -> bool:
        return len(batcher._workers) == min(len(creates), 2) and len(batcher) == max(0, len(creates) - 2)

    for number in range(6):
        creates.append(s.daemons[-1].start(s.create(CHILD, f"{number}")))
        await until(condition, "the batches", timeout=5, every=0.001)
    return creates


async def test_what_was_a_native_before_does_not_come_back_after_a_delete(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        memory_id = uuid4()
        await s.commit(f"team:{CHILD}", "an old native", Kind.SUMMARY, id=memory_id)
        await s.enter(Phase.A3)
        await s.commit(PLACE, "now a fact", id=memory_id)
        await s.quiet()
        await s.step(Phase.A2)
        await s.quiet()
        await s.delete(CHILD, memory_id)
        await s.quiet()
        assert await s.plugin(memory_id) is None
        # Every deleted memory is marked on coming back from A0: the mark must lead to "gone", not to the old native.
        await s.enter(Phase.A0)
        await s.enter(Phase.A1)
        await s.quiet()
        assert await s.plugin(memory_id) is None
        assert await s.count("cutover.native") == 0


async def test_a_bypass_delete_of_a_former_native_stays_deleted(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        memory_id = uuid4()
        await s.commit(f"team:{CHILD}", "an old native", Kind.SUMMARY, id=memory_id)
        await s.enter(Phase.A3)
        await s.commit(PLACE, "now a fact", id=memory_id)
        await s.quiet()
        await s.step(Phase.A2)
        await s.quiet()
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
        await s.quiet()
        assert await s.plugin(memory_id) is None


@pytest.mark.parametrize("late", [True, False], ids=["late", "in-time"])
@pytest.mark.parametrize("what", ["create", "edit", "delete"])
async def test_a_write_under_way_during_the_way_back_ends_as_its_caller_was_told(
    database: str, what: str, late: bool
) -> None:
    # In time: the plugin answers while the way back waits for it. Late: after the caller was told no.
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        before = await s.create(CHILD, "before")
        await s.quiet()
        held = s.proxy.hold(on("DELETE", "/v1/memories/") if what == "delete" else COMMITS)
        request: dict[str, Awaitable[object]] = {
            "create": s.create(CHILD, "under way"),
            "edit": s.edit(CHILD, before.id, "under way"),
            "delete": s.delete(CHILD, before.id),
        }
        for name, other in request.items():
            if name != what:
                other.close()  # type: ignore[attr-defined]
        write = s.daemons[-1].start(told(request[what]))
        await asyncio.wait_for(held.arrived.wait(), 5)
        back = asyncio.create_task(s.step(Phase.A2))
        if late:
            verdict = await write
            await held.release()
        else:
            await held.release()
            verdict = await write
        await back
        await s.quiet()
        contents = sorted(row["content"] for row in await s.database.fetch("SELECT content FROM agent_memories"))
        done = {"create": ["before", "under way"], "edit": ["under way"], "delete": []}[what]
        undone = ["before"]
        match verdict:
            case None:
                assert contents == done
            case Refused(code="unresolved", message=words) if "may still be carried out" in words:
                assert contents in (done, undone)
            case _:
                assert contents == undone
        assert await s.differences() == []


async def told(write: Awaitable[object]) -> CutoverError | None:
    """What the caller hears: None for yes."""
    try:
        await write
    except CutoverError as error:
        return error
    return None


async def test_a_purge_in_a3_takes_along_what_only_the_journal_knows(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        await s.database.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'leaver')", LEAVER)
        old = (await s.create(LEAVER, "from A2")).id
        native = (await s.commit(f"workspace:{LEAVER}", "a native", Kind.SUMMARY)).id
        await s.enter(Phase.A3)
        new = [(await s.create(LEAVER, scope.value, scope)).id for scope in Scope]
        await s.edit(LEAVER, new[0], "edited")
        contract = (await s.commit(f"workspace:{LEAVER}", "from the contract")).id
        stays = (await s.create(CHILD, "another's")).id
        await s.quiet()
        # As workspace-server does it: memories first, then the workspace.
        await s.database.execute("DELETE FROM agent_memories WHERE workspace_id = $1", LEAVER)
        await s.database.execute("DELETE FROM workspaces WHERE id = $1", LEAVER)
        await s.quiet()
        for memory_id in (old, native, contract, *new):
            assert await s.plugin(memory_id) is None
        assert await s.content(stays) == "another's"
        await s.step(Phase.A2)
        await s.quiet()
        assert await s.count("agent_memories") == 1
        assert await s.count("cutover.quarantine") == 0
        assert await s.differences() == []


async def test_the_cutover_succeeds_under_ordinary_load(database: str) -> None:
    # More writers than the pool has connections: those that are held must leave some to those that are waited for.
    async with scene(database, phase=Phase.A2, delivery_deadline=1.2, plugin_timeout=1.2) as s:
        assert s.proxy is not None
        await s.quiet()
        s.proxy.rule(COMMITS, delay(0.05))
        stop = asyncio.Event()
        made: list[UUID] = []

        async def write() -> None:
            while not stop.is_set():
                # Writes that the change holds up for too long are refused; they may come again.
                with contextlib.suppress(Refused):
                    memory = await s.create(CHILD, "one")
                    made.append(memory.id)
                    await s.edit(CHILD, memory.id, "two")

        writers = [asyncio.create_task(write()) for _ in range(32)]
        try:
            for phase in (Phase.A3, Phase.A2, Phase.A3, Phase.A2):
                await s.step(phase)
                seen = len(made)

                async def more(seen: int = seen) -> bool:
                    return len(made) > seen

                await until(more, "writes in the new phase", timeout=5)
        finally:
            stop.set()
            await asyncio.gather(*writers)
        await s.quiet()
        rows = await s.database.fetch("SELECT id FROM agent_memories")
        assert {row["id"] for row in rows} >= set(made)
        assert await s.differences() == []
