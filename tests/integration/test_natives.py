"""Natives (architecture §2): what legacy cannot hold lives in the plugin alone, and its id may change sides."""

from datetime import UTC, datetime, timedelta

import pytest

from cutover.domain.errors import Conflict, NotFound, NotHeldByLegacy, Refused
from cutover.domain.memory import Kind, Source
from cutover.domain.phase import Phase
from cutover.domain.requests import SearchMemories
from cutover.embedded.fault_proxy import answer, on, swallow
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, SIBLING

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")
OWN = f"workspace:{CHILD}"


async def found(s: Scene, *namespaces: str) -> set[str]:
    result = await s.tenant.memories.search(SearchMemories(namespaces, limit=100), caller("plugin"))
    return {memory.content for memory in result.memories}


async def test_a0_has_no_natives(database: str) -> None:
    async with scene(database) as s:
        later = datetime.now(UTC) + timedelta(days=1)
        for request in (
            s.commit(OWN, "x", Kind.SUMMARY),
            s.commit(OWN, "x", expires_at=later),
            s.commit("custom:x", "x"),
            s.commit("workspace:00000000-0000-0000-0000-0000000000ff", "x"),
        ):
            await refused(request, NotHeldByLegacy)
        assert await s.count("agent_memories") == 0


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2])
async def test_natives_are_merged_into_searches_and_left_out_of_parity(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        await s.create(CHILD, "legacy")
        later = datetime.now(UTC) + timedelta(days=1)
        made = await s.commit(OWN, "summary", Kind.SUMMARY, source=Source.RUNTIME, pin=True)
        await s.commit(OWN, "expires", expires_at=later)
        await s.commit("custom:x", "custom")
        assert made.shadow is None
        assert await found(s, OWN) == {"legacy", "summary", "expires"}
        assert await found(s, "custom:x", OWN) == {"legacy", "summary", "expires", "custom"}
        await s.quiet()
        assert await s.differences() == []
        sweep = await s.sweep()
        assert (sweep["causes"]["native"], sweep["unexplained"]) == (3, 0)
        await s.forget(OWN, made.id)
        assert await found(s, OWN) == {"legacy", "expires"}
        await refused(s.forget(OWN, made.id), NotFound)
        await s.quiet()
        assert await s.differences() == []


async def test_an_expired_native_is_gone_everywhere(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        await s.commit(OWN, "past", Kind.CHECKPOINT, expires_at=datetime.now(UTC) - timedelta(seconds=1))
        assert await found(s, OWN) == set()
        sweep = await s.sweep()
        assert (sweep["causes"]["native"], sweep["unexplained"]) == (0, 0)


async def test_an_id_changes_sides_both_ways(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        made = await s.create(CHILD, "a fact")
        await s.commit(OWN, "a summary", Kind.SUMMARY, id=made.id)
        assert await s.legacy(made.id) is None
        assert await found(s, OWN) == {"a summary"}
        await refused(s.edit(CHILD, made.id, "v1 does not see it"), NotFound)
        await s.quiet()
        assert await s.differences() == []
        await s.commit(OWN, "a fact again", id=made.id, pin=True)
        row = await s.legacy(made.id)
        assert row is not None
        assert row["content"] == "a fact again"
        assert await found(s, OWN) == {"a fact again"}
        await s.quiet()
        assert await s.differences() == []
        assert await s.count("cutover.native") == 0
        assert await s.count("cutover.tombstone") == 0
        await s.delete(CHILD, made.id)
        await s.quiet()
        assert await s.content(made.id) is None
        assert (await s.sweep())["unexplained"] == 0


@pytest.mark.parametrize("fault", ["definite", "swallowed"])
async def test_a_fact_that_could_not_become_a_native_is_still_a_fact(database: str, fault: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        made = await s.commit(OWN, "a fact", pin=True, propagation={"mine": 1})
        before = await s.legacy(made.id)
        await s.quiet()
        s.proxy.rule(COMMITS, answer(500) if fault == "definite" else swallow(), times=1)
        await refused(s.commit(OWN, "a summary", Kind.SUMMARY, id=made.id), Refused)
        assert await s.legacy(made.id) == before
        await s.quiet()
        assert await s.content(made.id) == "a fact"
        assert await s.differences() == []
        row = await s.plugin(made.id)
        assert row is not None
        assert row["propagation"]["mine"] == 1


async def test_a_busy_memory_does_not_leave_legacy(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "a fact")
        await s.quiet()
        s.proxy.rule(COMMITS, swallow(), times=1)
        await s.edit(CHILD, made.id, "unclear")
        error = await refused(s.commit(OWN, "a summary", Kind.SUMMARY, id=made.id), Refused)
        assert isinstance(error, Refused)
        assert error.reason == "busy"
        row = await s.legacy(made.id)
        assert row is not None
        await s.quiet()
        assert await s.content(made.id) == "unclear"
        assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A3])
async def test_an_unclear_native_is_undone(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        assert s.proxy is not None
        s.proxy.rule(COMMITS, swallow(), times=1)
        await refused(s.commit("custom:x", "never was", Kind.SUMMARY), Refused)
        kept = await s.commit("custom:x", "kept", Kind.SUMMARY)
        s.proxy.rule(FORGETS, swallow(), times=1)
        await refused(s.forget("custom:x", kept.id), Refused)
        await s.quiet()
        assert await found(s, "custom:x") == {"kept"}
        assert await s.content(kept.id) == "kept"
        assert await s.differences() == []


async def test_natives_of_others_are_not_overwritten(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        made = await s.commit(OWN, "mine", Kind.SUMMARY)
        await refused(s.commit(f"workspace:{SIBLING}", "stolen", Kind.SUMMARY, id=made.id), Conflict)
        await refused(s.commit(f"workspace:{SIBLING}", "stolen", id=made.id), Conflict)
        await refused(s.commit("custom:x", "stolen", Kind.SUMMARY, id=made.id), Conflict)
        assert await found(s, OWN) == {"mine"}


async def test_a_native_moves_among_custom_namespaces(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        made = await s.commit("custom:a", "one", Kind.SUMMARY)
        await s.commit("custom:b", "two", Kind.SUMMARY, id=made.id)
        assert await found(s, "custom:a") == set()
        assert await found(s, "custom:b") == {"two"}
        await s.quiet()
        assert await s.differences() == []
