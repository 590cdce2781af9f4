"""A2 → A3 is one transaction under a short hold: cut anywhere it is wholly A2 or wholly A3 (issue 4 §3)."""

import asyncio
import time

import pytest

from cutover.domain.errors import CutoverError, IllegalStep, Refused
from cutover.domain.events import WritesHeld
from cutover.domain.phase import Phase
from cutover.stores.database import Connection
from cutover.stores.freeze import FreezeStore
from tests.integration.cutting import cut
from tests.integration.lock_scene import foreign_transaction
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD

TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_freeze%'"


async def wholly(s: Scene) -> Phase:
    """The phase, after making sure that everything else agrees with it: freeze, triggers, who may write what."""
    phase = (await s.tenant.phase.reload()).phase
    freeze = await FreezeStore(s.database).state()
    assert await FreezeStore(s.database).faults() == []
    if phase is Phase.A3:
        assert freeze is not None
        assert freeze.mode == "frozen"
        await refused(s.insert(CHILD, "by hand"), CutoverError)
        made = await s.create(CHILD, "in A3")
        assert await s.legacy(made.id) is None
    else:
        assert phase is Phase.A2
        assert freeze is None
        assert await s.database.fetchval(TRIGGERS) == 0
        await s.insert(CHILD, "by hand")
        made = await s.create(CHILD, "in A2")
        assert await s.legacy(made.id) is not None
    return phase


async def back(s: Scene) -> None:
    """To A2 again, with nothing left of the freeze: as if a full sweep had been clean."""
    await s.step(Phase.A2)
    await s.database.execute("SELECT cutover.thaw('test')")
    await s.tenant.freeze.tidy_up()
    await s.quiet()


async def test_killed_at_every_statement_it_is_wholly_a2_or_wholly_a3(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:

        async def kill(connection: Connection) -> None:
            """The daemon's connection dies, as it would with its process."""
            await s.database.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())

        await s.insert(CHILD, "before")
        await s.quiet()
        watched = cut(s)
        await s.step(Phase.A3)
        statements = list(watched.seen)
        assert statements[0] == "BEGIN"
        assert statements[-1] == "COMMIT"
        for part in ("pg_advisory_xact_lock", "cutover.mark", "cutover.freeze_now", "silence_journal", "set_phase"):
            assert any(part in each for each in statements), part
        await back(s)
        came_to = {}
        for at in range(len(statements)):
            for after in (False, True):
                cutting = cut(s, at, after=after, act=kill)
                try:
                    await s.step(Phase.A3)
                except CutoverError:
                    made = False
                else:
                    made = True
                assert len(cutting.seen) > at, statements[at]
                phase = came_to[at, after] = await wholly(s)
                assert made is (phase is Phase.A3), statements[at]
                if phase is Phase.A3:
                    await back(s)
                await s.quiet()
        # Only what happens after the commit leaves A3 behind.
        assert {key for key, phase in came_to.items() if phase is Phase.A3} == {(len(statements) - 1, True)}
        assert await s.differences() == []


async def test_a_commit_whose_answer_is_lost_counts_as_what_it_was(database: str) -> None:
    async def lose(connection: Connection) -> None:
        raise ConnectionResetError

    async with scene(database, phase=Phase.A2, proxied=False) as s:
        watched = cut(s)
        await s.step(Phase.A3)
        last = len(watched.seen) - 1
        await back(s)
        cut(s, last, after=True, act=lose)
        told = await s.step(Phase.A3)
        assert "had been made all the same" in " ".join(told["notes"])
        assert await wholly(s) is Phase.A3


async def test_a_connection_that_dies_between_the_commit_and_its_return_counts_as_what_it_was(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        cut(s).torn = True
        told = await s.step(Phase.A3)
        assert "had been made all the same" in " ".join(told["notes"])
        assert await wholly(s) is Phase.A3


@pytest.mark.parametrize("abandoned_at", ["cutover.freeze_now", "set_phase", "COMMIT"])
async def test_a_daemon_that_stands_still_in_the_middle_lets_others_write_again_soon(
    database: str, abandoned_at: str
) -> None:
    """As SIGSTOP leaves it: connected, silent, with the table frozen in an open transaction."""
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        watched = cut(s)
        await s.step(Phase.A3)
        at = next(number for number, each in enumerate(watched.seen) if abandoned_at in each)
        await back(s)
        stopped, never = asyncio.Event(), asyncio.Event()

        async def stand_still(connection: Connection) -> None:
            stopped.set()
            await never.wait()

        cut(s, at, after=abandoned_at == "cutover.freeze_now", act=stand_still)
        s.tenant._transition._step(Phase.A2, Phase.A3).hold_seconds = 3600.0  # who is stopped watches no clock
        changing = asyncio.create_task(s.step(Phase.A3))
        await stopped.wait()
        other = await s.daemon()  # another daemon of the tenant, whose callers must not suffer for long
        began = time.monotonic()
        await s.insert(CHILD, "by hand")
        await s.create(CHILD, "through the other daemon")
        assert time.monotonic() - began < 10
        assert await FreezeStore(s.database).state() is None
        assert (await other.tenant.phase.reload()).phase is Phase.A2
        never.set()
        assert isinstance((await asyncio.gather(changing, return_exceptions=True))[0], CutoverError)
        assert await wholly(s) is Phase.A2


async def test_a_long_foreign_transaction_leaves_it_in_a2_and_is_named(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        async with foreign_transaction(database) as stranger:
            await stranger.execute("SET application_name = 'nightly-report'")
            await stranger.execute(
                "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'theirs', 'LOCAL')", CHILD
            )
            error = await refused(s.step(Phase.A3), IllegalStep)
            assert "nightly-report" in str(error)
            assert "idle in transaction" in str(error)
            await stranger.execute("COMMIT")
        await s.quiet()
        assert await wholly(s) is Phase.A2
        held = [event for event in s.daemons[-1].events if isinstance(event, WritesHeld)]
        held = [event for event in held if event.to_phase is Phase.A3]
        assert len(held) >= 2
        assert all(not event.made for event in held)


async def test_what_a_foreign_writer_committed_just_before_the_freeze_arrives(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        watched = cut(s)
        await s.step(Phase.A3)
        at = next(number for number, each in enumerate(watched.seen) if "cutover.freeze_now" in each)
        await back(s)
        made = []

        async def write(connection: Connection) -> None:
            made.append(await s.insert(CHILD, "in the last moment"))

        cut(s, at, act=write)
        await s.step(Phase.A3)
        assert await s.content(made[0]) == "in the last moment"
        assert await s.count("cutover.mark") == 0
        assert await s.differences() == []


async def test_a_difference_that_arose_after_the_sweep_is_found_under_the_hold(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.insert(CHILD, "before")
        await s.quiet()
        await s.tenant.operations.start_digest_sweep(full=True, actor="test")
        await s.tenant.digests.swept("test", 60)
        wrong = []

        async def corrupt(connection: Connection) -> None:
            wrong.append(await s.insert(CHILD, "right"))
            await s.quiet()
            await s.plugin_database.execute(
                "UPDATE memory_plugin.memory_records SET content = 'wrong' WHERE id = $1", wrong[0]
            )

        cut(s, 0, act=corrupt)
        error = await refused(s.step(Phase.A3), IllegalStep)
        assert str(wrong[0]) in str(error)
        assert await wholly(s) is Phase.A2
        await s.plugin_database.execute(
            "UPDATE memory_plugin.memory_records SET content = 'right' WHERE id = $1", wrong[0]
        )
        cut(s)
        told = await s.step(Phase.A3)
        assert "a digest sweep compared" in " ".join(told["notes"])
        assert await wholly(s) is Phase.A3


async def test_a_sweep_that_finds_a_difference_stops_it_before_anybody_is_held(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.quiet()
        await s.tenant.operations.start_digest_sweep(full=True, actor="test")
        await s.tenant.digests.swept("test", 60)
        lost = await s.insert(CHILD, "to be lost")
        await s.quiet()
        await s.plugin_database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", lost)
        error = await refused(s.step(Phase.A3), IllegalStep)
        assert "divergent" in str(error)
        assert not [e for e in s.daemons[-1].events if isinstance(e, WritesHeld) and e.to_phase is Phase.A3]
        assert await wholly(s) is Phase.A2


async def test_writes_that_come_during_the_hold_wait_and_go_on_in_a3(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False, delivery_deadline=1.2) as s:
        watched = cut(s)
        await s.step(Phase.A3)
        at = next(number for number, each in enumerate(watched.seen) if "set_phase" in each)
        await back(s)
        writes: list[asyncio.Task[object]] = []

        async def meanwhile(connection: Connection) -> None:
            writes.extend(s.daemons[-1].start(s.create(CHILD, f"held {n}")) for n in range(20))
            assert await s.tenant.memories.tree(CHILD)  # reads go on
            await asyncio.sleep(0.3)
            assert not [each for each in writes if each.done()]
            assert s.tenant.admission.held == 20

        cut(s, at, act=meanwhile)
        await s.step(Phase.A3)
        for each in writes:
            receipt = await each
            assert await s.legacy(receipt.id) is None  # type: ignore[attr-defined]
            assert await s.plugin(receipt.id) is not None  # type: ignore[attr-defined]
        assert s.tenant.admission.held == 0


async def test_a_write_that_waited_too_long_is_refused_with_retry_after_and_written_nowhere(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        with s.tenant.admission.hold(20.0):
            began = time.monotonic()
            error = await refused(s.create(CHILD, "too late"), Refused)
            assert time.monotonic() - began < 5
        assert isinstance(error, Refused)
        assert (error.reason, error.retry_after) == ("held", 1)
        assert await s.count("agent_memories") == 0
