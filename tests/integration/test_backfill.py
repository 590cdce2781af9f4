"""Backfill (architecture §5): every row reached once, nothing resurrected, what cannot be placed said so."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.backfill import Via
from cutover.domain.errors import IllegalStep, OperatorError
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import ProxiedRequest, answer, on
from cutover.embedded.processes import until
from cutover.engine.backfill_progress import BackfillLimits
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, REMOVED, ROOT, STRANGER

COMMITS = on("POST", r"/memories$")


def rows(count: int, workspace: UUID | None = CHILD) -> list[tuple[UUID, UUID | None, str, str]]:
    """Rows whose ids are in the order of their numbers."""
    return [(UUID(int=number << 64), workspace, f"row {number}", "LOCAL") for number in range(1, count + 1)]


def limits(**changes: Any) -> BackfillLimits:
    given = BackfillLimits(chunk=50, rate=0.0, queue=1000, pause_file=None, via=Via.CONTRACT)
    return replace(given, **changes)


async def reaches(s: Scene, **wanted: object) -> None:
    """Wait until the progress shows this."""

    async def shows() -> bool:
        progress = (await s.tenant.operations.backfill_status()).items()
        return wanted.items() <= progress

    await until(shows, f"{wanted}", timeout=20, every=0.01)


@pytest.mark.parametrize("embedding", [True, False])
async def test_everything_is_copied_exactly(make_database: MakeDatabase, embedding: bool) -> None:
    async with scene(await make_database(embedding=embedding), phase=Phase.A0) as s:
        for workspace in (ROOT, CHILD, GRANDCHILD, REMOVED, STRANGER):
            for scope in ("LOCAL", "TEAM", "GLOBAL"):
                await s.insert(workspace, f"{scope} ünïcode \N{SNOWMAN} " + "x" * 5000, scope, label="facts")
        if embedding:
            await s.database.execute(
                "UPDATE agent_memories SET embedding ="
                " (SELECT array_agg(i::real / 1536) FROM generate_series(1, 1536) i)::vector"
            )
        await s.database.execute("UPDATE agent_memories SET created_at = now() - interval '90 days'")
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        progress = await s.backfill()
        assert (progress["state"], progress["scanned"], progress["marked"], progress["remaining"]) == (
            "finished",
            15,
            15,
            0,
        )
        await s.quiet()
        assert await s.differences() == []
        await s.tenant._creation_times.flush()
        same = await s.database.fetchval(
            "SELECT count(*) FROM agent_memories a JOIN memory_plugin.memory_records r USING (id)"
            " WHERE a.created_at = r.created_at" + (" AND a.embedding::text = r.embedding::text" if embedding else "")
        )
        assert same == 15
        assert await s.tenant._backfill.complete()


async def test_again_changes_nothing_and_sends_nothing(database: str) -> None:
    async with scene(database, rows=rows(120)) as s:
        assert s.proxy is not None
        await s.enter(Phase.A2)
        before = await s.database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id")
        sent = len([r for r in s.proxy.seen if COMMITS(r)])
        progress = await s.backfill()
        assert (progress["state"], progress["scanned"], progress["marked"]) == ("finished", 120, 120)
        assert len([r for r in s.proxy.seen if COMMITS(r)]) == sent
        assert await s.database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id") == before


async def test_reasons_for_quarantine(database: str) -> None:
    given = [
        (uuid4(), None, "no workspace", "LOCAL"),
        (uuid4(), CHILD, " \n\t ", "TEAM"),
        (uuid4(), CHILD, "refused by the plugin", "LOCAL"),
        (uuid4(), CHILD, "fine", "LOCAL"),
    ]
    orphan = uuid4()
    async with scene(database, rows=given) as s:
        assert s.proxy is not None
        await s.database.execute("ALTER TABLE agent_memories DROP CONSTRAINT agent_memories_workspace_id_fkey")
        await s.insert(uuid4(), "its workspace is gone", id=orphan)
        rule = s.proxy.rule(
            on("POST", r"/memories$", "refused by the plugin"), answer(400, {"code": "bad_request", "message": "no"})
        )
        await s.enter(Phase.A2)
        await s.quiet()
        found = {row["memory_id"]: row for row in await s.database.fetch("SELECT * FROM cutover.quarantine")}
        assert {key: row["reason"] for key, row in found.items()} == {
            given[0][0]: "no_workspace",
            given[1][0]: "empty_content",
            given[2][0]: "refused_by_plugin",
            orphan: "workspace_gone",
        }
        assert found[given[2][0]]["detail"] == "HTTP 400 bad_request"
        assert await s.content(given[3][0]) == "fine"
        assert await s.differences() == []
        # Mended by whoever can: it leaves the quarantine by itself.
        rule.off()
        await s.database.execute("UPDATE agent_memories SET workspace_id = $1 WHERE workspace_id IS NULL", CHILD)
        await s.database.execute("UPDATE agent_memories SET content = 'words' WHERE id = $1", given[1][0])
        await s.database.execute("UPDATE agent_memories SET namespace = 'facts' WHERE id = $1", given[2][0])
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", orphan)
        await s.quiet()
        assert await s.count("cutover.quarantine") == 0
        assert await s.differences() == []


async def test_live_edits_and_deletes_win(database: str) -> None:
    given = rows(60)
    async with scene(database, rows=given) as s:
        assert s.proxy is not None
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        changed: set[UUID] = set()

        def first_of_a_dozen(request: ProxiedRequest) -> bool:
            return COMMITS(request) and b"row " in request.body

        held = s.proxy.hold(first_of_a_dozen)
        copying = asyncio.create_task(s.backfill())
        await asyncio.wait_for(held.arrived.wait(), 10)
        for number, (memory_id, *_) in enumerate(given):
            if number % 3 == 0:
                await s.edit(CHILD, memory_id, f"edited {number}")
            elif number % 3 == 1:
                await s.delete(CHILD, memory_id)
            changed.add(memory_id)
        await held.release()
        await copying
        await s.quiet()
        assert await s.differences() == []
        assert await s.database.fetchval("SELECT count(*) FROM agent_memories") == 40
        assert await s.count("cutover.tombstone") == 20


async def test_a_daemon_that_dies_is_succeeded_by_one_that_goes_on(database: str) -> None:
    async with scene(database, rows=rows(200), backfill=limits(chunk=20, rate=400.0)) as s:
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        started = await s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="ada")

        async def some() -> bool:
            return bool(await s.database.fetchval("SELECT scanned >= 40 FROM cutover.backfill_cursor"))

        await until(some, "some rows", timeout=10, every=0.005)
        await s.daemons[-1].abandon()
        reached = await s.database.fetchval("SELECT scanned FROM cutover.backfill_cursor")
        assert reached < 200
        await s.daemon()
        await reaches(s, run=started["run"], state="finished", scanned=200)
        await s.quiet()
        assert await s.differences() == []
        runs = await s.database.fetch("SELECT state, requested_by FROM cutover.task_run WHERE kind = 'backfill'")
        assert [tuple(row) for row in runs] == [("finished", "ada")]
        steps = [
            row["scanned"]
            for row in await s.database.fetch(
                "SELECT (data ->> 'scanned')::int AS scanned FROM cutover.task_checkpoint ORDER BY seq"
            )
        ]
        assert steps == sorted(steps)
        assert steps[0] == 20
        assert steps[-1] == 200


async def test_a_new_stay_in_a1_voids_the_cursor(database: str) -> None:
    async with scene(database, rows=rows(10)) as s:
        await s.enter(Phase.A2)
        assert await s.tenant._backfill.complete()
        await s.enter(Phase.A0)
        await s.database.execute("UPDATE agent_memories SET content = 'changed unseen'")
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        assert not await s.tenant._backfill.complete()
        await refused(s.step(Phase.A3), IllegalStep)
        progress = await s.backfill()
        assert progress["marked"] == 10
        await s.quiet()
        assert await s.differences() == []


async def test_one_workspace_and_a_limit(database: str) -> None:
    given = [*rows(30), *((uuid4(), STRANGER, f"other {number}", "TEAM") for number in range(5))]
    async with scene(database, rows=given) as s:
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        plan = await s.tenant.operations.start_backfill(apply=False, workspace_id=STRANGER, limit=None, actor="a")
        assert plan["dry_run"]
        assert await s.marks() == {}
        progress = await s.backfill(workspace_id=STRANGER)
        assert (progress["scope"], progress["total"], progress["scanned"]) == (f"workspace:{STRANGER}", 5, 5)
        assert not await s.tenant._backfill.complete()
        await s.quiet()
        assert await s.count("memory_plugin.memory_records WHERE content LIKE 'other%'") == 5
        for _ in range(2):
            await s.backfill(limit=10)
        assert await s.database.fetchval("SELECT scanned FROM cutover.backfill_cursor WHERE scope = 'tenant'") == 20
        await s.backfill()
        assert await s.tenant._backfill.complete()
        await s.quiet()
        assert await s.differences() == []


async def test_only_in_a2_and_one_at_a_time(database: str, tmp_path: Path) -> None:
    stop = tmp_path / "pause"
    stop.touch()
    async with scene(database, rows=rows(10), backfill=limits(pause_file=stop)) as s:
        for phase in (Phase.A0, Phase.A1):
            await s.enter(phase)
            await refused(
                s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a"), IllegalStep
            )
        await s.step(Phase.A2)

        def start() -> "asyncio.Task[dict[str, object]]":
            return asyncio.create_task(
                s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a")
            )

        ended = await asyncio.gather(*(start() for _ in range(4)), return_exceptions=True)
        assert len([each for each in ended if isinstance(each, dict)]) == 1
        assert [type(each) for each in ended if not isinstance(each, dict)] == [OperatorError] * 3
        assert await s.count("cutover.task_run WHERE kind = 'backfill'") == 1
        await reaches(s, state="paused", throttled="pause_file")
        assert await s.marks() == {}
        stop.unlink()
        await reaches(s, state="finished")


async def test_an_operator_holds_it_and_lets_it_go(database: str) -> None:
    async with scene(database, rows=rows(100), backfill=limits(chunk=10, rate=200.0)) as s:
        await refused(s.tenant.operations.pause_backfill(paused=True, actor="a"), OperatorError)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a")
        await s.tenant.operations.pause_backfill(paused=True, actor="a")
        await reaches(s, state="paused", throttled="operator")
        held = await s.database.fetchval("SELECT scanned FROM cutover.backfill_cursor")
        assert held < 100
        assert await s.database.fetchval("SELECT scanned FROM cutover.backfill_cursor") == held
        await s.tenant.operations.pause_backfill(paused=False, actor="a")
        await reaches(s, state="finished", scanned=100)


async def test_a_sick_plugin_and_a_full_queue_hold_it(database: str) -> None:
    async with scene(database, rows=rows(400), backfill=limits(chunk=20, queue=50)) as s:
        assert s.proxy is not None
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        fault = s.proxy.rule(COMMITS, answer(500))
        await s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a")
        await reaches(s, throttled="queue")
        fault.off()
        await s.proxy.refuse()
        await reaches(s, throttled="plugin")
        await s.proxy.accept()
        await reaches(s, state="finished", scanned=400)
        await s.quiet(timeout=30)
        assert await s.differences() == []


async def test_a_phase_change_ends_it_with_words(database: str) -> None:
    async with scene(database, rows=rows(100), backfill=limits(chunk=5, rate=50.0)) as s:
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a")
        await reaches(s, state="running")
        await s.step(Phase.A1)
        await reaches(s, state="failed")
        progress = await s.tenant.operations.backfill_status()
        assert progress["why"]
        made = await s.create(CHILD, "traffic goes on", Scope.TEAM)
        assert made.shadow is not None
