"""Idempotency-Key on creates (architecture §3): replays answer alike, in whatever phase they come."""

import asyncio

import pytest

from cutover.domain.errors import Conflict, KeyReused, Refused
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import CreateMemory, Receipt
from cutover.embedded.fault_proxy import answer, on, swallow
from tests.integration.protocol_scene import caller, refused, scene
from tests.integration.read_scene import CHILD, SIBLING

COMMITS = on("POST", r"/memories$")
PHASES = [Phase.A0, Phase.A1, Phase.A2, Phase.A3]


def same(one: Receipt, other: Receipt) -> bool:
    return (one.id, one.namespace, one.scope, one.label) == (other.id, other.namespace, other.scope, other.label)


@pytest.mark.parametrize("phase", PHASES)
async def test_the_same_key(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        first = await s.create(CHILD, "once", label="facts", key="k")
        assert same(first, await s.create(CHILD, "once", label="facts", key="k"))
        for other in (
            s.create(CHILD, "other", label="facts", key="k"),
            s.create(CHILD, "once", label="other", key="k"),
        ):
            await refused(other, KeyReused)
        assert (await s.create(SIBLING, "once", label="facts", key="k")).id != first.id
        assert (await s.create(CHILD, "once", label="facts", key="l")).id != first.id
        made = await s.commit(f"workspace:{CHILD}", "once", idempotency_key="c")
        assert made.id != first.id
        assert same(made, await s.commit(f"workspace:{CHILD}", "once", idempotency_key="c"))
        await refused(s.commit(f"workspace:{CHILD}", "once", idempotency_key="c", pin=True), KeyReused)
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.differences() == []
            native = await s.commit("custom:x", "once", Kind.SUMMARY, idempotency_key="k")
            assert same(native, await s.commit("custom:x", "once", Kind.SUMMARY, idempotency_key="k"))


async def test_a_key_is_kept_across_phases_and_changes(database: str) -> None:
    async with scene(database) as s:
        made: list[tuple[str, Receipt]] = []
        for phase in (*PHASES[1:], Phase.A2):
            made.append((f"in {s.tenant.phase.current().phase}", await s.create(CHILD, "once", key=f"{len(made)}")))
            await s.enter(phase)
            for number, (_, receipt) in enumerate(made):
                assert same(receipt, await s.create(CHILD, "once", key=f"{number}"))
        edited, deleted = made[0][1].id, made[1][1].id
        await s.edit(CHILD, edited, "edited since")
        await s.delete(CHILD, deleted)
        assert (await s.create(CHILD, "once", key="0")).id == edited
        assert (await s.create(CHILD, "once", key="1")).id == deleted
        await s.quiet()
        assert await s.content(edited) == "edited since"
        assert await s.content(deleted) is None
        assert await s.differences() == []


@pytest.mark.parametrize("phase", PHASES)
async def test_of_many_at_once_one_writes(database: str, phase: Phase) -> None:
    # Patient: on a slow machine twelve at once may take longer than the scene's short deadline, and none would succeed.
    async with scene(database, phase=phase, plugin_timeout=10.0, delivery_deadline=10.0) as s:
        two = await s.daemon()
        one = s.daemons[0].tenant
        requests = [
            tenant.memories.create(CreateMemory(CHILD, "once", Scope.LOCAL, None, "k"), caller())
            for tenant in (one, two.tenant)
            for _ in range(6)
        ]
        answers = await asyncio.gather(*requests, return_exceptions=True)
        good = [each for each in answers if isinstance(each, Receipt)]
        assert good
        assert len({each.id for each in good}) == 1
        for each in answers:
            assert isinstance(each, Receipt | Conflict | Refused), each
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.differences() == []
        held = "agent_memories" if phase is not Phase.A3 else "cutover.journal"
        assert await s.count(held) == 1


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A3])
@pytest.mark.parametrize("fault", ["definite", "swallowed"])
async def test_a_withdrawn_write_frees_its_key(database: str, phase: Phase, fault: str) -> None:
    async with scene(database, phase=phase) as s:
        assert s.proxy is not None
        s.proxy.rule(COMMITS, answer(500) if fault == "definite" else swallow(), times=1)

        async def attempt(content: str) -> Receipt:
            if phase is Phase.A3:
                return await s.create(CHILD, content, key="k")
            return await s.commit("custom:x", content, Kind.SUMMARY, idempotency_key="k")

        await refused(attempt("first"), Refused)
        await s.quiet()
        made = await attempt("second")  # even with another body: the first never was
        assert same(made, await attempt("second"))
        await s.quiet()
        assert await s.content(made.id) == "second"
        assert await s.differences() == []


async def test_a_withdrawn_edit_does_not_free_the_key_of_the_create(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "once", key="k")
        await s.edit(CHILD, made.id, "edited since")
        s.proxy.rule(COMMITS, answer(500), times=1)
        await refused(s.edit(CHILD, made.id, "never was"), Refused)
        await s.quiet()
        assert same(made, await s.create(CHILD, "once", key="k"))
        await s.quiet()
        assert await s.content(made.id) == "edited since"


async def test_while_the_first_still_runs_the_second_is_told_so(database: str) -> None:
    async with scene(database, phase=Phase.A3, delivery_deadline=2.0) as s:
        assert s.proxy is not None
        held = s.proxy.hold(COMMITS)
        first = s.daemons[-1].start(s.create(CHILD, "once", key="k"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await refused(s.create(CHILD, "once", key="k"), Conflict)
        two = await s.daemon()
        assert two.tenant is s.tenant
        await refused(s.create(CHILD, "once", key="k"), Conflict)
        await held.release()
        await first
        await s.quiet()
        assert same(await first, await s.create(CHILD, "once", key="k"))
