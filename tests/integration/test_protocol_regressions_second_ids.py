"""An id that was a native's once and is a fact's now: what the journal says of the native is over."""

import asyncio
from uuid import UUID, uuid4

import pytest

from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.domain.requests import SearchMemories
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, caller, scene
from tests.integration.read_scene import CHILD

PLACE = f"workspace:{CHILD}"
COMMITS = on("POST", r"/memories$")


async def fact_with_a_past(s: Scene, *, forgotten: bool) -> UUID:
    """A fact of A2 whose id a native had before: forgotten first, or replaced as it stood."""
    memory_id = uuid4()
    await s.commit(PLACE, "summary", Kind.SUMMARY, id=memory_id)
    await s.quiet()
    if forgotten:
        await s.forget(PLACE, memory_id)
        await s.quiet()
    await s.commit(PLACE, "precious", id=memory_id)
    await s.quiet()
    return memory_id


async def both(s: Scene, memory_id: UUID) -> tuple[str | None, str | None]:
    """What legacy and the plugin hold."""
    row = await s.legacy(memory_id)
    return (row["content"] if row is not None else None), await s.content(memory_id)


async def found(s: Scene) -> dict[UUID, str]:
    """What a search of the namespace shows."""
    result = await s.tenant.memories.search(SearchMemories((PLACE,), ""), caller("plugin"))
    return {each.id: each.content for each in result.memories}


@pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "replaced"])
async def test_it_is_edited_and_deleted_in_a3(database: str, forgotten: bool) -> None:
    async with scene(database, phase=Phase.A2) as s:
        edited, deleted = [await fact_with_a_past(s, forgotten=forgotten) for _ in range(2)]
        await s.enter(Phase.A3)
        assert await s.differences() == []
        await s.edit(CHILD, edited, "changed")
        await s.delete(CHILD, deleted)
        await s.quiet()
        assert await s.content(edited) == "changed"
        assert await s.plugin(deleted) is None
        assert await s.differences() == []
        await s.enter(Phase.A2)
        await s.quiet()
        assert await both(s, edited) == ("changed", "changed")
        assert await both(s, deleted) == (None, None)
        assert await s.differences() == []


@pytest.mark.parametrize("forgotten", [True, False], ids=["forgotten", "replaced"])
async def test_a_mark_in_a3_and_the_way_back_keep_it(database: str, forgotten: bool) -> None:
    async with scene(database, phase=Phase.A2) as s:
        fact = await fact_with_a_past(s, forgotten=forgotten)
        await s.enter(Phase.A3)
        await s.database.execute(
            "INSERT INTO cutover.mark (memory_id, rev, origin, held_in)"
            " VALUES ($1, nextval('cutover.rev_seq'), 'repair', ARRAY[$2::text])",
            fact,
            PLACE,
        )
        await s.quiet()
        assert await s.content(fact) == "precious"
        assert await s.differences() == []
        await s.enter(Phase.A2)
        await s.quiet()
        assert await both(s, fact) == ("precious", "precious")
        assert await s.differences() == []


async def test_a_native_replaced_in_a3_is_no_native_after_the_way_back(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        memory_id = uuid4()
        await s.commit(PLACE, "summary", Kind.SUMMARY, id=memory_id)
        await s.enter(Phase.A3)
        # Its intent is left behind by a daemon that died, and the plugin does not take it before the way back.
        held = s.proxy.hold(COMMITS)
        s.daemons[0].start(s.commit(PLACE, "now a fact", id=memory_id))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[0].abandon()
        s.proxy.clear()
        rule = s.proxy.rule(COMMITS, answer(500))
        await s.daemon()

        async def tried() -> bool:
            return rule.hits > 0

        await until(tried, "a try to deliver the fact", timeout=15, every=0.02)
        await s.enter(Phase.A2)
        rule.off()
        await s.quiet()
        assert await s.count("cutover.native") == 0
        assert await both(s, memory_id) == ("now a fact", "now a fact")
        assert await found(s) == {memory_id: "now a fact"}
        await s.forget(PLACE, memory_id)
        assert await found(s) == {}
        await s.quiet()
        assert await both(s, memory_id) == (None, None)
        assert await s.differences() == []
