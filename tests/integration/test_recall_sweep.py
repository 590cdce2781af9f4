"""Recall sweeps over whole tenants: planted faults are told apart, live traffic is no fault, queries stay in memory."""

import asyncio
import contextlib
import io
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover import logs
from cutover.domain.check import Status
from cutover.domain.events import Observer, RecallCompared, SweepFinished
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.embedded.processes import until
from cutover.metrics import Metrics, MetricsObserver
from tests.integration.protocol_scene import Scene, caller, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, REMOVED, ROOT, SIBLING, STRANGER

UNICODE = "ключ 記憶 naïve \N{PILE OF POO} e\N{COMBINING ACUTE ACCENT} 'quoted' 100% _under_ \\back\\"


@pytest.fixture
async def tenant(database: str) -> AsyncIterator[Scene]:
    """In A2, backfilled, quiet: memories of every scope, Unicode among them."""
    rows: list[tuple[Any, ...]] = [
        (uuid4(), workspace, f"{content} {number}", scope)
        for number, (workspace, scope) in enumerate(itertools.product((ROOT, CHILD, GRANDCHILD, STRANGER), Scope))
        for content in ("memory about tea", UNICODE)
        if scope is not Scope.GLOBAL or workspace in (ROOT, STRANGER)
    ]
    rows.append((uuid4(), REMOVED, "of a removed workspace", "TEAM"))
    async with scene(database, proxied=False, rows=rows) as made:
        await made.enter(Phase.A2)
        await made.quiet()
        yield made


async def sweep(tenant: Scene) -> dict[str, Any]:
    return await asyncio.wait_for(tenant.tenant.operations.run_recall_sweep("alice"), 60)


async def listed(tenant: Scene, read: ListMemories) -> None:
    await tenant.tenant.memories.list(read, caller())


async def settled_row(tenant: Scene, workspace: UUID, content: str, scope: str = "LOCAL") -> UUID:
    """A memory that lies in both stores, and has for a while."""
    memory_id = await tenant.insert(workspace, content, scope)
    await calm(tenant)
    return memory_id


async def calm(tenant: Scene) -> None:
    """Wait until nothing counts as just changed any more, and nothing is on its way."""
    await tenant.quiet()
    recent = tenant.options.quarantine + tenant.options.delivery_deadline

    async def long_ago() -> bool:
        ids = await tenant.database.fetch("SELECT id FROM agent_memories UNION SELECT memory_id FROM cutover.tombstone")
        return not await tenant.tenant.legacy.unsettled([row["id"] for row in ids], seconds=recent)

    await until(long_ago, "every change to lie some time back", timeout=20, every=0.05)


async def untriggered(tenant: Scene, sql: str, *arguments: object) -> None:
    """A change of legacy that no trigger saw."""
    async with tenant.database.transaction() as connection:
        triggers = await connection.fetch(
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'agent_memories'::regclass AND NOT tgisinternal"
        )
        await connection.execute("ALTER TABLE agent_memories DISABLE TRIGGER USER")
        await connection.execute(sql, *arguments)
        for trigger in triggers:
            await connection.execute(f"ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER {trigger['tgname']}")


async def in_plugin(tenant: Scene, sql: str, *arguments: object) -> None:
    await tenant.plugin_database.execute(sql.replace("RECORDS", "memory_plugin.memory_records"), *arguments)


async def test_equal_stores_agree_in_everything(tenant: Scene) -> None:
    await calm(tenant)
    await listed(tenant, ListMemories(CHILD, query="tea"))
    found = await sweep(tenant)
    assert (found["outcome"], found["overlap"], found["rank_agreement"], found["why"]) == ("clean", 1.0, 1.0, "")
    assert found["reads"]["live"] == 1
    assert found["coverage"] == 1.0
    assert found["findings"] == found["lowest"] == []
    assert found["workspaces"]["looked_at"] == found["workspaces"]["of"] == 9
    # ROOT's two GLOBAL memories and STRANGER's two, to readers of other roots.
    assert found["visibility"] == {"plugin_shows_more": 0, "plugin_shows_less": 0, "expected": 4}


async def test_without_live_queries_there_is_evidence_all_the_same(tenant: Scene) -> None:
    await calm(tenant)
    found = await sweep(tenant)
    assert (found["outcome"], found["overlap"], found["reads"]["live"]) == ("partial", 1.0, 0)
    assert "no queries sampled" in found["why"]
    assert found["reads"]["compared"] > 40


async def test_a_memory_moved_to_another_workspace_is_a_leak_there_and_hidden_at_home(tenant: Scene) -> None:
    moved = await settled_row(tenant, CHILD, UNICODE + " secret of the child")
    await in_plugin(tenant, "UPDATE RECORDS SET namespace = $2 WHERE id = $1", moved, f"workspace:{STRANGER}")
    found = await sweep(tenant)
    assert found["outcome"] == "divergent"
    assert (found["visibility"]["plugin_shows_more"], found["visibility"]["plugin_shows_less"]) == (1, 1)
    assert {(each["direction"], each["memory_id"]) for each in found["findings"]} == {
        ("plugin_shows_more", str(moved)),
        ("plugin_shows_less", str(moved)),
    }
    assert found["overlap"] < 1.0


async def test_global_of_another_root_shown_by_the_plugin_is_a_leak_and_no_intended_change(tenant: Scene) -> None:
    foreign = await settled_row(tenant, STRANGER, "the strangers' own", "GLOBAL")
    assert (await sweep(tenant))["visibility"]["plugin_shows_more"] == 0
    await in_plugin(tenant, "UPDATE RECORDS SET namespace = $2 WHERE id = $1", foreign, f"org:{ROOT}")
    found = await sweep(tenant)
    assert found["visibility"]["plugin_shows_more"] == 1
    assert str(foreign) in {each["memory_id"] for each in found["findings"]}


async def test_a_missing_memory_is_hidden_also_where_only_a_query_asks_for_it(tenant: Scene) -> None:
    await calm(tenant)
    gone = await settled_row(tenant, SIBLING, "marmalade " + UNICODE)
    await in_plugin(tenant, "DELETE FROM RECORDS WHERE id = $1", gone)
    await listed(tenant, ListMemories(SIBLING, query="marmalade"))
    found = await sweep(tenant)
    assert (found["visibility"]["plugin_shows_more"], found["visibility"]["plugin_shows_less"]) == (0, 1)
    assert found["reads"]["lower"] >= 1


async def test_a_resurrected_memory_is_a_leak(tenant: Scene) -> None:
    dead = await settled_row(tenant, ROOT, "forget me")
    await in_plugin(tenant, f"CREATE TABLE kept AS SELECT * FROM RECORDS WHERE id = '{dead}'")
    await tenant.delete(ROOT, dead)
    await tenant.quiet()
    columns = "id, namespace, content, kind, source, expires_at, propagation, pin, embedding, created_at"
    await in_plugin(tenant, f"INSERT INTO RECORDS ({columns}) SELECT {columns} FROM kept")
    await calm(tenant)
    found = await sweep(tenant)
    assert [(each["direction"], each["memory_id"]) for each in found["findings"]] == [("plugin_shows_more", str(dead))]


async def test_another_order_lowers_the_rank_agreement_and_is_no_leak(tenant: Scene) -> None:
    for number in range(12):
        await tenant.insert(SIBLING, f"number {number}")
    await calm(tenant)
    before = await sweep(tenant)
    assert before["rank_agreement"] == 1.0
    await in_plugin(
        tenant,
        "UPDATE RECORDS SET created_at = '2020-01-01'::timestamptz + (now() - created_at), propagation ="
        " jsonb_set(propagation, '{cutover,created_at}', to_jsonb('2020-01-01'::timestamptz + (now() - created_at)))"
        " WHERE namespace = $1",
        f"workspace:{SIBLING}",
    )
    found = await sweep(tenant)
    assert found["rank_agreement"] < before["rank_agreement"]
    assert found["overlap"] < 1.0  # which ten come first is another matter in another order
    assert found["lowest"]
    assert (found["visibility"]["plugin_shows_more"], found["visibility"]["plugin_shows_less"]) == (0, 0)


async def test_what_the_plugin_ranks_elsewhere_is_not_called_hidden(tenant: Scene) -> None:
    """A query that matches in one store only, of a memory that is where it should be."""
    moved = await settled_row(tenant, SIBLING, "marmalade on toast")
    await untriggered(tenant, "UPDATE agent_memories SET content = 'marmalade and butter' WHERE id = $1", moved)
    await listed(tenant, ListMemories(SIBLING, query="butter"))
    found = await sweep(tenant)
    assert found["visibility"]["plugin_shows_less"] == 0
    # v1's list, and the same in the contract's words.
    assert (found["outcome"], found["reads"]["lower"]) == ("divergent", 2)


async def test_marked_quarantined_and_unreached_memories_are_left_out(tenant: Scene) -> None:
    marked = await settled_row(tenant, ROOT, "on its way")
    refused = await settled_row(tenant, ROOT, "refused")
    for each in (marked, refused):
        await in_plugin(tenant, "DELETE FROM RECORDS WHERE id = $1", each)
    await tenant.database.execute(
        "INSERT INTO cutover.mark (memory_id, rev, origin, due_at) VALUES ($1, 1, 'write', now() + interval '1 hour')",
        marked,
    )
    await tenant.database.execute(
        "INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, 'refused_by_plugin', 1)", refused
    )
    found = await sweep(tenant)
    assert (found["overlap"], found["visibility"]["plugin_shows_less"]) == (1.0, 0)
    assert found["left_out"] > 0


async def test_expired_memories_and_natives_agree(tenant: Scene) -> None:
    await tenant.commit(f"workspace:{ROOT}", "native summary", kind=Kind.SUMMARY)
    await calm(tenant)
    await tenant.tenant.memories.search(SearchMemories((f"workspace:{ROOT}",), "native"), caller("plugin"))
    await tenant.database.execute("UPDATE cutover.native SET expires_at = now() - interval '1 hour'")
    await in_plugin(tenant, "UPDATE RECORDS SET expires_at = now() - interval '1 hour' WHERE kind = 'summary'")
    found = await sweep(tenant)
    assert (found["outcome"], found["overlap"]) == ("clean", 1.0)


async def test_kv_rows_are_the_plugins_alone_but_leak_like_any_other(database: str) -> None:
    async with scene(database, proxied=False, kv=True) as made:
        await made.enter(Phase.A2)
        await made.insert(ROOT, "a memory among rows")
        await made.insert(ROOT, "for the team", "TEAM")
        await made.database.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value) SELECT $1, 'key ' || n, to_jsonb(n)"
            " FROM generate_series(1, 9) n",
            ROOT,
        )
        await calm(made)
        await made.tenant.memories.search(SearchMemories((f"workspace:{ROOT}",)), caller("plugin"))
        found = await sweep(made)
        assert (found["outcome"], found["overlap"], found["findings"]) == ("clean", 1.0, [])
        leaked = await made.database.fetchval("SELECT memory_id FROM cutover.kv ORDER BY key LIMIT 1")
        await in_plugin(made, "UPDATE RECORDS SET namespace = $2 WHERE id = $1", leaked, f"team:{ROOT}")
        found = await sweep(made)
        # Whoever reads the team's namespace now sees what only ROOT may.
        assert (found["outcome"], found["visibility"]["plugin_shows_more"]) == ("divergent", 1)


async def test_a_namespace_beyond_the_cap_is_no_false_alarm(tenant: Scene) -> None:
    for number in range(130):
        await tenant.insert(ROOT, f"one of many, number {number}", "TEAM")
    await calm(tenant)
    await listed(tenant, ListMemories(ROOT, Scope.TEAM, "many"))
    found = await sweep(tenant)
    assert (found["outcome"], found["overlap"]) == ("clean", 1.0)


async def test_a_plugin_that_knows_only_the_time_of_delivery_loses_newest_first_beyond_the_cap(database: str) -> None:
    """Through the contract no creation time can be set: what a backfill delivered last comes first, and of 130 rows a
    plain list holds others than it did. That is no false alarm, and no leak."""
    rows = [(uuid4(), ROOT, f"number {number}", "LOCAL") for number in range(130)]
    async with scene(database, proxied=False, rows=rows, plugin_database_url="none") as made:
        # A backfill goes by id, so what it delivers first, and the cap then hides, is what legacy has as newest.
        await made.database.execute(
            "UPDATE agent_memories a SET created_at = now() - o.place * interval '1 minute'"
            " FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM agent_memories) o WHERE o.id = a.id"
        )
        await made.enter(Phase.A2)
        await calm(made)
        found = await sweep(made)
        assert found["overlap"] < 0.999
        assert (found["visibility"]["plugin_shows_more"], found["visibility"]["plugin_shows_less"]) == (0, 0)
        assert {each["kind"] for each in found["lowest"]} == {"search"}  # v1's lists say that they are partial


async def test_live_traffic_at_the_same_time_is_no_false_alarm(tenant: Scene) -> None:
    """Creates, edits and deletes through the daemon and past it, on the rows that are compared."""
    made = [(await tenant.create(ROOT, f"tea of the morning, number {n}", Scope.TEAM)).id for n in range(20)]
    await tenant.quiet()
    await listed(tenant, ListMemories(CHILD, Scope.TEAM, "tea"))
    stop = asyncio.Event()

    async def writer(offset: int) -> int:
        done = 0
        while not stop.is_set():
            done += 1
            fresh = (await tenant.create(ROOT, f"more tea {offset} {done}", Scope.TEAM)).id
            await tenant.edit(ROOT, made[(offset + done) % len(made)], f"tea {'again ' * (done % 7)}{done}")
            past = await tenant.insert(CHILD, f"tea past the daemon {done}", "TEAM")
            if done % 2:
                await tenant.delete(ROOT, fresh)
                await tenant.database.execute("DELETE FROM agent_memories WHERE id = $1", past)
            await listed(tenant, ListMemories(SIBLING, Scope.TEAM, f"tea {done}"))
            await asyncio.sleep(0.01)
        return done

    writers = [asyncio.create_task(writer(offset)) for offset in (0, 7)]
    try:
        for _ in range(2):
            found = await sweep(tenant)
            assert (found["visibility"]["plugin_shows_more"], found["visibility"]["plugin_shows_less"]) == (0, 0), found
            assert found["overlap"] >= 0.999, found
            assert found["reads"]["live"] > 0
    finally:
        stop.set()
    assert sum(await asyncio.gather(*writers)) > 4


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A3])
async def test_where_it_does_not_apply_it_says_why(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, proxied=False) as made:
        found = await sweep(made)
        assert found["outcome"] == "not_applicable"
        assert str(phase) in found["why"]
        (told,) = (
            event for event in made.daemons[-1].events if isinstance(event, SweepFinished) and event.kind == "recall"
        )
        assert (told.kind, told.outcome) == ("recall", "not_applicable")


async def test_a_dead_plugin_fails_the_sweep_and_proves_nothing(tenant: Scene) -> None:
    await tenant.tenant._client.close()
    found = await sweep(tenant)
    assert (found["outcome"], found["overlap"]) == ("failed", None)
    checks = await tenant.tenant.check("recall")
    assert checks is not None
    assert checks.status is Status.FAIL


async def test_the_gate_of_a3_gets_its_evidence(tenant: Scene) -> None:
    await calm(tenant)
    report = await tenant.tenant.check("recall")
    assert report is not None
    assert report.status is Status.FAIL  # none yet
    await listed(tenant, ListMemories(ROOT, query="tea"))
    await sweep(tenant)
    report = await tenant.tenant.check("recall")
    assert report is not None
    assert (report.status, report.checks[0].observed_value) == (Status.PASS, 1.0)


async def test_scheduled_sweeps_follow_the_phase(database: str) -> None:
    async with scene(database, proxied=False, recall_interval=3600.0) as made:
        await made.step(Phase.A1)

        async def swept() -> bool:
            return any(isinstance(event, RecallCompared) for event in made.daemons[-1].events)

        await until(swept, "a sweep soon after A1 was entered", timeout=20, every=0.05)
        runs = await made.database.fetch("SELECT requested_by, state FROM cutover.task_run WHERE kind = 'sweep.recall'")
        assert {(run["requested_by"], run["state"]) for run in runs} == {("schedule", "finished")}


async def test_nothing_of_a_query_or_a_memory_reaches_logs_records_or_metrics(tenant: Scene) -> None:
    words = ("xylophonic", "zephyrine")
    gone = await settled_row(tenant, ROOT, f"{words[0]} {words[1]} in the plugin no more")
    await in_plugin(tenant, "DELETE FROM RECORDS WHERE id = $1", gone)
    with captured_logs() as stream:
        metrics = Metrics("test")
        observers: list[Observer] = [logs.LogObserver(), MetricsObserver(metrics, ["default"])]
        await listed(tenant, ListMemories(ROOT, query=words[0]))
        await tenant.tenant.memories.search(SearchMemories((f"workspace:{ROOT}",), words[1]), caller("plugin"))
        found = await sweep(tenant)
        assert found["findings"]
        for event in tenant.daemons[-1].events:
            for observe in observers:
                observe(event)
    recorded = await tenant.database.fetch(
        "SELECT to_jsonb(r)::text AS told FROM cutover.task_run r"
        " UNION ALL SELECT to_jsonb(c)::text FROM cutover.task_checkpoint c"
    )
    told = [stream.getvalue(), metrics.render()[1].decode(), json.dumps(found), *(row["told"] for row in recorded)]
    assert "recall.compared" in told[0]
    assert "cutover_recall_visibility_differences" in told[1]
    assert len(recorded) > 0
    for each in told:
        assert not any(word in each for word in words)


@contextlib.contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs.configure(level="debug", stream=stream)
    yield stream


async def test_memories_without_a_creation_time_have_no_place_to_be_held_to(database: str) -> None:
    async with scene(database, proxied=False) as made:
        for number in range(30):
            time = "NULL" if number % 2 else f"now() - interval '{number} hours'"
            await made.database.execute(
                "INSERT INTO agent_memories (workspace_id, content, scope, namespace, created_at, updated_at)"
                f" VALUES ($1, $2, 'LOCAL', 'general', {time}, NULL)",
                CHILD,
                f"memory {number}",
            )
        await made.enter(Phase.A2)
        await made.quiet()
        outcome = await sweep(made)
        assert outcome["overlap"] == 1.0, outcome
        assert outcome["reads"]["lower"] == 0


async def test_what_a_kill_left_open_is_closed_where_no_sweep_will_come(database: str) -> None:
    async with scene(database, proxied=False) as made:
        left = await made.database.fetchval(
            "INSERT INTO cutover.task_run (kind, state, started_at)"
            " VALUES ('sweep.recall', 'running', now() - interval '1 day') RETURNING id"
        )
        await made.daemon(recall_interval=3600.0)  # in A0, as in A3, nothing is swept

        async def closed() -> bool:
            state = await made.database.fetchval("SELECT state FROM cutover.task_run WHERE id = $1", left)
            return bool(state == "interrupted")

        await until(closed, "the run that was left open", timeout=20, every=0.05)
