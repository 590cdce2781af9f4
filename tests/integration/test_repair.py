"""A repair on real stores: every class that a delivery sets right is set right, and a live change always wins."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.divergence import REPAIRED_BY_MARK, DivergenceClass
from cutover.domain.errors import Conflict, IllegalStep, NotFound, Refused
from cutover.domain.events import FindingsSettled
from cutover.domain.findings import FindingFilter, QuarantineFilter
from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, eventually, scene
from tests.integration.read_scene import CHILD, STRANGER

COMMITS = on("POST", r"/memories$")
HOME = f"workspace:{CHILD}"

# How each class comes about behind everybody's back. $1: the memory.
DAMAGE = {
    DivergenceClass.MISSING_IN_PLUGIN: "DELETE FROM memory_plugin.memory_records WHERE id = $1",
    DivergenceClass.CONTENT: "UPDATE memory_plugin.memory_records SET content = 'garbled' WHERE id = $1",
    DivergenceClass.NAMESPACE: "UPDATE memory_plugin.memory_records SET namespace = 'custom:elsewhere' WHERE id = $1",
    DivergenceClass.EMBEDDING: "UPDATE memory_plugin.memory_records SET embedding ="
    " array_fill(0.5, ARRAY[1536])::vector WHERE id = $1",
    DivergenceClass.CREATED_AT: "UPDATE memory_plugin.memory_records SET created_at = now() - interval '9 years'"
    " WHERE id = $1",
    DivergenceClass.PROVENANCE: "UPDATE memory_plugin.memory_records SET source = 'user', propagation = '{}'"
    " WHERE id = $1",
    DivergenceClass.RESURRECTED: "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
    f" VALUES ($1, '{HOME}', 'back again', 'fact', 'agent')",
}


async def damage(s: Scene, cls: DivergenceClass, memory_id: UUID) -> None:
    """Make the stores differ, and put down what a sweep would have found."""
    await s.database.execute(
        "INSERT INTO memory_plugin.memory_namespaces (name, kind) VALUES ('custom:elsewhere', 'custom')"
        " ON CONFLICT DO NOTHING"
    )
    await s.database.execute(DAMAGE[cls], memory_id)
    held = await s.plugin(memory_id)
    await found(s, memory_id, cls, held["namespace"] if held is not None else HOME)


async def found(s: Scene, memory_id: UUID, cls: DivergenceClass, namespace: str = HOME) -> None:
    """A confirmed finding."""
    await s.database.execute(
        "INSERT INTO cutover.divergence (memory_id, class, state, namespace, namespace_kind, first_run, last_run,"
        " snapshot, confirmed_at) VALUES ($1, $2, 'confirmed', $3, 'workspace', $4, $4,"
        " pg_current_snapshot()::text, now())",
        memory_id, cls.value, namespace, UUID(int=0),
    )  # fmt: skip


async def repair(s: Scene, *memories: UUID, **more: Any) -> dict[str, Any]:
    limit = more.pop("limit", None)
    return await s.tenant.findings.repair(FindingFilter(ids=memories, **more), actor="alice", limit=limit)


async def look(s: Scene, memory_id: UUID) -> dict[str, Any] | None:
    """The plugin's row, without what the plugin itself makes of it."""
    held = await s.plugin(memory_id)
    return None if held is None else {key: value for key, value in held.items() if key != "content_tsv"}


async def saved(s: Scene, origin: str) -> UUID:
    if origin == "native":
        return (await s.commit(HOME, "a summary", Kind.SUMMARY)).id
    return (await s.create(CHILD, "as it should be")).id


def test_every_class_that_a_mark_repairs_is_damaged_here() -> None:
    assert set(DAMAGE) == REPAIRED_BY_MARK


@pytest.mark.parametrize("origin", ["legacy", "journal", "native"])
async def test_a_repair_sets_every_class_right(database: str, origin: str) -> None:
    """Before the cutover, and after it for what legacy, the journal or only the plugin's own surface wrote."""
    async with scene(database, phase=Phase.A3 if origin == "journal" else Phase.A2, proxied=False) as s:
        memories = {cls: await saved(s, origin) for cls in DAMAGE}
        await s.quiet()
        if origin == "legacy":
            await s.step(Phase.A3)
        gone = memories[DivergenceClass.RESURRECTED]
        await (s.forget(HOME, gone) if origin == "native" else s.delete(CHILD, gone))
        await s.quiet()
        await s.tenant.operations.run_count_sweep()  # creation times that wait are set
        before = {cls: await look(s, memory) for cls, memory in memories.items()}
        for cls, memory in memories.items():
            await damage(s, cls, memory)
            assert await look(s, memory) != before[cls], cls
        done = await repair(s, *memories.values())
        assert (done["marked"], done["remaining"], done["refused"]) == (len(memories), 0, [])
        assert done["by_class"] == {cls.value: 1 for cls in sorted(DAMAGE)}
        await s.quiet()
        await s.tenant.operations.run_count_sweep()
        assert {cls: await look(s, memory) for cls, memory in memories.items()} == before
        assert await s.differences() == []


@pytest.mark.parametrize("change", ["edit", "delete"])
async def test_a_live_change_wins_over_a_repair(database: str, change: str) -> None:
    """It comes while the repair's own request is under way."""
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        memory = (await s.create(CHILD, "old")).id
        await s.quiet()
        await damage(s, DivergenceClass.CONTENT, memory)
        held = s.proxy.hold(COMMITS)
        await repair(s, memory)
        await held.arrived.wait()
        live = s.edit(CHILD, memory, "newer") if change == "edit" else s.delete(CHILD, memory)
        task: asyncio.Task[object] = s.daemons[-1].start(live)
        await until_rev(s, memory)
        await held.release()
        await task
        await s.quiet()
        assert await s.content(memory) == ("newer" if change == "edit" else None)
        assert await s.differences() == []


async def until_rev(s: Scene, memory_id: UUID) -> None:
    """Wait until somebody changed the memory past the rev that is being delivered."""
    before = await s.mark(memory_id)
    assert before is not None

    async def changed() -> bool:
        now = await s.mark(memory_id)
        return now is not None and now["rev"] > before["rev"]

    await until(changed, "the live change", timeout=10, every=0.01)


async def test_a_memory_that_was_saved_anew_is_not_forgotten_by_a_repair(database: str) -> None:
    """It was resurrected when the sweep looked; by the time of the repair somebody has saved it again."""
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        memory = (await s.create(CHILD, "first")).id
        await s.delete(CHILD, memory)
        await s.quiet()
        await damage(s, DivergenceClass.RESURRECTED, memory)
        await s.insert(CHILD, "second", id=memory)
        await repair(s, memory)
        await s.quiet()
        assert await s.content(memory) == "second"


async def test_what_only_the_plugin_knows_survives_every_repair(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        known = (await s.create(CHILD, "known")).id
        await s.quiet()
        extra = uuid4()
        await s.database.execute(
            "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
            " VALUES ($1, $2, 'written straight to the plugin', 'fact', 'agent')",
            extra,
            HOME,
        )
        await found(s, extra, DivergenceClass.MISSING_IN_LEGACY)
        await damage(s, DivergenceClass.CONTENT, known)
        done = await s.tenant.findings.repair(FindingFilter(), actor="alice", limit=None)
        assert (done["marked"], [one["rows"] for one in done["refused"]]) == (1, [1])
        with pytest.raises(Conflict, match="would delete it"):
            await repair(s, extra)
        with pytest.raises(Conflict, match="would delete it"):
            await repair(s, classes=(DivergenceClass.MISSING_IN_LEGACY,))
        await s.quiet()
        assert await s.content(extra) == "written straight to the plugin"
        assert await s.content(known) == "known"


async def test_a_large_repair_leaves_room_for_live_traffic(database: str) -> None:
    """Marks of a repair are live marks: too many of them would refuse the tenant's own writes."""
    async with scene(database, phase=Phase.A2, max_backlog=20) as s:
        assert s.proxy is not None
        memories = [(await s.create(CHILD, f"{n}")).id for n in range(25)]
        await s.quiet()
        for memory in memories:
            await found(s, memory, DivergenceClass.CONTENT)
        failing = s.proxy.rule(COMMITS, answer(500))
        first = await s.tenant.findings.repair(FindingFilter(), actor="alice", limit=None)
        assert (first["marked"], first["remaining"]) == (10, 15)
        await eventually(lambda: s.tenant.admission.live_marks == 10)
        with pytest.raises(Refused, match="10 memories wait for delivery already"):
            await s.tenant.findings.repair(FindingFilter(), actor="alice", limit=None)
        with pytest.raises(Refused):
            await s.tenant.findings.retry(QuarantineFilter(), actor="alice", limit=None)
        failing.off()
        await s.quiet()
        await eventually(lambda: s.tenant.admission.live_marks == 0)
        assert (await repair(s, *memories, limit=3))["marked"] == 3


async def test_in_a0_there_is_nothing_to_deliver_with(database: str) -> None:
    async with scene(database, proxied=False) as s:
        memory = await s.insert(CHILD, "x")
        await found(s, memory, DivergenceClass.CONTENT)
        with pytest.raises(IllegalStep, match="from A1 on"):
            await repair(s, memory)
        assert await s.marks() == {}


async def test_a_daemon_that_missed_a_phase_change_repairs_all_the_same(database: str) -> None:
    async with scene(database, phase=Phase.A1, proxied=False) as s:
        memory = (await s.create(CHILD, "x")).id
        await s.quiet()
        await damage(s, DivergenceClass.CONTENT, memory)
        stale = s.tenant.phase.state
        await s.step(Phase.A2)
        s.tenant.phase.state = stale
        assert (await repair(s, memory))["marked"] == 1
        await s.quiet()
        assert await s.content(memory) == "x"


async def test_who_settled_what_is_told_and_the_counts_follow(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        memory = (await s.create(STRANGER, "x")).id
        await found(s, memory, DivergenceClass.PROVENANCE)
        await found(s, memory, DivergenceClass.CREATED_AT)
        findings = s.tenant.findings
        assert (await findings.count()).as_json()["confirmed"] == {"created_at": 1, "provenance": 1}
        await findings.accept(FindingFilter(classes=(DivergenceClass.CREATED_AT,)), actor="bob", why="known")
        with pytest.raises(NotFound):
            await findings.accept(FindingFilter(classes=(DivergenceClass.CREATED_AT,)), actor="bob", why="known")
        await repair(s, memory)
        assert (await findings.count()).as_json()["confirmed"] == {}
        told = [(e.action, e.count, e.actor) for e in s.daemons[-1].events if isinstance(e, FindingsSettled)]
        assert told == [("accept", 1, "bob"), ("repair", 1, "alice")]
