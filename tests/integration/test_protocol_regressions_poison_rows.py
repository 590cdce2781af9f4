"""Rows that something on the way cannot take: times that Python has no room for, content the plugin refuses, labels of
no length. They block nothing, show nothing old, and come through unchanged."""

from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import Refused
from cutover.domain.events import TaskFailed
from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.domain.requests import ListMemories, SearchMemories, Shadow
from cutover.embedded.fault_proxy import answer, on
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD

TIMES = ("20260-01-01 00:00:00+00", "infinity", "-infinity", "0044-03-15 00:00:00+00 BC")
PLACE = f"workspace:{CHILD}"
COMMITS = on("POST", r"/memories$")


async def poison(s: Scene, time: str) -> UUID:
    """A row with `time` as both of its times, past the daemon."""
    memory_id = uuid4()
    await s.database.execute(
        "INSERT INTO agent_memories (id, workspace_id, content, scope, created_at, updated_at)"
        " VALUES ($1, $2, $3, 'LOCAL', $4::text::timestamptz, $4::text::timestamptz)",
        memory_id,
        CHILD,
        f"poison {time}",
        time,
    )
    return memory_id


async def held(s: Scene, memory_id: UUID) -> tuple[str, str | None, str | None] | None:
    """Content and times of a legacy row, the times as PostgreSQL writes them."""
    row = await s.database.fetchrow(
        "SELECT content, created_at::text AS created, updated_at::text AS updated FROM agent_memories WHERE id = $1",
        memory_id,
    )
    return None if row is None else (row["content"], row["created"], row["updated"])


async def everything_is_readable(s: Scene, count: int) -> None:
    memories = s.tenant.memories
    assert len((await memories.list(ListMemories(CHILD), caller())).memories) == count
    assert len((await memories.search(SearchMemories((PLACE,)), caller("plugin"))).memories) == count
    session = await memories.session_search(CHILD, "", 50, caller())
    assert len([item for item in session.items if item.kind == "memory"]) == count


def nothing_broke(s: Scene) -> None:
    for daemon in s.daemons:
        assert not [task for task in daemon.tasks if task.done()]
        assert [event for event in daemon.events if isinstance(event, TaskFailed)] == []


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2])
async def test_times_out_of_range_block_nothing_while_both_stores_are_written(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        rows = [await poison(s, time) for time in TIMES]
        made = await s.create(CHILD, "an ordinary one")
        assert made.shadow is Shadow.DELIVERED
        await s.quiet()
        for memory_id, time in zip(rows, TIMES, strict=True):
            assert await s.content(memory_id) == f"poison {time}"
        await everything_is_readable(s, 5)
        for memory_id in rows:
            assert (await s.edit(CHILD, memory_id, "edited")).changed
        await s.quiet()
        for memory_id in rows:
            assert await s.content(memory_id) == "edited"
        await s.delete(CHILD, rows[0])
        await s.quiet()
        assert await s.plugin(rows[0]) is None
        await s.sweep()
        nothing_broke(s)


async def test_times_out_of_range_go_to_a3_and_come_back_as_they_were(database: str) -> None:
    async with scene(database, phase=Phase.A0, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        untouched = [await poison(s, time) for time in TIMES]
        edited = [await poison(s, time) for time in TIMES]
        replaced = [await poison(s, time) for time in TIMES]
        bypassed = [await poison(s, time) for time in TIMES]
        before = {memory_id: await held(s, memory_id) for memory_id in (*untouched, *edited, *replaced, *bypassed)}
        await everything_is_readable(s, 16)
        await s.enter(Phase.A3)
        await everything_is_readable(s, 16)
        for memory_id in edited:
            await s.edit(CHILD, memory_id, "edited")
        for memory_id in replaced:
            await s.commit(PLACE, "replaced", id=memory_id)
        await s.tamper()
        for memory_id in bypassed:
            await s.database.execute("UPDATE agent_memories SET content = 'by SQL' WHERE id = $1", memory_id)
        await s.quiet()
        await everything_is_readable(s, 16)
        await s.step(Phase.A2)
        await s.quiet()
        for memory_id in untouched:
            assert await held(s, memory_id) == before[memory_id]
        for memory_id in (*edited, *replaced, *bypassed):
            row, was = await held(s, memory_id), before[memory_id]
            assert row is not None
            assert was is not None
            assert row[0] == await s.content(memory_id)
            assert row[0] in ("edited", "replaced", "by SQL")
            assert row[1] == was[1]
        nothing_broke(s)


@pytest.mark.parametrize("time", TIMES)
async def test_a_row_with_a_time_out_of_range_can_become_a_native_or_stay(database: str, time: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        memory_id = await poison(s, time)
        before = await held(s, memory_id)
        await s.quiet()
        rule = s.proxy.rule(COMMITS, answer(500))
        error = await refused(s.commit(PLACE, "summary", Kind.SUMMARY, id=memory_id), Refused)
        assert isinstance(error, Refused)
        assert error.code != "unresolved"
        rule.off()
        await s.quiet()
        assert await held(s, memory_id) == before
        assert await s.content(memory_id) == f"poison {time}"
        await s.commit(PLACE, "summary", Kind.SUMMARY, id=memory_id)
        await s.quiet()
        assert await held(s, memory_id) is None
        assert await s.content(memory_id) == "summary"


@pytest.mark.parametrize("way", ["edit", "commit", "bypass"])
async def test_a_content_that_the_plugin_refuses_leaves_nothing_old_to_be_read(database: str, way: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        memory_id = (await s.commit(PLACE, "old words", id=uuid4())).id
        await s.quiet()
        assert await s.content(memory_id) == "old words"
        rule = s.proxy.rule(
            on("POST", r"/memories$", "new words"), answer(422, {"code": "bad_request", "message": "no"})
        )
        match way:
            case "edit":
                assert (await s.edit(CHILD, memory_id, "new words")).shadow is Shadow.PENDING
            case "commit":
                assert (await s.commit(PLACE, "new words", id=memory_id)).shadow is Shadow.PENDING
            case _:
                await s.database.execute("UPDATE agent_memories SET content = 'new words' WHERE id = $1", memory_id)
        await s.quiet()
        assert rule.hits
        assert await s.plugin(memory_id) is None
        reason = await s.database.fetchval("SELECT reason FROM cutover.quarantine WHERE memory_id = $1", memory_id)
        assert reason == "refused_by_plugin"
        assert await s.differences() == []
        rule.off()
        await s.edit(CHILD, memory_id, "newer words")
        await s.quiet()
        assert await s.content(memory_id) == "newer words"
        assert await s.count("cutover.quarantine") == 0
        assert await s.differences() == []


async def test_a_label_of_no_length_stays_one(database: str) -> None:
    async with scene(database, phase=Phase.A1, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        kept, edited = [await s.insert(CHILD, "unlabelled", label="") for _ in range(2)]
        await s.quiet()
        assert await s.differences() == []
        await s.edit(CHILD, kept, "in A1")
        await s.quiet()
        assert await s.differences() == []
        await s.enter(Phase.A3)
        assert (await s.edit(CHILD, edited, "in A3")).label == ""
        await s.quiet()
        assert await s.differences() == []
        page = await s.tenant.memories.list(ListMemories(CHILD), caller())
        assert [memory.label for memory in page.memories] == ["", ""]
        await s.step(Phase.A2)
        await s.quiet()
        for memory_id in (kept, edited):
            row = await s.legacy(memory_id)
            assert row is not None
            assert row["namespace"] == ""
        assert await s.differences() == []
