"""The write path on real stores (architecture §3): what is answered, what is marked, what arrives."""

import asyncio
from uuid import UUID

import pytest

from cutover.domain.errors import Conflict, NotFound, Refused
from cutover.domain.events import DeliverySettled
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import CreateMemory, EditMemory, Shadow
from cutover.embedded.fault_proxy import answer, drop, on, swallow
from cutover.embedded.processes import until
from tests.integration.protocol_scene import T_Z, Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, ROOT, SIBLING

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")


async def test_over_a_unix_socket(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        written = await s.create(CHILD, "sailing", Scope.TEAM)
        assert written.shadow is Shadow.DELIVERED
        await s.quiet()
        assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2])
async def test_what_is_delivered_is_in_both_stores_and_unmarked(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        made = [await s.create(CHILD, scope.value, scope) for scope in (Scope.LOCAL, Scope.TEAM)]
        made.append(await s.create(ROOT, "GLOBAL", Scope.GLOBAL))
        assert {m.shadow for m in made} == {Shadow.DELIVERED}
        assert [m.namespace for m in made] == [f"workspace:{CHILD}", f"team:{ROOT}", f"org:{ROOT}"]
        assert (await s.edit(CHILD, made[0].id, "edited", "facts")).shadow is Shadow.DELIVERED
        assert await s.delete(CHILD, made[1].id) is Shadow.DELIVERED
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(made[0].id) == "edited"
        assert await s.plugin(made[1].id) is None
        assert await s.count("cutover.tombstone") == 1


async def test_what_fails_is_pending_and_arrives_later(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        fault = s.proxy.rule(COMMITS, answer(500))
        made = await s.create(CHILD, "later")
        assert made.shadow is Shadow.PENDING
        assert await s.content(made.id) is None
        assert (await s.mark(made.id)) is not None
        fault.off()
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(made.id) == "later"


@pytest.mark.parametrize("status", [500, 422], ids=["failed", "rejected"])
async def test_a_delivery_that_the_reconciler_takes_over_is_told_as_a_retry(database: str, status: int) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        s.proxy.rule(COMMITS, answer(status), times=1)
        made = await s.create(CHILD, "later")
        assert made.shadow is Shadow.PENDING
        events = s.daemons[-1].events
        told = [each.outcome for each in events if isinstance(each, DeliverySettled) and each.path == "request"]
        assert told == ["retry"]


async def test_after_an_unclear_outcome_nothing_is_sent_before_t_z(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "first")
        await s.quiet()
        held = s.proxy.hold(COMMITS)
        edited = await s.edit(CHILD, made.id, "second")
        assert edited.shadow is Shadow.PENDING
        mark = await s.mark(made.id)
        assert mark is not None
        assert mark["ambiguous"]
        lease, due = mark["lease_id"], mark["due_at"]
        # Further writes of the memory are taken, but not sent: the old request may still arrive.
        again = await s.edit(CHILD, made.id, "third")
        assert again.shadow is Shadow.PENDING
        mark = await s.mark(made.id)
        assert mark is not None
        assert (mark["lease_id"], mark["due_at"]) == (lease, due)
        assert [r for r in s.proxy.seen if COMMITS(r) and b"third" in r.body] == []
        await held.release()
        assert await s.content(made.id) == "second"
        await s.quiet()
        assert await s.content(made.id) == "third"
        assert await s.differences() == []


async def test_t_z_outlives_the_daemon(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "first")
        await s.quiet()
        held = s.proxy.hold(COMMITS)
        request = s.daemons[-1].start(s.edit(CHILD, made.id, "second"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[-1].abandon()
        assert request.cancelled()
        mark = await s.mark(made.id)
        assert mark is not None
        assert mark["ambiguous"]
        before = len([r for r in s.proxy.seen if COMMITS(r) and b"second" in r.body])
        await s.daemon()
        await s.quiet()
        after = [r for r in s.proxy.seen if COMMITS(r) and b"second" in r.body]
        assert len(after) == before + 1  # sent again, once, by the new daemon
        waited = await s.database.fetchval("SELECT extract(epoch FROM now() - $1::timestamptz)", mark["sent_at"])
        assert waited > T_Z
        await held.release()
        assert await s.content(made.id) == "second"


async def test_a_bypass_between_legacy_write_and_clear_keeps_the_mark(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        held = s.proxy.hold(COMMITS)
        request = s.daemons[-1].start(s.create(CHILD, "mine"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        memory_id = await s.database.fetchval("SELECT id FROM agent_memories WHERE content = 'mine'")
        await s.database.execute("UPDATE agent_memories SET content = 'theirs' WHERE id = $1", memory_id)
        await held.release()
        made = await request
        assert made.shadow is Shadow.DELIVERED
        await s.quiet()
        assert await s.content(memory_id) == "theirs"
        assert await s.differences() == []


async def test_a_memory_leased_by_another_daemon_is_not_sent(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        one = s.daemons[-1]
        two = await s.daemon()
        made = await s.create(CHILD, "first")
        await s.quiet()
        held = s.proxy.hold(COMMITS)
        first = one.start(one.tenant.memories.edit(_edit(made.id, "one"), caller()))
        await asyncio.wait_for(held.arrived.wait(), 5)
        second = await two.tenant.memories.edit(_edit(made.id, "two"), caller())
        assert second.shadow is Shadow.PENDING
        assert [r for r in s.proxy.seen if COMMITS(r) and b'"two"' in r.body] == []
        await held.release()
        await first
        await s.quiet()
        assert await s.content(made.id) == "two"


async def test_a_phase_change_under_a_write_routes_it_anew(database: str) -> None:
    async with scene(database, phase=Phase.A0) as s:
        one = s.daemons[-1]
        two = await s.daemon()
        for phase in (Phase.A1, Phase.A2):
            await s.enter(phase)
            # `one` may not have heard yet; what it believes is made stale on purpose.
            stale = one.tenant.phase.state
            assert stale is not None
            made = await one.tenant.memories.create(_create(phase.value), caller())
            assert made.shadow is Shadow.DELIVERED
        await s.quiet()
        assert two.tenant.phase.current().phase is Phase.A2
        await s.step(Phase.A3)
        made = await one.tenant.memories.create(_create("A3"), caller())
        assert made.shadow is None
        assert await s.legacy(made.id) is None
        await s.quiet()
        assert await s.differences() == []


async def test_writes_go_on_without_an_error_while_phases_change(database: str) -> None:
    async with scene(database, phase=Phase.A0, delivery_deadline=8.0) as s:
        stop = asyncio.Event()
        made: list[object] = []

        async def write(number: int) -> None:
            one = s.daemons[number % 2]
            while not stop.is_set():
                created = await one.tenant.memories.create(_create(f"w{number} {len(made)}"), caller())
                made.append(created.id)
                edited = await one.tenant.memories.edit(_edit(created.id, f"e{number} {len(made)}"), caller())
                assert edited.changed

        await s.daemon()
        writers = [asyncio.create_task(write(number)) for number in range(4)]
        for phase in (Phase.A1, Phase.A2):
            await s.step(phase)
        await s.backfill()
        for phase in (Phase.A3, Phase.A2, Phase.A1, Phase.A2, Phase.A3):
            await s.step(phase)
        stop.set()
        await asyncio.gather(*writers)
        await s.quiet()
        assert await s.differences() == []
        assert len(made) == await s.database.fetchval(
            "SELECT count(*) FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%'"
        )


# -- A3 ---------------------------------------------------------------------------------------------------------------


async def test_a3_a_definite_failure_leaves_the_state_before(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "before")
        await s.quiet()
        fault = s.proxy.rule(COMMITS, answer(500), times=1)
        await refused(s.edit(CHILD, made.id, "after"), Refused)
        forgets = s.proxy.rule(FORGETS, answer(500), times=1)
        await refused(s.delete(CHILD, made.id), Refused)
        await _refused_create(s)
        await s.quiet()
        assert fault.hits == forgets.hits == 1
        assert await s.content(made.id) == "before"
        assert await s.differences() == []
        assert await s.count("cutover.tombstone") == 0


async def _refused_create(s: Scene) -> None:
    assert s.proxy is not None
    s.proxy.rule(COMMITS, answer(500), times=1)
    await refused(s.create(CHILD, "never was"), Refused)


@pytest.mark.parametrize("late", [False, True], ids=["answer swallowed", "arrives after T_z began"])
async def test_a3_an_unclear_outcome_ends_in_the_state_the_caller_was_told(database: str, late: bool) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "before")
        await s.quiet()
        held = s.proxy.hold(COMMITS) if late else None
        if not late:
            s.proxy.rule(COMMITS, swallow(), times=1)
        error = await refused(s.edit(CHILD, made.id, "after"), Refused)
        assert isinstance(error, Refused)
        assert error.reason == "unresolved"
        if held is not None:
            await held.release()
        assert await s.content(made.id) == "after"  # for now
        assert isinstance(await refused(s.edit(CHILD, made.id, "too early"), Refused), Refused)
        await s.quiet()
        assert await s.content(made.id) == "before"
        assert await s.differences() == []
        assert (await s.edit(CHILD, made.id, "and on")).changed


async def test_a3_an_unclear_delete_and_an_unclear_create_are_undone(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "stays")
        await s.quiet()
        s.proxy.rule(FORGETS, swallow(), times=1)
        await refused(s.delete(CHILD, made.id), Refused)
        assert await s.content(made.id) is None
        s.proxy.rule(COMMITS, swallow(), times=1)
        await refused(s.create(CHILD, "goes"), Refused)
        await s.quiet()
        assert await s.content(made.id) == "stays"
        assert await s.differences() == []


async def test_a3_an_intent_that_a_crash_left_is_delivered(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        s.proxy.rule(COMMITS, drop())
        s.proxy.clear()
        held = s.proxy.hold(COMMITS)
        s.daemons[-1].start(s.create(CHILD, "nobody was told no"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[-1].abandon()
        await s.daemon()
        await s.quiet()
        assert await s.database.fetchval("SELECT state FROM cutover.journal") == "applied"
        assert await s.differences() == []


async def test_a3_direct_sql_that_gets_past_the_freeze_is_journaled_and_arrives(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        await s.tamper()
        made = await s.create(CHILD, "by the daemon")
        inserted = await s.insert(CHILD, "by hand", label="facts")
        await s.quiet()
        assert await s.content(inserted) == "by hand"
        await s.database.execute("UPDATE agent_memories SET content = 'changed' WHERE id = $1", inserted)
        await s.quiet()
        assert await s.content(inserted) == "changed"
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", inserted)
        await s.quiet()
        assert await s.content(inserted) is None
        assert await s.content(made.id) == "by the daemon"
        assert await s.differences() == []
        writers = set(
            await s.database.fetch("SELECT DISTINCT writer FROM cutover.journal WHERE memory_id = $1", inserted)
        )
        assert {row["writer"].split("/")[0] for row in writers} == {"somebody-else"}


async def test_a3_update_of_an_id_by_direct_sql_that_gets_past_the_freeze_moves_the_memory(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        await s.tamper()
        inserted = await s.insert(CHILD, "by hand")
        await s.quiet()
        other = await s.database.fetchval(
            "UPDATE agent_memories SET id = gen_random_uuid() WHERE id = $1 RETURNING id", inserted
        )
        await s.quiet()
        assert await s.content(inserted) is None
        assert await s.content(other) == "by hand"


async def test_a3_a_withdrawn_delete_keeps_what_only_the_contract_knows(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        made = await s.commit(f"workspace:{CHILD}", "pinned", pin=True, propagation={"mine": 1})
        await s.enter(Phase.A3)
        s.proxy.rule(FORGETS, answer(500), times=1)
        await refused(s.delete(CHILD, made.id), Refused)
        await s.quiet()
        row = await s.plugin(made.id)
        assert row is not None
        assert row["pin"]
        assert row["propagation"]["mine"] == 1


async def test_a3_the_plugin_decides_about_what_nobody_else_knows(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        await s.commit("custom:mine", "mine", Kind.SUMMARY)
        stranger = await s.database.fetchval(
            "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
            " VALUES (gen_random_uuid(), 'custom:mine', 'unknown', 'fact', 'agent') RETURNING id"
        )
        await s.forget("custom:mine", stranger)
        assert await s.content(stranger) is None
        await refused(s.forget("custom:mine", stranger), NotFound)


# -- ids and rights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A2, Phase.A3])
async def test_another_workspaces_memory_is_never_overwritten(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        made = await s.create(CHILD, "mine")
        await refused(s.commit(f"workspace:{SIBLING}", "stolen", id=made.id), Conflict)
        await refused(s.edit(SIBLING, made.id, "stolen"), NotFound)
        await refused(s.delete(SIBLING, made.id), NotFound)
        await refused(s.forget(f"workspace:{SIBLING}", made.id), NotFound)
        assert (await s.commit(f"workspace:{CHILD}", "replaced", id=made.id)).id == made.id
        if phase is not Phase.A0:
            await s.quiet()
            assert await s.content(made.id) == "replaced"
            assert await s.differences() == []


async def test_concurrent_edits_of_one_memory_end_alike_in_both_stores(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        made = await s.create(CHILD, "0")
        await s.daemon()
        for _ in range(3):
            await asyncio.gather(
                *(
                    daemon.tenant.memories.edit(_edit(made.id, f"{number}"), caller())
                    for number in range(1, 9)
                    for daemon in s.daemons
                )
            )
        await s.quiet()
        row = await s.legacy(made.id)
        assert row is not None
        assert await s.content(made.id) == row["content"]


async def test_marks_of_a_dead_plugin_wait_and_drain_when_it_is_back(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        kept = await s.create(CHILD, "kept")
        await s.proxy.refuse()
        rows = [await s.insert(CHILD, f"row {number}") for number in range(5)]
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", kept.id)
        assert set(await s.marks()) >= {*rows, kept.id}
        await s.proxy.accept()

        async def up() -> bool:
            return s.tenant.health.up

        await until(up, "the plugin", timeout=10)
        await s.quiet()
        assert await s.differences() == []


def _edit(memory_id: UUID, content: str) -> EditMemory:
    return EditMemory(CHILD, memory_id, content)


def _create(content: str) -> CreateMemory:
    return CreateMemory(CHILD, content, Scope.LOCAL)
