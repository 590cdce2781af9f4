"""The drift ledger (architecture §4): every difference put down to its cause, exactly, and never a false alarm."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")


def causes(sweep: dict[str, Any], **expected: int) -> None:
    quiet = dict.fromkeys(("in_flight", "not_backfilled", "quarantined", "accepted", "native", "kv", "unexplained"), 0)
    assert sweep["causes"] == {**quiet, **expected}, sweep
    found = sweep["causes"]
    assert sweep["legacy"] - sweep["plugin"] == (
        found["in_flight"]
        + found["not_backfilled"]
        + found["quarantined"]
        + found["accepted"]
        - found["native"]
        - found["kv"]
        + found["unexplained"]
    )
    assert sweep["outcome"] == ("drift" if found["unexplained"] else "clean")


async def plant(s: Scene, namespace: str = f"workspace:{CHILD}", memory_id: UUID | None = None) -> UUID:
    """A row that only the plugin has."""
    await s.database.execute(
        "INSERT INTO memory_plugin.memory_namespaces (name, kind) VALUES ($1, 'workspace') ON CONFLICT DO NOTHING",
        namespace,
    )
    value: UUID = await s.database.fetchval(
        "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
        " VALUES ($2, $1, 'planted', 'fact', 'agent') RETURNING id",
        namespace,
        memory_id or uuid4(),
    )
    return value


async def test_clean(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        await s.create(CHILD, "l")
        await s.create(CHILD, "t", Scope.TEAM)
        await s.create(ROOT, "g", Scope.GLOBAL)
        await s.quiet()
        sweep = await s.sweep()
        causes(sweep)
        assert sweep["rows"] == {
            "legacy.custom": 0, "legacy.org": 1, "legacy.team": 1, "legacy.workspace": 1,
            "plugin.custom": 0, "plugin.org": 1, "plugin.team": 1, "plugin.workspace": 1,
        }  # fmt: skip


async def test_in_flight_in_both_directions(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        old = await s.create(CHILD, "old")
        await s.quiet()
        faults = [s.proxy.rule(COMMITS, answer(500)), s.proxy.rule(FORGETS, answer(500))]
        for number in range(3):
            await s.create(CHILD, f"{number}")
        causes(await s.sweep(), in_flight=3)
        await s.delete(CHILD, old.id)
        causes(await s.sweep(), in_flight=2)
        for fault in faults:
            fault.off()
        await s.quiet()
        causes(await s.sweep())


async def test_not_backfilled(database: str) -> None:
    rows = [(UUID(int=n << 64), CHILD, f"{n}", "LOCAL") for n in range(1, 11)]
    async with scene(database, phase=Phase.A0, rows=rows) as s:
        causes(await s.sweep(), not_backfilled=10)
        await s.step(Phase.A1)
        causes(await s.sweep(), not_backfilled=10)
        await s.create(CHILD, "live")
        await s.edit(CHILD, rows[7][0], "live as well")
        await s.quiet()
        causes(await s.sweep(), not_backfilled=9)
        await s.step(Phase.A2)
        await s.backfill(limit=4)
        await s.quiet()
        causes(await s.sweep(), not_backfilled=5)
        await s.database.execute("DELETE FROM agent_memories WHERE id = ANY ($1::uuid[])", [rows[0][0], rows[9][0]])
        await s.quiet()
        causes(await s.sweep(), not_backfilled=4)
        await s.backfill()
        causes(await s.sweep())
        await s.step(Phase.A1)
        await s.step(Phase.A0)
        await s.step(Phase.A1)  # a new generation: nothing counts as reached any more, but all of it is there
        await s.quiet()
        causes(await s.sweep())


async def test_what_the_plugin_lost_is_unexplained_only_where_the_backfill_has_been(database: str) -> None:
    rows = [(UUID(int=n << 64), CHILD, f"{n}", "LOCAL") for n in range(1, 11)]
    async with scene(database, phase=Phase.A0, rows=rows) as s:
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await s.edit(CHILD, rows[7][0], "delivered before the backfill comes")
        await s.backfill(limit=4)
        await s.quiet()
        causes(await s.sweep(), not_backfilled=5)
        lost = [rows[1][0], rows[7][0]]
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = ANY ($1::uuid[])", lost)
        causes(await s.sweep(), not_backfilled=6, unexplained=1)


async def test_quarantined_and_native(database: str) -> None:
    rows = [(uuid4(), None, "no workspace", "LOCAL"), (uuid4(), CHILD, "  ", "LOCAL"), (uuid4(), CHILD, "x", "LOCAL")]
    async with scene(database, phase=Phase.A2, rows=rows) as s:
        causes(await s.sweep(), quarantined=2)
        await s.commit("custom:x", "native", Kind.SUMMARY)
        native = await s.commit(f"workspace:{CHILD}", "native", Kind.SUMMARY)
        causes(await s.sweep(), quarantined=2, native=2)
        await s.forget(f"workspace:{CHILD}", native.id)
        await s.database.execute("DELETE FROM agent_memories WHERE workspace_id IS NULL")
        await s.quiet()
        causes(await s.sweep(), quarantined=1, native=1)


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_unexplained_in_both_directions(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        made = [await s.create(CHILD, f"{number}") for number in range(5)]
        await s.commit("custom:x", "native", Kind.SUMMARY)
        await s.quiet()
        causes(await s.sweep(), native=1)
        await s.database.execute(
            "DELETE FROM memory_plugin.memory_records WHERE id = ANY ($1::uuid[])", [m.id for m in made[:2]]
        )
        causes(await s.sweep(), native=1, unexplained=2)
        for _ in range(3):
            await plant(s)
        causes(await s.sweep(), native=1, unexplained=-1)


async def test_the_expected_side_of_a3_is_frozen_legacy_with_the_journal_over_it(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        kept, gone, edited = [await s.create(CHILD, word) for word in ("kept", "gone", "edited")]
        await s.enter(Phase.A3)
        await s.delete(CHILD, gone.id)
        await s.edit(CHILD, edited.id, "edited in A3")
        await s.create(CHILD, "new")
        await s.commit(f"workspace:{CHILD}", "a summary now", Kind.SUMMARY, id=kept.id)
        await s.quiet()
        sweep = await s.sweep()
        causes(sweep, native=1)
        assert (sweep["legacy"], sweep["plugin"]) == (2, 3)


@pytest.mark.parametrize("apart", [False, True], ids=["one database", "two databases"])
async def test_live_writes_are_never_unexplained(make_database: MakeDatabase, apart: bool) -> None:
    url = await make_database()
    changes: dict[str, Any] = {}
    if apart:
        # The same tables through another name would be the same database: a second plugin needs a second database.
        other = await make_database(legacy=False)
        changes = {"plugin_at": other}
    async with scene(url, phase=Phase.A2, **changes) as s:
        stop = asyncio.Event()

        async def write(number: int) -> None:
            while not stop.is_set():
                made = await s.create(CHILD, f"{number}")
                await s.edit(CHILD, made.id, f"{number} again")
                native = await s.commit("custom:x", f"{number}", Kind.SUMMARY)
                await s.delete(CHILD, made.id)
                await s.forget("custom:x", native.id)

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        sweeps = [await s.sweep() for _ in range(12)]
        stop.set()
        await asyncio.gather(*writers)
        assert [sweep["unexplained"] for sweep in sweeps] == [0] * 12
        await s.quiet()
        causes(await s.sweep())


async def test_in_two_databases_a_real_difference_is_confirmed_by_a_second_look(make_database: MakeDatabase) -> None:
    url, other = await make_database(), await make_database(legacy=False)
    async with scene(url, phase=Phase.A2, plugin_at=other) as s:
        look = await s.tenant._sweeper._counter.look()  # type: ignore[union-attr]
        assert not look.one_snapshot
        made = await s.create(CHILD, "x")
        await s.quiet()
        assert (await s.sweep())["unexplained"] == 0
        await s.plugin_database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", made.id)
        causes(await s.sweep(), unexplained=1)


async def test_without_the_plugins_database_the_answer_is_partial(database: str) -> None:
    async with scene(database, phase=Phase.A2, plugin_database_url="none") as s:
        sweep = await s.sweep()
        assert (sweep["outcome"], sweep["unexplained"], sweep["coverage"]) == ("partial", None, 0.0)


async def accept(s: Scene, memory_id: UUID, cls: str) -> None:
    """A sweep found it, and somebody answers for it."""
    await s.database.execute(
        "INSERT INTO cutover.divergence (memory_id, class, state, namespace_kind, first_run, last_run, snapshot,"
        " confirmed_at, accepted_by, accepted_at, why)"
        " VALUES ($1, $2, 'accepted', 'workspace', $3, $3, pg_current_snapshot()::text, now(), 'alice', now(),"
        " 'known')",
        memory_id,
        cls,
        uuid4(),
    )


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_what_somebody_answers_for_is_explained_exactly(database: str, phase: Phase) -> None:
    """And no longer than it differs: what was accepted and is gone, or is in order again, explains nothing."""
    async with scene(database, phase=phase) as s:
        kept, lost = await s.create(CHILD, "kept"), await s.create(CHILD, "lost")
        await s.quiet()
        extra = await plant(s)
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", lost.id)
        causes(await s.sweep())  # one too many and one too few look alike to a count
        await accept(s, extra, "missing_in_legacy")
        causes(await s.sweep(), accepted=-1, unexplained=1)
        await accept(s, lost.id, "missing_in_plugin")
        await accept(s, kept.id, "missing_in_plugin")
        causes(await s.sweep())
        assert (await s.sweep())["outcome"] == "clean"
        await plant(s)
        causes(await s.sweep(), unexplained=-1)
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", extra)
        causes(await s.sweep(), accepted=1, unexplained=-1)


async def test_what_is_accepted_or_not_yet_backfilled_is_counted_once(database: str) -> None:
    rows = [(UUID(int=n << 64), CHILD, f"{n}", "LOCAL") for n in range(1, 6)]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await accept(s, rows[0][0], "missing_in_plugin")
        await accept(s, await plant(s), "missing_in_legacy")
        causes(await s.sweep(), not_backfilled=4)
        await accept(s, rows[1][0], "missing_in_plugin")
        causes(await s.sweep(), not_backfilled=3, accepted=1)


async def test_a_mark_or_the_quarantine_explains_before_an_acceptance_does(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        bad = await s.insert(CHILD, "  ")
        await s.quiet()
        await accept(s, bad, "missing_in_plugin")
        causes(await s.sweep(), quarantined=1)
        failing = s.proxy.rule(COMMITS, answer(500))
        waiting = await s.create(CHILD, "waiting")
        await accept(s, waiting.id, "missing_in_plugin")
        causes(await s.sweep(), quarantined=1, in_flight=1)
        failing.off()
