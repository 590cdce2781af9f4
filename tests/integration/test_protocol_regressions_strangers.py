"""Memories that only the plugin knows: neither legacy nor the journal ever had them."""

from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.domain.errors import NotFound, Refused
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import Fault, answer, on, swallow
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD

PLACE = f"workspace:{CHILD}"
FORGETS = on("DELETE", r"/v1/memories/")


async def stranger(s: Scene, database: str) -> UUID:
    """A memory put straight into the plugin's tables, in a namespace it knows."""
    await s.commit(PLACE, "opens the namespace")
    memory_id = uuid4()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
            " VALUES ($1, $2, 'stranger', 'fact', 'agent')",
            memory_id,
            PLACE,
        )
    finally:
        await connection.close()
    return memory_id


async def test_it_is_forgotten_when_asked_and_not_found_a_second_time(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        memory_id = await stranger(s, database)
        await s.forget(PLACE, memory_id)
        assert await s.plugin(memory_id) is None
        await refused(s.forget(PLACE, memory_id), NotFound)
        await s.quiet()
        assert await s.marks() == {}


@pytest.mark.parametrize("fault", [answer(500), answer(503)], ids=["500", "503"])
async def test_a_forget_that_its_caller_was_told_failed_does_not_happen_later(database: str, fault: Fault) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        memory_id = await stranger(s, database)
        await s.quiet()
        rule = s.proxy.rule(FORGETS, fault)
        await refused(s.forget(PLACE, memory_id), Refused)
        rule.off()
        await s.quiet()
        assert await s.content(memory_id) == "stranger"


async def test_an_unclear_forget_is_not_promised_to_be_undone(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        memory_id = await stranger(s, database)
        await s.quiet()
        rule = s.proxy.rule(FORGETS, swallow())
        error = await refused(s.forget(PLACE, memory_id), Refused)
        rule.off()
        assert "may still be carried out" in str(error)
