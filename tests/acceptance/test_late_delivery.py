"""Issue 2 §7: a request that its sender gave up on arrives later. Nothing may diverge or come back.

The proxy holds the daemon's delivery past its deadline and lets it through within T_z. Whatever happened to the memory
meanwhile must be what both stores show in the end; and nothing may be sent for that memory before T_z has passed.
"""

from uuid import UUID, uuid4

import aiohttp
import pytest

from cutover.embedded.callers import Http, MemoriesCaller, Outcome
from cutover.embedded.fault_proxy import Held, ProxiedRequest, on, swallow
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import Scene

pytestmark = pytest.mark.acceptance
LONG = {"CUTOVER_QUARANTINE_SECONDS": "6"}
"""A T_z that a slow machine does not outlast between two lines of a test."""


def deliveries(made: Scene, memory_id: UUID) -> list[ProxiedRequest]:
    """The commits and forgets of one memory that reached the proxy, oldest first."""
    named = str(memory_id)
    return [each for each in made.proxy.seen if named in each.path or named.encode() in each.body]


async def start(made: Scene, session: aiohttp.ClientSession) -> tuple[MemoriesCaller, UUID]:
    """A1 with one memory that both stores hold."""
    await made.enter("A1")
    caller = MemoriesCaller(Http(session, made.daemon.at.memories))
    created = await caller.create(made.seats[0], "first words", "LOCAL", "general")
    assert created.memory_id is not None
    await made.drained()
    assert len(deliveries(made, created.memory_id)) == 1
    return caller, created.memory_id


async def late_edit(made: Scene, caller: MemoriesCaller, memory_id: UUID) -> Held:
    """An edit whose delivery is held; its caller got an answer all the same, for legacy is the authority."""
    held = made.proxy.hold(on("POST", r"/memories$", body=str(memory_id)))
    edited = await caller.edit(made.seats[0], memory_id, "second words")
    assert edited.outcome is Outcome.DONE
    assert held.arrived.is_set()
    return held


async def test_a_late_edit_does_not_undo_a_later_edit(make_scene: MakeScene, session: aiohttp.ClientSession) -> None:
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    held = await late_edit(made, caller, memory_id)
    assert (await caller.edit(made.seats[0], memory_id, "third words")).outcome is Outcome.DONE
    assert len(deliveries(made, memory_id)) == 2, "nothing is sent while the second may still arrive"
    await held.release()
    assert (await made.witness.plugin())[memory_id].content == "second words"
    await made.drained()
    assert (await made.witness.legacy())[memory_id] == "third words"
    assert (await made.witness.plugin())[memory_id].content == "third words"


async def test_a_late_edit_does_not_resurrect_a_deleted_memory(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    held = await late_edit(made, caller, memory_id)
    assert (await caller.delete(made.seats[0], memory_id)).outcome is Outcome.DONE
    assert len(deliveries(made, memory_id)) == 2
    await held.release()
    await made.drained()
    assert memory_id not in await made.witness.legacy()
    assert memory_id not in await made.witness.plugin()


async def test_a_late_create_of_a_memory_deleted_meanwhile(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene(settings=LONG)
    await made.enter("A1")
    caller, seat = MemoriesCaller(Http(session, made.daemon.at.memories)), made.seats[0]
    held = made.proxy.hold(on("POST", r"/memories$", body="short-lived"))
    created = await caller.create(seat, "short-lived words", "LOCAL", "general")
    assert created.memory_id is not None
    assert (await caller.delete(seat, created.memory_id)).outcome is Outcome.DONE
    await held.release()
    await made.drained()
    assert created.memory_id not in await made.witness.legacy()
    assert created.memory_id not in await made.witness.plugin()


async def test_a_late_forget_does_not_undo_a_create_with_the_same_id(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    """A deleted id comes back by direct SQL while the forget is still on its way."""
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    held = made.proxy.hold(on("DELETE", str(memory_id)))
    assert (await caller.delete(made.seats[0], memory_id)).outcome is Outcome.DONE
    assert held.arrived.is_set()
    connection = await made.witness.connection()
    await connection.execute(
        "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, 'restored words', 'LOCAL')",
        memory_id,
        made.seats[0].workspace_id,
    )
    await held.release()
    await made.drained()
    assert (await made.witness.legacy())[memory_id] == "restored words"
    assert (await made.witness.plugin())[memory_id].content == "restored words"


async def test_the_quarantine_time_survives_a_sigkill(make_scene: MakeScene, session: aiohttp.ClientSession) -> None:
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    held = await late_edit(made, caller, memory_id)
    made.daemon.child.kill()
    await made.daemon.child.start()
    assert len(deliveries(made, memory_id)) == 2, "the restarted daemon waits out T_z too"
    assert (await caller.delete(made.seats[0], memory_id)).outcome is Outcome.DONE
    assert len(deliveries(made, memory_id)) == 2
    await held.release()
    await made.drained()
    assert memory_id not in await made.witness.plugin()


async def test_a3_a_late_write_that_was_refused_is_taken_back(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    await made.enter("A2", "A3")
    held = made.proxy.hold(on("POST", r"/memories$", body=str(memory_id)))
    edited = await caller.edit(made.seats[0], memory_id, "never acknowledged")
    assert edited.status == 503
    await held.release()
    assert (await made.witness.plugin())[memory_id].content == "never acknowledged"
    await made.drained()
    assert (await made.witness.plugin())[memory_id].content == "first words"


@pytest.mark.parametrize("phase", ["A1", "A3"])
async def test_a_lost_answer_converges(make_scene: MakeScene, session: aiohttp.ClientSession, phase: str) -> None:
    """The plugin applied it and the answer was lost."""
    made = await make_scene(settings=LONG)
    caller, memory_id = await start(made, session)
    await made.enter(*[each for each in ("A2", "A3") if each <= phase])
    made.proxy.rule(on("POST", r"/memories$", body=str(memory_id)), swallow(), times=1)
    edited = await caller.edit(made.seats[0], memory_id, "second words")
    assert edited.status == (200 if phase == "A1" else 503)
    await made.drained()
    final = "second words" if phase == "A1" else "first words"
    assert (await made.witness.plugin())[memory_id].content == final
    if phase == "A1":
        assert (await made.witness.legacy())[memory_id] == final


async def test_an_idempotent_create_is_one_memory_whatever_is_lost(
    make_scene: MakeScene, session: aiohttp.ClientSession
) -> None:
    made = await make_scene(settings=LONG)
    await made.enter("A1")
    caller, seat = MemoriesCaller(Http(session, made.daemon.at.memories)), made.seats[0]
    key = str(uuid4())
    made.proxy.rule(on("POST", r"/memories$"), swallow(), times=1)
    replies = [await caller.create(seat, "once", "LOCAL", "general", key) for _ in range(3)]
    assert {reply.outcome for reply in replies} == {Outcome.DONE}
    assert len({reply.memory_id for reply in replies}) == 1
    await made.drained()
    assert list((await made.witness.legacy()).values()).count("once") == 1
    assert [row.content for row in (await made.witness.plugin()).values()].count("once") == 1
