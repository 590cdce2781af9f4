"""Phase changes on real stores: one transaction each, and no write ever runs under a phase it was not routed for."""

import asyncio

import asyncpg

from cutover.domain.phase import Phase
from tests.integration.protocol_scene import eventually, scene
from tests.integration.read_scene import CHILD


async def test_a_write_that_waited_for_its_memory_is_not_carried_out_under_the_next_phase(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=5.0) as s:
        made = await s.create(CHILD, "before")
        await s.quiet()
        inflight = s.tenant.memories._writes._inflight
        assert inflight.try_acquire(made.id)
        edit = s.daemons[-1].start(s.edit(CHILD, made.id, "after"))
        await eventually(lambda: bool(inflight._waiters[made.id]))
        await s.step(Phase.A3)
        inflight.release(made.id)
        assert (await edit).shadow is None
        row = await s.legacy(made.id)
        assert row is not None
        assert row["content"] == "before"  # frozen
        await s.quiet()
        assert await s.content(made.id) == "after"
        assert await s.differences() == []


async def test_writes_that_queued_for_a_batch_are_not_carried_out_under_the_next_phase(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=5.0) as s:
        await s.quiet()
        holder = await asyncpg.connect(database)
        try:
            await holder.execute("SELECT pg_advisory_lock(cutover.phase_lock_key())")
            batcher = s.tenant.memories._writes._creates
            creates = []
            for number in range(2):  # two batches wait for the phase lock …
                creates.append(s.daemons[-1].start(s.create(CHILD, f"{number}")))
                await eventually(lambda number=number: len(batcher._workers) > number and not len(batcher))  # type: ignore[misc]
            # … and what comes now queues for a third.
            creates += [s.daemons[-1].start(s.create(CHILD, f"{number}")) for number in range(2, 6)]
            await eventually(lambda: len(batcher) == 4)
            epoch = s.tenant.phase.current().epoch
            await holder.execute("SELECT cutover.set_phase($1, 'A3', 'test', 'test')", epoch)
            await s.tenant.phase.reload()
        finally:
            await holder.close()
        made = await asyncio.gather(*creates)
        assert {m.shadow for m in made} == {None}
        assert await s.count("agent_memories") == 0
        await s.quiet()
        assert await s.differences() == []
