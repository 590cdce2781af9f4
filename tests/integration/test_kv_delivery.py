"""K/V end to end (decision 0014): what a row of workspace_memory is, the plugin shows, in every phase."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cutover.domain.errors import Conflict, IllegalStep, NotFound, OperatorError
from cutover.domain.events import KvSwitched
from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.embedded.fault_proxy import answer, on, swallow
from cutover.embedded.processes import until
from cutover.engine.plugin_reads import Budget
from cutover.engine.tenant import Tenant
from tests.conftest import MakeDatabase
from tests.integration.kv_scene import Raw, backfill_kv, drop, kv_differences, kv_id, kv_scene, put, quiet
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, ROOT

COMMITS = on("POST", r"/memories$")
HERE = f"workspace:{CHILD}"


def soon(**more: float) -> datetime:
    return datetime.now(UTC) + timedelta(**more)


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_a_row_is_delivered_changed_moved_and_forgotten(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        await put(s.database, CHILD, "plan", {"b": 1, "a": [1.5, None, "ü"]})
        await put(s.database, ROOT, "plan", "theirs")
        await put(s.database, CHILD, "soon", 5, soon(hours=1))
        await quiet(s)
        assert await kv_differences(s) == []
        held = await s.plugin(kv_id(CHILD, "plan"))
        assert held is not None
        assert held["content"] == '{"a": [1.5, null, "ü"], "b": 1}'
        assert held["propagation"]["cutover"]["kv"] == {
            "key": "plan", "version": 1, "value": {"a": [1.5, None, "ü"], "b": 1},
        }  # fmt: skip
        await put(s.database, CHILD, "plan", [])
        await s.database.execute(
            "UPDATE workspace_memory SET key = 'moved', workspace_id = $1 WHERE key = 'soon'", ROOT
        )
        await drop(s.database, ROOT, "plan")
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.content(kv_id(ROOT, "moved")) == "5"
        assert [await s.plugin(each) for each in (kv_id(CHILD, "soon"), kv_id(ROOT, "plan"))] == [None, None]
        assert await s.differences() == []


@pytest.mark.parametrize(
    "value",
    ["", None, [], {}, False, 0, " ", Raw('"\\ud83d\\uddfa"'), Raw("1e400"), Raw("1" * 5000),
     Raw("[" * 900 + "]" * 900), Raw('{"a":1,"a":2}'),
     Raw("0.1234567890123456789012345678901"), "x" * 100_000, Raw('"null"')],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
async def test_any_value_arrives_exactly(database: str, value: Any) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        await put(s.database, CHILD, "k", value)
        await put(s.database, CHILD, "", value)
        await put(s.database, CHILD, "ключ 🗝\n", value)
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.count("cutover.kv") == 3
        assert await s.count("cutover.quarantine") == 0


async def test_an_expired_row_is_as_good_as_gone(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        made = await put(s.database, CHILD, "k", 1)
        await quiet(s)
        await put(s.database, CHILD, "k", 2, soon(seconds=-1))
        await quiet(s)
        assert await s.plugin(made) is None
        await put(s.database, CHILD, "k", 3, soon(hours=1))
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.content(made) == "3"


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_a_refused_row_is_quarantined_and_its_older_copy_not_shown(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        assert s.proxy is not None
        made = await put(s.database, CHILD, "k", f"{phase}")
        await quiet(s)
        fault = s.proxy.rule(COMMITS, answer(400))
        await put(s.database, CHILD, "k", "refused")
        await s.quiet()
        assert await s.plugin(made) is None
        row = await s.database.fetchrow("SELECT reason, workspace_id FROM cutover.quarantine")
        assert row is not None
        assert (row["reason"], row["workspace_id"]) == ("refused_by_plugin", CHILD)
        fault.off()
        await put(s.database, CHILD, "k", "taken")
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.count("cutover.quarantine") == 0


# -- what callers see, and may do ----------------------------------------


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_our_faces_cannot_touch_a_row_s_memory(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        made = await put(s.database, CHILD, "k", "kept")
        await quiet(s)
        for kind, where in ((Kind.FACT, HERE), (Kind.CHECKPOINT, HERE), (Kind.SUMMARY, "custom:x")):
            await refused(s.commit(where, "mine", kind, id=made), Conflict)
        await refused(s.create(CHILD, "mine", key="k"), Conflict)  # its id is hashed from the same words
        await refused(s.forget(HERE, made), Conflict)
        await refused(s.forget(f"workspace:{ROOT}", made), NotFound)
        await refused(s.delete(CHILD, made), NotFound)
        await refused(s.edit(CHILD, made, "mine"), NotFound)
        await s.quiet()
        assert await kv_differences(s) == []
        await drop(s.database, CHILD, "k")
        await s.quiet()
        assert (await s.create(CHILD, "mine", key="k")).id == made  # nobody has it any more
        await s.quiet()
        assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_a_memory_that_has_the_id_keeps_it(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        memory = await s.create(CHILD, "first", key="k")
        native = await s.commit(HERE, "native", Kind.SUMMARY, id=kv_id(CHILD, "n"))
        await s.quiet()
        for key in ("k", "n"):
            await put(s.database, CHILD, key, "second")
        await s.quiet()
        assert [await s.content(each) for each in (memory.id, native.id)] == ["first", "native"]
        jailed = await s.database.fetch("SELECT memory_id, reason FROM cutover.quarantine")
        assert {(row["memory_id"], row["reason"]) for row in jailed} == {
            (memory.id, "id_taken"), (native.id, "id_taken"),
        }  # fmt: skip
        await s.edit(CHILD, memory.id, "still mine")
        await s.quiet()
        assert await s.count("cutover.quarantine") == 2
        assert await s.content(memory.id) == "still mine"
        await s.delete(CHILD, memory.id)  # now the row may have it
        await drop(s.database, CHILD, "n")  # and the native is left alone
        await quiet(s)
        assert [await s.content(each) for each in (memory.id, native.id)] == ['"second"', "native"]
        assert await s.count("cutover.quarantine") == 0
        assert await kv_differences(s) == []


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_v1_never_shows_rows_and_searches_only_from_a3_on(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        fact = await s.create(CHILD, "needle fact")
        for number in range(120):  # more than one answer of the contract holds
            await put(s.database, CHILD, f"needle {number}", f"needle {number}")
        made = kv_id(CHILD, "needle 7")
        await quiet(s)
        for query in ("", "needle"):
            page = await s.tenant.memories.list(ListMemories(CHILD, query=query), caller())
            assert ([row.id for row in page.memories], page.partial) == ([fact.id], False)
            session = await s.tenant.memories.session_search(CHILD, query, 200, caller())
            assert {item.id for item in session.items if item.kind == "memory"} == {fact.id}
        found = await s.tenant.memories.search(SearchMemories((HERE,), "needle", limit=100), caller("plugin"))
        kinds = frozenset({Kind.CHECKPOINT})
        asked = await s.tenant.memories.search(SearchMemories((HERE,), "needle 7", kinds, 100), caller("plugin"))
        if phase is not Phase.A3:
            assert [memory.id for memory in found.memories] == [fact.id]
            assert asked.memories == ()
            without, kv = await s.tenant._shadow._plugin.search_apart(
                SearchMemories((HERE,), "needle"), budget=Budget.of(caller())
            )
            assert ([memory.id for memory in without.memories], len(kv) >= 100) == ([fact.id], True)
            return
        assert len(found.memories) == 100
        shown = {memory.id: memory for memory in asked.memories}
        assert shown[made].propagation == {"cutover": {"kv": {"key": "needle 7", "version": 1, "value": "needle 7"}}}


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_deleting_a_namespace_leaves_its_rows_and_their_memories(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        fact = await s.create(CHILD, "fact")
        native = await s.commit(HERE, "native", Kind.SUMMARY)
        await put(s.database, CHILD, "k", f"{phase}")
        await quiet(s)
        await s.tenant.memories.delete_namespace(HERE, caller("plugin"))
        await quiet(s)
        assert [await s.plugin(each) for each in (fact.id, native.id)] == [None, None]
        assert await s.count("workspace_memory") == 1
        assert await kv_differences(s) == []
        await put(s.database, CHILD, "k", "goes on")
        await quiet(s)
        assert await kv_differences(s) == []


async def test_a_row_waits_while_a_bulk_delete_of_its_namespace_may_land(database: str) -> None:
    async with kv_scene(database, phase=Phase.A3) as s:
        await s.commit(HERE, "native", Kind.SUMMARY)
        await s.quiet()
        assert await s.database.fetchval("SELECT cutover.close_namespace(epoch, $1, 60) FROM cutover.phase_state", HERE)
        await s.quiet()
        assert await s.database.fetchval("SELECT cutover.sending_namespace_delete($1, 60)", HERE)
        made = await put(s.database, CHILD, "k", 1)
        elsewhere = await put(s.database, ROOT, "k", 1)

        async def delivered() -> bool:
            return await s.plugin(elsewhere) is not None

        await until(delivered, "the other row", timeout=15, every=0.02)
        assert await s.plugin(made) is None
        await s.database.execute("SELECT cutover.namespace_delete_ended($1, true)", HERE)
        await quiet(s)
        assert await kv_differences(s) == []
        assert not await s.database.fetchval("SELECT cutover.sending_namespace_delete($1, 60)", HERE)


# -- phases, the switch, crashes ----------------------------------------


async def test_through_the_phases_and_back(database: str) -> None:
    async with kv_scene(database) as s:
        await put(s.database, CHILD, "before", 1)
        await put(s.database, CHILD, "changed in A0", 1)
        await put(s.database, CHILD, "gone in A0", 1)
        await put(s.database, CHILD, "again in A0", 1)
        await s.enter(Phase.A2)
        assert await backfill_kv(s, chunk=2) == (4, 4)
        assert await kv_differences(s) == []
        await s.enter(Phase.A3)
        await put(s.database, CHILD, "in A3", 1)
        fact = await s.create(CHILD, "a fact of A3")
        await quiet(s)
        assert await kv_differences(s) == []
        await s.enter(Phase.A2)  # the replay leaves K/V alone
        assert await s.legacy(fact.id) is not None
        assert await s.count("agent_memories") == 1
        assert await kv_differences(s) == []
        await s.enter(Phase.A0)
        assert await s.database.fetchval("SELECT count(*) FROM cutover.kv_capture_state() WHERE intact") == 0
        await put(s.database, CHILD, "changed in A0", 2)
        await put(s.database, CHILD, "new in A0", 1)
        for key in ("gone in A0", "again in A0"):
            await drop(s.database, CHILD, key)
        await put(s.database, CHILD, "again in A0", 2)
        assert await s.count("cutover.mark WHERE origin = 'kv'") == 0
        await s.step(Phase.A1)
        await s.quiet()
        assert await s.plugin(kv_id(CHILD, "gone in A0")) is None
        assert await s.content(kv_id(CHILD, "before")) == "1"  # not taken for a stray
        await s.step(Phase.A2)
        await backfill_kv(s)
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.differences() == []


async def test_a3_waits_for_the_rows_backfill_but_not_for_their_marks(database: str) -> None:
    async with kv_scene(database) as s:
        await put(s.database, CHILD, "old", 1)
        await s.enter(Phase.A2)
        await s.quiet()
        await refused(s.step(Phase.A3), IllegalStep)
        await backfill_kv(s)
        assert s.proxy is not None
        fault = s.proxy.rule(COMMITS, answer(500))
        await put(s.database, CHILD, "old", 2)
        await s.step(Phase.A3)
        fault.off()
        await quiet(s)
        assert await kv_differences(s) == []


async def test_the_switch_is_applied_when_a_daemon_starts(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2) as s:
        await put(s.database, CHILD, "old", 1)
        await s.quiet()
        assert await s.count("cutover.kv") == 0
        await s.daemon(kv=True)  # beside the other one: it starts last, so it decides
        await put(s.database, CHILD, "new", 1)
        await backfill_kv(s)
        await quiet(s)
        assert await kv_differences(s) == []
        switched = [event for event in s.daemons[-1].events if isinstance(event, KvSwitched)]
        assert [(event.on, event.did) for event in switched] == [(True, "installed")]
        await s.daemons[-1].stop()
        s.daemons.pop()
        await s.daemon(kv=True)
        await quiet(s)
        assert [event.did for event in s.daemons[-1].events if isinstance(event, KvSwitched)] == ["kept"]
        assert await kv_differences(s) == []
        await s.daemon(kv=False)
        assert [event.did for event in s.daemons[-1].events if isinstance(event, KvSwitched)] == ["removed"]

        async def forgotten() -> bool:
            return not await s.count("cutover.kv")

        await until(forgotten, "the mapping to go", timeout=15, every=0.05)
        await s.quiet()
        assert await s.plugin(kv_id(CHILD, "old")) is None
        await put(s.database, CHILD, "old", 2)
        assert await s.count("cutover.mark") == 0
        await s.daemon(kv=True)  # what changed meanwhile is the backfill's to find, from its beginning
        await backfill_kv(s)
        await quiet(s)
        assert await kv_differences(s) == []


async def switched_on(s: Scene) -> None:
    """The start of a daemon with the switch on."""
    async with contextlib.AsyncExitStack() as stack:
        await Tenant.open(replace(s.options, kv=True), lambda _: None, stack)


async def test_without_the_table_only_the_switch_is_an_error(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with scene(url) as s:
        await s.database.execute("DROP TABLE workspace_memory")
        with pytest.raises(OperatorError, match=r"no fitting table public\.workspace_memory"):
            await switched_on(s)
        await s.enter(Phase.A3)
        await s.create(CHILD, "works")
        await s.quiet()
        assert (await s.sweep())["outcome"] == "clean"
        assert await s.differences() == []
        await s.enter(Phase.A0)


async def test_an_older_table_is_named_by_what_it_lacks(database: str) -> None:
    async with scene(database) as s:
        await s.database.execute("ALTER TABLE workspace_memory DROP COLUMN version, ALTER COLUMN value TYPE text")
        with pytest.raises(OperatorError, match=r"it lacks value jsonb, version bigint"):
            await switched_on(s)


async def test_a_locked_table_does_not_hold_up_the_start(database: str) -> None:
    async with kv_scene(database, kv=False, phase=Phase.A2) as s:
        async with s.database.transaction() as foreign:
            await foreign.execute("LOCK TABLE workspace_memory IN ROW EXCLUSIVE MODE")
            await s.daemon(kv=True)
            await s.create(CHILD, "memories are served meanwhile")
        made = await put(s.database, CHILD, "k", 1)

        async def captured() -> bool:
            return bool(await s.database.fetchval("SELECT captured FROM cutover.kv_capture"))

        await until(captured, "the capture", timeout=15, every=0.05)
        await put(s.database, CHILD, "k", 2)
        await quiet(s)
        assert await s.content(made) == "2"


async def test_a_daemon_that_dies_at_any_moment_loses_no_row(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        for what in ("changed", "dropped", "kept"):
            held = s.proxy.hold(COMMITS)
            lost = s.proxy.rule(COMMITS, swallow())
            for number in range(5):
                await put(s.database, CHILD, f"{number}", what)
            await asyncio.wait_for(held.arrived.wait(), 15)
            await s.daemons[-1].abandon()
            lost.off()
            for number in range(5):
                if what == "changed":
                    await put(s.database, CHILD, f"{number}", "newer")
                elif what == "dropped":
                    await drop(s.database, CHILD, f"{number}")
            await s.daemon()
            await held.release()  # the dead daemon's request arrives late, and is put right
            await quiet(s)
            assert await kv_differences(s) == []
