"""Legacy on PostgreSQL 15 as Debian ships it, without pgvector; the plugin in a PostgreSQL 16 of its own."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import Shadow
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, STRANGER

pytestmark = pytest.mark.pg15
_BEFORE = [(uuid4(), workspace, f"before {n}", "LOCAL") for n in range(40) for workspace in (CHILD, STRANGER)]


@pytest.fixture
async def tenant(make_database: MakeDatabase, make_database15: MakeDatabase) -> AsyncIterator[Scene]:
    """In A0, with rows from before."""
    legacy = await make_database15(embedding=False)
    plugin = await make_database(legacy=False)
    async with scene(legacy, plugin_at=plugin, rows=_BEFORE) as s:
        yield s


async def test_it_is_postgresql_15_without_pgvector(make_database15: MakeDatabase) -> None:
    connection = await asyncpg.connect(await make_database15(embedding=False))
    try:
        assert 150000 <= int(await connection.fetchval("SHOW server_version_num")) < 160000
        assert not await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
    finally:
        await connection.close()


async def test_a_whole_move_and_back(tenant: Scene) -> None:
    s = tenant
    assert (await s.create(CHILD, "in A0")).shadow is None
    await s.enter(Phase.A1)
    made = [await s.create(CHILD, "in A1", scope) for scope in (Scope.LOCAL, Scope.TEAM)]
    made.append(await s.create(ROOT, "in A1, für alle 🌍", Scope.GLOBAL))
    assert {each.shadow for each in made} == {Shadow.DELIVERED}
    assert (await s.edit(CHILD, made[0].id, "edited in A1", "facts")).shadow is Shadow.DELIVERED
    past = await s.insert(GRANDCHILD, "past the daemon", "TEAM")
    native = await s.commit("custom:notes", "native", Kind.SUMMARY)

    await s.enter(Phase.A2)
    await s.delete(CHILD, made[1].id)
    await s.database.execute("DELETE FROM agent_memories WHERE id = $1", _BEFORE[0][0])
    await s.database.execute("UPDATE agent_memories SET content = 'changed past it' WHERE id = $1", _BEFORE[1][0])
    await s.quiet()
    assert await s.differences() == []
    assert await s.content(past) == "past the daemon"
    assert await s.content(_BEFORE[1][0]) == "changed past it"
    assert await s.plugin(_BEFORE[0][0]) is None
    assert (await s.sweep())["unexplained"] == 0

    await s.enter(Phase.A3)
    late = await s.create(CHILD, "in A3", label="procedures")
    await s.edit(CHILD, made[0].id, "edited in A3")
    await s.delete(STRANGER, _BEFORE[3][0])
    await s.quiet()
    assert await s.differences() == []
    assert await s.legacy(late.id) is None

    await s.step(Phase.A2)
    await s.quiet()
    assert await s.differences() == []
    rows = {row["id"]: row for row in await s.database.fetch("SELECT * FROM agent_memories")}
    assert (rows[late.id]["content"], rows[late.id]["namespace"]) == ("in A3", "procedures")
    assert rows[made[0].id]["content"] == "edited in A3"
    assert rows.keys().isdisjoint({_BEFORE[0][0], _BEFORE[3][0], made[1].id})
    assert native.id not in rows
    assert (await s.sweep())["unexplained"] == 0
