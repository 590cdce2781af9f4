"""Coming back from A0 while the plugin's database cannot be searched for what legacy lost meanwhile."""

from typing import Any

from cutover.domain.errors import IllegalStep
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD


async def pending(s: Scene) -> bool:
    """Whether the search is still to be done."""
    return bool(await s.database.fetchval("SELECT strays_pending FROM cutover.phase_state"))


async def test_a_search_that_fails_keeps_a3_shut_and_is_done_later(database: str) -> None:
    async with scene(database, phase=Phase.A1, plugin_at=database) as s:
        made = await s.create(CHILD, "deleted while in A0")
        await s.quiet()
        await s.enter(Phase.A0)
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", made.id)
        await s.database.execute("ALTER TABLE memory_plugin.memory_records RENAME TO away")
        changed: dict[str, Any] = await s.step(Phase.A1)
        assert changed["to"] == "A1"
        assert any("failed and goes on" in note for note in changed["notes"])
        assert await pending(s)
        await s.enter(Phase.A2)
        error = await refused(s.step(Phase.A3), IllegalStep)
        assert "legacy lost" in str(error)
        assert await pending(s)
        await s.database.execute("ALTER TABLE memory_plugin.away RENAME TO memory_records")

        async def searched() -> bool:
            return not await pending(s)

        await until(searched, "the search", timeout=15, every=0.05)
        await s.quiet()
        assert await s.plugin(made.id) is None
        await s.enter(Phase.A3)
        assert await s.differences() == []
