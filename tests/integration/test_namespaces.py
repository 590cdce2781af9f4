"""Namespace operations (architecture §3): forwarded and remembered, and never a bulk delete while legacy counts."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from cutover.domain.errors import CutoverError, InvalidRequest, NotFound, Refused
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import PatchNamespace, PutNamespace, SearchMemories
from cutover.embedded.fault_proxy import answer, on, swallow
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, STRANGER

BULK = on("DELETE", r"/v1/namespaces/")
FORGETS = on("DELETE", r"/v1/memories/")
COMMITS = on("POST", r"/memories$")


def bulk_deletes(s: Scene) -> list[str]:
    assert s.proxy is not None
    return [request.path for request in s.proxy.seen if BULK(request)]


async def remove(s: Scene, name: str) -> None:
    await s.tenant.memories.delete_namespace(name, caller("plugin"))


async def remove_until_done(s: Scene, name: str) -> None:
    """As a caller does who was told to ask again."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await remove(s, name)
            except Refused:
                await asyncio.sleep(0.05)


async def shown(s: Scene, *names: str) -> set[str]:
    result = await s.tenant.memories.search(SearchMemories(names, limit=100), caller("plugin"))
    return {memory.content for memory in result.memories}


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A3])
async def test_put_and_patch(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
        put = await s.tenant.memories.put_namespace(PutNamespace("custom:x", "custom", later, {"a": 1}), caller())
        assert (put.name, put.kind, put.expires_at, put.metadata) == ("custom:x", "custom", later, {"a": 1})
        again = await s.tenant.memories.put_namespace(PutNamespace("custom:x", "custom"), caller())
        assert (again.expires_at, again.metadata or {}, again.created_at) == (None, {}, put.created_at)
        patched = await s.tenant.memories.patch_namespace(PatchNamespace("custom:x", metadata={"b": 2}), caller())
        assert (patched.metadata, patched.expires_at, patched.created_at) == ({"b": 2}, None, put.created_at)
        kept = await s.database.fetchval("SELECT metadata ->> 'b' FROM cutover.namespace WHERE name = 'custom:x'")
        assert kept == "2"
        await refused(s.tenant.memories.patch_namespace(PatchNamespace("custom:none", metadata={}), caller()), NotFound)
        await refused(s.tenant.memories.put_namespace(PutNamespace("Custom", "custom"), caller()), InvalidRequest)
        error = await refused(remove(s, "custom:none"), CutoverError)
        assert isinstance(error, CutoverError)
        assert (error.status, error.code) == (404, "not_found")


async def test_a_definition_of_a0_reaches_the_plugin_with_the_first_memory(database: str) -> None:
    async with scene(database) as s:
        name = f"workspace:{CHILD}"
        await s.tenant.memories.put_namespace(PutNamespace(name, "workspace", None, {"mine": True}), caller())
        await s.step(Phase.A1)
        await s.create(CHILD, "x")
        held = await s.database.fetchval(
            "SELECT metadata ->> 'mine' FROM memory_plugin.memory_namespaces WHERE name = $1", name
        )
        assert held == "true"
        patched = await s.tenant.memories.patch_namespace(PatchNamespace(name, metadata={"other": 1}), caller())
        assert patched.metadata == {"other": 1}


async def test_a_namespace_the_plugin_lost_is_put_again(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        await s.create(CHILD, "one")
        await s.quiet()
        await s.database.execute("DELETE FROM memory_plugin.memory_namespaces WHERE name = $1", f"workspace:{CHILD}")
        made = await s.create(CHILD, "two")
        assert made.shadow is not None
        assert made.shadow.value == "delivered"
        assert await s.content(made.id) == "two"


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A2])
async def test_while_legacy_counts_a_delete_is_one_forget_per_memory(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        gone = [await s.create(CHILD, "team", Scope.TEAM), await s.create(ROOT, "team too", Scope.TEAM)]
        kept = [
            await s.create(CHILD, "local"),
            await s.create(GRANDCHILD, "another team", Scope.TEAM),
            await s.create(STRANGER, "another root", Scope.TEAM),
        ]
        name = f"team:{ROOT}"
        if phase is not Phase.A0:
            gone.append(await s.commit(name, "native", Kind.SUMMARY))
        await remove(s, name)
        assert await shown(s, name) == set()
        assert await s.count("agent_memories") == len(kept)
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.differences() == []
        for each in gone:
            assert await s.content(each.id) is None
        assert await s.count("cutover.tombstone") == len(gone)
        assert bulk_deletes(s) == []
        await refused(remove(s, name), NotFound)
        again = await s.create(CHILD, "new", Scope.TEAM)
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.content(again.id) == "new"
            assert await s.differences() == []


async def test_a_write_beside_a_delete_survives_or_goes_but_alike(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        name = f"workspace:{CHILD}"
        for round_ in range(3):
            writes = [s.create(CHILD, f"{round_} {number}") for number in range(8)]
            await asyncio.gather(*writes, remove_quietly(s, name))
        await s.quiet()
        assert await s.differences() == []
        assert bulk_deletes(s) == []


async def remove_quietly(s: Scene, name: str) -> None:
    try:
        await remove(s, name)
    except NotFound:
        return


async def test_in_a3_the_namespace_is_closed_emptied_and_deleted(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        old = await s.create(CHILD, "from before")
        await s.enter(Phase.A3)
        name = f"workspace:{CHILD}"
        new = await s.create(CHILD, "new")
        native = await s.commit(name, "native", Kind.SUMMARY)
        unknown = await s.database.fetchval(
            "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
            " VALUES (gen_random_uuid(), $1, 'unknown', 'fact', 'agent') RETURNING id",
            name,
        )
        kept = await s.create(SIBLING, "kept")
        await remove_until_done(s, name)
        assert len(bulk_deletes(s)) == 1
        for each in (old.id, new.id, native.id, unknown):
            assert await s.content(each) is None
        assert await s.content(kept.id) == "kept"
        await refused(s.edit(CHILD, old.id, "gone"), NotFound)
        await s.quiet()
        assert await s.differences() == []
        again = await s.create(CHILD, "again")
        await s.quiet()
        assert await s.content(again.id) == "again"
        await s.step(Phase.A2)
        await s.quiet()
        assert {row["content"] for row in await s.database.fetch("SELECT content FROM agent_memories")} == {
            "kept",
            "again",
        }
        assert await s.differences() == []


async def test_in_a3_writes_are_refused_while_a_delete_may_still_land(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        name = f"workspace:{CHILD}"
        made = await s.create(CHILD, "goes")
        await s.quiet()
        late = s.proxy.hold(BULK)
        await refused(remove(s, name), Refused)
        for write in (s.create(CHILD, "too early"), s.edit(CHILD, made.id, "too early"), remove(s, name)):
            error = await refused(write, Exception)
            assert isinstance(error, Refused | NotFound), error
        await late.release()
        assert len(bulk_deletes(s)) == 1

        async with asyncio.timeout(10):
            while True:
                try:
                    after = await s.create(CHILD, "after")
                    break
                except Refused:
                    await asyncio.sleep(0.05)
        await s.quiet()
        assert await s.content(after.id) == "after"
        assert await s.differences() == []


async def test_in_a3_a_delete_that_certainly_failed_opens_the_namespace_again(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        name = "custom:x"
        await s.commit(name, "goes", Kind.SUMMARY)
        fault = s.proxy.rule(BULK, answer(500), times=1)
        await refused(remove(s, name), Refused)
        assert fault.hits == 1
        assert (await s.commit(name, "stays", Kind.SUMMARY)).namespace == name
        s.proxy.rule(BULK, swallow(), times=1)
        await refused(remove(s, name), Refused)
        await refused(s.commit(name, "too early", Kind.SUMMARY), Refused)
        await remove_until_done(s, name)
        await s.quiet()
        assert await shown(s, name) == set()
