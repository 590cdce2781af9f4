"""The checks check something: the history checker finds each fault when the daemon is deceived into it.

A proxy that lies makes a variant of the system in which an acknowledged write is lost, a deleted memory comes back, or
a content is changed on its way, although the daemon does everything right. If the checker (or the count sweep, for
faults that a count can show) were silent about these, its silence elsewhere would mean nothing.
"""

from uuid import uuid4

import aiohttp
import pytest

from cutover.embedded import fault_proxy
from cutover.embedded.callers import Http, MemoriesCaller
from cutover.embedded.fault_proxy import ProxiedRequest, on
from cutover.embedded.history import Operation, OperationKind, OperationOutcome
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene

pytestmark = pytest.mark.acceptance


def taken(request: ProxiedRequest) -> dict[str, str]:
    """What a plugin says that has stored it."""
    return {"id": request.json()["id"], "namespace": request.path.split("/")[3]}


async def some_traffic(made: Scene) -> None:
    """A second of honest traffic, so that the fault has something to hide in."""
    traffic = made.traffic(seed=11)
    async with traffic:
        await traffic.run(1.0)
    await made.assert_converged()


async def test_a_plugin_that_only_says_it_stored_a_memory(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene()
    await made.enter("A1", "A2", "A3")
    made.proxy.rule(on("POST", r"/memories$", body="never stored"), fault_proxy.answer(201, taken))
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    reply = await caller.create(made.seats[0], "this is never stored", "LOCAL", "general")
    assert reply.memory_id is not None
    made.history.record(
        Operation(
            OperationKind.CREATE, reply.memory_id, "this is never stored", 0.0, 1.0, OperationOutcome.ACKNOWLEDGED
        )
    )
    await made.drained()
    verdict = await made.witness.judge(made.history, "plugin")
    assert verdict.lost == (reply.memory_id,)


async def test_the_same_lie_in_a2_diverges_and_the_count_sweep_sees_it(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene()
    await made.enter("A1")
    await some_traffic(made)
    await made.enter("A2")
    await made.control.copy(timeout=30)  # before it, the sweep would take the row for one not yet copied
    made.proxy.rule(on("POST", r"/memories$", body="never stored"), fault_proxy.answer(201, taken))
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    reply = await caller.create(made.seats[0], "this is never stored", "LOCAL", "general")
    await made.drained()
    verdict = await made.witness.judge(made.history)
    assert verdict.diverged == (reply.memory_id,)
    assert (await made.control.sweep())["unexplained"] == 1


async def test_a_plugin_that_applies_an_old_upsert_after_the_delete(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene()
    await made.enter("A1", "A2", "A3")
    await some_traffic_in_a3(made)
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    reply = await caller.create(made.seats[0], "to be deleted", "LOCAL", "general")
    assert reply.memory_id is not None
    made.history.record(
        Operation(OperationKind.CREATE, reply.memory_id, "to be deleted", 0.0, 1.0, OperationOutcome.ACKNOWLEDGED)
    )
    old = next(each for each in reversed(made.proxy.seen) if b"to be deleted" in each.body)
    await caller.delete(made.seats[0], reply.memory_id)
    made.history.record(Operation(OperationKind.DELETE, reply.memory_id, None, 2.0, 3.0, OperationOutcome.ACKNOWLEDGED))
    await made.drained()
    assert (await made.witness.judge(made.history, "plugin")).findings == ()
    await made.proxy.send(old)
    assert (await made.witness.judge(made.history, "plugin")).resurrected == (reply.memory_id,)


async def some_traffic_in_a3(made: Scene) -> None:
    """As `some_traffic`, without SQL past the daemon."""
    traffic = made.traffic(seed=12)
    await traffic.stop_sql()
    async with traffic:
        await traffic.run(1.0)
    await made.assert_converged("plugin")


async def test_a_plugin_that_stores_something_else(make_scene: MakeScene, session: aiohttp.ClientSession) -> None:
    made = await make_scene()
    await made.enter("A1")
    await some_traffic(made)
    made.proxy.rule(
        on("POST", r"/memories$", body="precisely this"),
        fault_proxy.alter(lambda body: {**body, "content": "something like this"}),
    )
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    reply = await caller.create(made.seats[0], "precisely this", "LOCAL", "general", str(uuid4()))
    await made.drained()
    assert (await made.witness.judge(made.history)).diverged == (reply.memory_id,)


async def test_a_write_that_is_undone_behind_everybodys_back_is_stale(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    """An old delivery applied over a newer one, in A3 where the plugin is all there is."""
    made = await make_scene()
    await made.enter("A1", "A2", "A3")
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    reply = await caller.create(made.seats[0], "first words", "LOCAL", "general")
    assert reply.memory_id is not None
    old = next(each for each in reversed(made.proxy.seen) if b"first words" in each.body)
    await caller.edit(made.seats[0], reply.memory_id, "second words")
    for number, (kind, content) in enumerate(
        ((OperationKind.CREATE, "first words"), (OperationKind.EDIT, "second words"))
    ):
        made.history.record(
            Operation(kind, reply.memory_id, content, number, number + 0.5, OperationOutcome.ACKNOWLEDGED)
        )
    await made.drained()
    assert (await made.witness.judge(made.history, "plugin")).findings == ()
    await made.proxy.send(old)
    assert (await made.witness.judge(made.history, "plugin")).stale == (reply.memory_id,)
