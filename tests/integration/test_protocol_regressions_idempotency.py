"""Idempotency keys: two daemons at once, and a key beside an id."""

import asyncio
from uuid import uuid4

import pytest

from cutover.domain.errors import Conflict, InvalidRequest
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import CommitMemory, CreateMemory, Receipt
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting, waiting
from tests.integration.protocol_scene import Daemon, caller, refused, scene
from tests.integration.read_scene import CHILD, STRANGER

PLACE = f"workspace:{CHILD}"


async def ask(daemon: Daemon, *, contract: bool) -> Receipt:
    """The keyed create; asked again for as long as the answer is that it still runs (409)."""
    while True:
        try:
            if contract:
                return await daemon.tenant.memories.commit(
                    CommitMemory(PLACE, "once", idempotency_key="k"), caller("plugin")
                )
            return await daemon.tenant.memories.create(CreateMemory(CHILD, "once", Scope.LOCAL, "facts", "k"), caller())
        except Conflict as error:
            if "still running" not in error.message:
                raise
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("contract", [True, False], ids=["contract", "v1"])
@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A3])
async def test_two_daemons_with_one_key_make_one_memory_and_answer_alike(
    database: str, phase: Phase, contract: bool
) -> None:
    async with scene(database, phase=phase, delivery_deadline=2.0) as s:
        await s.daemon()
        async with foreign_transaction(database) as stranger:
            # The first waits with its row written, the second for the first.
            await stranger.execute("LOCK TABLE cutover.idempotency IN SHARE MODE")
            one = asyncio.create_task(ask(s.daemons[0], contract=contract))
            await until_waiting(s.database, "cutover.")
            two = asyncio.create_task(ask(s.daemons[1], contract=contract))

            async def both() -> bool:
                return await waiting(s.database, "cutover.") >= 2

            await until(both, "both daemons in the database", timeout=5, every=0.005)
            await stranger.execute("ROLLBACK")
            first, second = await asyncio.gather(one, two)
        assert (first.id, first.namespace, first.scope) == (second.id, second.namespace, second.scope)
        assert first.label == second.label
        held = "cutover.journal" if phase is Phase.A3 else "agent_memories"
        assert await s.count(held) == 1
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A3])
async def test_a_key_beside_an_id_is_refused(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        for memory_id in (uuid4(), (await s.create(CHILD, "there already")).id):
            await refused(s.commit(PLACE, "again", id=memory_id, idempotency_key="k"), InvalidRequest)
        assert await s.count("cutover.idempotency") == 0


async def test_a_replay_is_not_refused_because_the_reconciler_has_the_memory(database: str) -> None:
    async with scene(database, phase=Phase.A1, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "once", key="k")
        await s.quiet()
        held = s.proxy.hold(on("POST", r"/memories$", "once"))
        await s.database.execute("UPDATE agent_memories SET updated_at = now() WHERE id = $1", made.id)
        await asyncio.wait_for(held.arrived.wait(), 5)
        replay = asyncio.create_task(s.create(CHILD, "once", key="k"))
        inflight = s.tenant.memories._writes._inflight

        async def asked() -> bool:
            return replay.done() or bool(inflight._waiters[made.id])

        await until(asked, "the replay", timeout=5, every=0.005)
        await held.release()
        assert (await replay).id == made.id
        await s.quiet()
        assert await s.differences() == []


async def test_a_replay_in_a3_is_answered_while_the_memory_waits_for_another_reason(database: str) -> None:
    async with scene(database, phase=Phase.A3, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "once", Scope.TEAM, key="k")
        await s.quiet()
        rule = s.proxy.rule(on("POST", r"/memories$", "once"), answer(500))
        # The memory now belongs to another team and cannot be moved there yet; its create is long over.
        await s.database.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, STRANGER)
        assert await s.mark(made.id) is not None
        again = await s.create(CHILD, "once", Scope.TEAM, key="k")
        assert again.id == made.id
        rule.off()
        await s.quiet()
        assert await s.differences() == []
