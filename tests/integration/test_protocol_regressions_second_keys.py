"""Idempotency keys whose request came to nothing, and keys whose record is gone."""

import asyncio
from dataclasses import dataclass

import pytest

from cutover.domain.errors import Conflict
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import CommitMemory, CreateMemory, Receipt
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD

PLACE = f"workspace:{CHILD}"
COMMITS = on("POST", r"/memories$")


@dataclass(frozen=True)
class Keyed:
    """The keyed create of one face."""

    contract: bool

    async def ask(self, s: Scene) -> Receipt:
        if self.contract:
            asked = CommitMemory(PLACE, "once", idempotency_key="k")
            return await s.tenant.memories.commit(asked, caller("plugin"))
        return await s.tenant.memories.create(CreateMemory(CHILD, "once", Scope.LOCAL, "facts", "k"), caller())


FACES = pytest.mark.parametrize("face", [Keyed(True), Keyed(False)], ids=["contract", "v1"])


@FACES
async def test_an_intent_that_the_plugin_refuses_after_a_crash_is_quarantined_and_kept(
    database: str, face: Keyed
) -> None:
    """Its caller may have heard a yes just before the crash: nothing is taken back, and the operator is told."""
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        held = s.proxy.hold(COMMITS)
        s.daemons[0].start(face.ask(s))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[0].abandon()
        s.proxy.clear()
        s.proxy.rule(COMMITS, answer(422, {"code": "bad_request", "message": "no"}))
        await s.daemon()

        async def quarantined() -> bool:
            return await s.count("cutover.quarantine") == 1

        await until(quarantined, "the memory to be quarantined", timeout=15, every=0.02)
        rows = await s.database.fetch("SELECT memory_id, state, content FROM cutover.journal")
        assert [(row["state"], row["content"]) for row in rows] == [("applied", "once")]
        again = await face.ask(s)
        assert again.id == rows[0]["memory_id"]
        assert await s.marks() == {}


@FACES
@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A2, Phase.A3])
async def test_a_key_without_its_record_changes_nothing(database: str, phase: Phase, face: Keyed) -> None:
    async with scene(database, phase=phase) as s:
        made = await face.ask(s)
        await s.edit(CHILD, made.id, "edited since")
        if phase is not Phase.A0:
            await s.quiet()
        await s.database.execute("DELETE FROM cutover.idempotency")  # as after a week
        await refused(face.ask(s), Conflict)
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.content(made.id) == "edited since"
        if phase is not Phase.A3:
            row = await s.legacy(made.id)
            assert row is not None
            assert row["content"] == "edited since"
