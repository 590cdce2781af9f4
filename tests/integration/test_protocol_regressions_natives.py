"""Facts that become natives and natives that become facts: what was acknowledged is kept until the plugin has more."""

import asyncio
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import Conflict, Refused
from cutover.domain.memory import Kind, Source
from cutover.domain.phase import Phase
from cutover.domain.requests import CommitMemory, Receipt
from cutover.embedded.fault_proxy import Fault, answer, drop, on, swallow
from tests.integration.protocol_scene import Daemon, Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, ROOT

PLACE = f"workspace:{CHILD}"
COMMITS = on("POST", r"/memories$")


async def precious(s: Scene) -> UUID:
    """An acknowledged fact with everything that legacy keeps in a second table."""
    made = await s.commit(PLACE, "precious", id=uuid4(), source=Source.USER, pin=True, propagation={"from": "user"})
    await s.quiet()
    return made.id


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2])
@pytest.mark.parametrize("fault", [answer(500), answer(422), drop(), swallow()], ids=["500", "422", "drop", "swallow"])
async def test_a_summary_that_failed_leaves_the_fact_it_would_replace(
    database: str, phase: Phase, fault: Fault
) -> None:
    async with scene(database, phase=phase) as s:
        assert s.proxy is not None
        fact = await precious(s)
        before = await s.legacy(fact)
        rule = s.proxy.rule(COMMITS, fault)
        await refused(s.commit(PLACE, "summary", Kind.SUMMARY, id=fact), Exception)
        rule.off()
        assert rule.hits
        await s.quiet()
        after = await s.legacy(fact)
        assert after == before
        assert await s.content(fact) == "precious"
        assert await s.differences() == []
        assert await s.count("cutover.tombstone") == 0


async def test_a_summary_that_arrives_after_its_caller_was_told_no_gives_way_to_the_fact(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        fact = await precious(s)
        held = s.proxy.hold(COMMITS)
        await refused(s.commit(PLACE, "summary", Kind.SUMMARY, id=fact), Refused)
        await held.release()
        assert await s.content(fact) == "summary"  # for T_z at most
        await s.quiet()
        assert await s.content(fact) == "precious"
        assert await s.differences() == []


async def test_a_summary_refused_as_busy_leaves_the_fact(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        fact = await precious(s)
        # What another daemon's request under way leaves behind.
        await s.database.execute(
            "INSERT INTO cutover.mark (memory_id, rev, due_at, lease_id, lease_owner, sent_at, ambiguous, origin)"
            " VALUES ($1, nextval('cutover.rev_seq'), now() + interval '1 second', nextval('cutover.lease_seq'), $2,"
            " now(), true, 'write')",
            fact,
            uuid4(),
        )
        await refused(s.commit(PLACE, "summary", Kind.SUMMARY, id=fact), Refused)
        row = await s.legacy(fact)
        assert row is not None
        assert row["content"] == "precious"
        await s.quiet()
        assert await s.content(fact) == "precious"
        assert await s.differences() == []


async def test_a_summary_whose_daemon_died_replaces_the_fact(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        fact = await precious(s)
        held = s.proxy.hold(COMMITS)
        s.daemons[-1].start(s.commit(PLACE, "summary", Kind.SUMMARY, id=fact))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[-1].abandon()
        await s.daemon()
        await s.quiet()  # nobody was told no, so the intent is carried out
        assert await s.legacy(fact) is None
        assert await s.content(fact) == "summary"
        assert await s.differences() == []


async def test_a_summary_takes_the_place_of_a_fact_and_gives_it_back(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        fact = await precious(s)
        await s.commit(PLACE, "summary", Kind.SUMMARY, id=fact)
        await s.quiet()
        assert await s.legacy(fact) is None
        assert await s.count("cutover.native") == 1
        assert await s.differences() == []
        await s.commit(PLACE, "a fact again", id=fact)
        await s.quiet()
        row = await s.legacy(fact)
        assert row is not None
        assert row["content"] == "a fact again"
        assert await s.count("cutover.native") == 0
        assert await s.differences() == []


async def test_a_fact_over_a_native_in_a3_survives_the_way_back(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        native, other = uuid4(), uuid4()
        await s.commit(PLACE, "a native of A2", Kind.SUMMARY, id=native)
        await s.enter(Phase.A3)
        await s.commit(PLACE, "now a fact", id=native)
        await s.commit(PLACE, "a native of A3", Kind.SUMMARY, id=other)
        await s.commit(PLACE, "a fact, too", id=other)
        await s.quiet()
        await s.step(Phase.A2)
        for memory_id, content in ((native, "now a fact"), (other, "a fact, too")):
            row = await s.legacy(memory_id)
            assert row is not None
            assert (row["content"], row["workspace_id"], row["scope"]) == (content, CHILD, "LOCAL")
        await s.quiet()
        assert await s.differences() == []


async def test_a_native_over_a_fact_in_a3_survives_the_way_back(database: str) -> None:
    async with scene(database, phase=Phase.A2, delivery_deadline=2.0, plugin_timeout=2.0) as s:
        fact = await precious(s)
        await s.enter(Phase.A3)
        await s.commit(PLACE, "now a summary", Kind.SUMMARY, id=fact)
        await s.quiet()
        await s.step(Phase.A2)
        await s.quiet()
        assert await s.legacy(fact) is None
        assert await s.content(fact) == "now a summary"
        assert await s.differences() == []


async def test_a_native_under_way_keeps_its_id(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        first = s.daemons[0]
        await s.daemon()  # s.commit goes to this one from here on
        taken = uuid4()
        held = s.proxy.hold(on("POST", r"/memories$", "the native"))
        native = first.start(_commit(first, f"team:{ROOT}", "the native", Kind.SUMMARY, taken))
        await asyncio.wait_for(held.arrived.wait(), 5)
        error = await refused(s.commit(PLACE, "a fact", id=taken), Exception)
        assert isinstance(error, Conflict | Refused)
        assert await s.legacy(taken) is None
        await held.release()
        told = await asyncio.gather(native, return_exceptions=True)
        await s.quiet()
        assert await s.content(taken) == (None if isinstance(told[0], BaseException) else "the native")
        assert await s.differences() == []


async def _commit(daemon: Daemon, namespace: str, content: str, kind: Kind, memory_id: UUID) -> Receipt:
    return await daemon.tenant.memories.commit(CommitMemory(namespace, content, kind, id=memory_id), caller("plugin"))
