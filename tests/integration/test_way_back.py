"""Back from A3 (architecture §6): ahead in chunks, exact to every column; others write again after a clean sweep."""

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.domain.errors import CutoverError, IllegalStep
from cutover.domain.memory import EMBEDDING_DIMENSIONS, Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import on
from cutover.embedded.processes import until
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT

COMMITS = on("POST", r"/memories$")
VECTOR = tuple(round(0.001 * i, 3) for i in range(EMBEDDING_DIMENSIONS))
PATIENT: dict[str, Any] = {"delivery_deadline": 3.0, "plugin_timeout": 3.0}
"""The machine may be busy; nothing here is about how soon a caller is told."""
ODD = "žluťoučký 🐎 \\ '\"%$1 {} \t\n Ωμέγα"


async def table(s: Scene) -> dict[UUID, dict[str, Any]]:
    """Every column of agent_memories."""
    rows = await s.database.fetch("SELECT to_jsonb(a) - 'content_tsv' AS row, a.id FROM agent_memories a")
    return {row["id"]: row["row"] for row in rows}


async def free(s: Scene, timeout: float = 40.0) -> None:
    """Until others may write agent_memories again."""

    async def thawed() -> bool:
        return not await s.database.fetchval("SELECT count(*) FROM cutover.freeze")

    await until(thawed, "the end of the thaw", timeout=timeout, every=0.1)


@pytest.mark.parametrize("embedding", [True, False], ids=["embedding", "plain"])
async def test_every_column_comes_back_exactly(make_database: MakeDatabase, embedding: bool) -> None:
    """Untouched, edited, deleted, made in A3, natives, GLOBAL, Unicode, times that nobody knows; K/V rows untouched."""
    async with scene(await make_database(embedding=embedding), phase=Phase.A2, **PATIENT) as s:
        untouched = await s.create(CHILD, ODD, label="facts")
        timeless, embedded, worded = [await s.commit(f"workspace:{CHILD}", ODD + n, embedding=VECTOR) for n in "123"]
        deleted, native = await s.create(CHILD, "deleted"), await s.create(CHILD, "a native soon")
        await s.database.execute("UPDATE agent_memories SET created_at = NULL WHERE id = $1", timeless.id)
        await s.database.execute(
            "UPDATE agent_memories SET created_at = '2020-02-29 23:59:59.999999+00', updated_at = NULL WHERE id = $1",
            embedded.id,
        )
        await s.database.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value) VALUES ($1, 'k', '{}')", CHILD
        )
        await s.quiet()
        kv = await s.database.fetch("SELECT * FROM workspace_memory")
        before = await table(s)
        await s.enter(Phase.A3)
        assert await table(s) == before
        await s.edit(CHILD, timeless.id, label="procedures")
        await s.edit(CHILD, embedded.id, label="procedures")
        await s.edit(CHILD, worded.id, "other words " + ODD)
        await s.delete(CHILD, deleted.id)
        await s.commit(f"workspace:{CHILD}", "a summary", Kind.SUMMARY, id=native.id)
        made = await s.create(ROOT, "[MEMORY of all] " + ODD, Scope.GLOBAL, label="general")
        brief = await s.create(CHILD, "brief")
        await s.delete(CHILD, brief.id)
        await s.quiet()
        told = {row["id"]: row["ours"] for row in await s.database.fetch(
            "SELECT id, propagation -> 'cutover' AS ours FROM memory_plugin.memory_records")}  # fmt: skip
        changed = await s.step(Phase.A2)

        rows = {row["id"]: row for row in await s.database.fetch("SELECT * FROM agent_memories")}
        after = await table(s)
        assert set(after) == {untouched.id, timeless.id, embedded.id, worded.id, made.id}
        assert after[untouched.id] == before[untouched.id]
        assert rows[timeless.id]["created_at"] is None
        assert rows[embedded.id]["created_at"] == datetime.fromisoformat("2020-02-29T23:59:59.999999+00:00")
        assert rows[made.id]["content"] == "[_MEMORY of all] " + ODD
        assert rows[worded.id]["content"] == "other words " + ODD
        for memory_id, row in rows.items():
            # What the plugin was told with each delivery is its v1 row.
            ours = json.loads(told[memory_id])
            assert ours["workspace_id"] == str(row["workspace_id"])
            assert (ours["scope"], ours["namespace"]) == (row["scope"], row["namespace"])
            for name in ("created_at", "updated_at"):
                assert (ours[name] and datetime.fromisoformat(ours[name])) == row[name], (name, memory_id)
        if embedding:
            found = await s.database.fetch("SELECT id, embedding IS NOT NULL AS has FROM agent_memories")
            vectors = {row["id"]: row["has"] for row in found}
            assert vectors[timeless.id]
            assert vectors[embedded.id]
            assert not vectors[worded.id], "other words have another vector"
        assert await s.database.fetch("SELECT * FROM workspace_memory") == kv
        assert any(f"1 memories have no v1 form and stay plugin-only: {native.id}" in note for note in changed["notes"])
        await s.quiet()
        assert await s.differences() == []


async def test_what_goes_ahead_changes_nothing_in_a3_and_a_way_back_that_is_given_up_leaves_nothing_to_undo(
    database: str,
) -> None:
    async with scene(database, phase=Phase.A3, **PATIENT) as s:
        assert s.proxy is not None
        edited, deleted = await s.create(CHILD, "edited"), await s.create(CHILD, "deleted")
        native = await s.create(CHILD, "turned")
        await s.quiet()
        way_back = s.tenant._way_back
        state = await s.tenant.phase.reload()
        await way_back.prepare(state)
        assert await s.count("agent_memories") == 3
        assert await s.differences() == []
        # On in A3: what legacy has heard is not asked for.
        await s.edit(CHILD, edited.id, "edited again")
        await s.delete(CHILD, deleted.id)
        await s.commit(f"workspace:{CHILD}", "a summary", Kind.SUMMARY, id=native.id)
        held = s.proxy.hold(COMMITS)
        under_way = s.daemons[-1].start(_told(s.edit(CHILD, edited.id, "withdrawn")))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await way_back.prepare(state)
        row = await s.legacy(edited.id)
        assert row is not None
        assert row["content"] == "edited", "an intent may still be withdrawn"
        await under_way
        await held.release()
        await s.quiet()
        assert await s.content(edited.id) == "edited again"
        assert await s.differences() == []
        # A foreign delete passes the freeze, also of what went ahead.
        gone = await s.create(CHILD, "gone")
        await s.quiet()
        await way_back.prepare(state)
        await s.database.execute("DELETE FROM agent_memories WHERE id = $1", gone.id)
        await s.quiet()
        assert await s.plugin(gone.id) is None
        await s.step(Phase.A2)
        rows = {row["id"]: row["content"] for row in await s.database.fetch("SELECT id, content FROM agent_memories")}
        assert rows == {edited.id: "edited again"}
        await s.quiet()
        assert await s.differences() == []


async def _told(write: Any) -> CutoverError | None:
    try:
        await write
    except CutoverError as error:
        return error
    return None


async def test_a_purge_that_is_under_way_is_not_undone(database: str) -> None:
    async with scene(database, phase=Phase.A3, **PATIENT) as s:
        made = await s.create(CHILD, "made")
        await s.quiet()
        await s.tenant._way_back.prepare(await s.tenant.phase.reload())
        await s.edit(CHILD, made.id, "edited")
        await s.quiet()
        purge = await asyncpg.connect(database)
        try:
            transaction = purge.transaction()
            await transaction.start()
            await purge.execute("DELETE FROM agent_memories WHERE id = $1", made.id)
            back = asyncio.create_task(s.step(Phase.A2))
            await asyncio.wait({back}, timeout=1.0)
            await transaction.commit()
            await back
        finally:
            await purge.close()
        await s.quiet()
        assert await s.legacy(made.id) is None
        assert await s.plugin(made.id) is None


async def test_others_write_again_after_a_clean_sweep_and_not_before(database: str) -> None:
    async with scene(database, phase=Phase.A3, **PATIENT) as s:
        made = await s.create(CHILD, "made")
        await s.quiet()
        await s.step(Phase.A2)
        assert await s.database.fetchval("SELECT mode FROM cutover.freeze") == "thawing"
        with pytest.raises(CutoverError, match="CU003"):
            await s.insert(CHILD, "too early")
        await s.edit(CHILD, made.id, "our own path")
        # A daemon that dies here leaves it to the next.
        await s.daemons[-1].abandon()
        await s.daemon()
        await free(s)
        await s.insert(CHILD, "on time")
        await s.quiet()
        assert await s.differences() == []
        assert await s.database.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_freeze%'") == 0


async def test_through_the_contract_alone_a_partial_sweep_without_findings_ends_the_thaw(database: str) -> None:
    async with scene(database, phase=Phase.A3, plugin_database_url="none", **PATIENT) as s:
        await s.create(CHILD, "made")
        await s.quiet()
        await s.step(Phase.A2)
        await free(s)
        await s.insert(CHILD, "on time")


async def test_a_sweep_that_is_not_clean_keeps_others_out_until_somebody_answers_for_it(database: str) -> None:
    async with scene(database, phase=Phase.A3, **PATIENT) as s:
        lost = await s.create(CHILD, "lost")
        await s.quiet()
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", lost.id)
        await s.step(Phase.A2)
        await s.database.execute("DELETE FROM cutover.mark")  # nothing mends it by itself

        async def red() -> bool:
            return "findings are open" in s.tenant.thaw.why

        await until(red, "the sweep's verdict", timeout=40, every=0.1)
        evidence = await s.tenant._freeze_evidence()
        assert not evidence.intact
        assert "cutover divergence repair" in evidence.why
        with pytest.raises(CutoverError, match="CU003"):
            await s.insert(CHILD, "too early")
        told = await s.tenant.thaw.by_hand("alice", "the plugin's row was deleted on purpose")
        assert "findings are open" in told["was_in_the_way"]
        await free(s)
        await s.insert(CHILD, "on time")
        run = await s.database.fetchrow(
            "SELECT requested_by, outcome ->> 'reason' AS reason FROM cutover.task_run WHERE kind = 'phase'"
            " AND outcome ->> 'what' = 'thaw'"
        )
        assert run is not None
        assert tuple(run) == ("alice", "the plugin's row was deleted on purpose")
        with pytest.raises(IllegalStep):
            await s.tenant.thaw.by_hand("alice", "again")


async def test_forward_back_forward_for_every_reversible_step(database: str) -> None:
    async with scene(database, rows=[(uuid4(), CHILD, f"old {n}", "LOCAL") for n in range(5)], **PATIENT) as s:
        for there, back in ((Phase.A1, Phase.A0), (Phase.A2, Phase.A1), (Phase.A3, Phase.A2)):
            await s.enter(there)
            first = await s.create(CHILD, f"in {there}")
            await s.step(back)
            await s.edit(CHILD, first.id, f"in {there}, then {back}")
            await s.enter(there)
            await s.quiet()
            if there is not Phase.A1:  # what was written in A0 is the backfill's
                assert await s.content(first.id) == f"in {there}, then {back}"
            assert (await s.tenant.phase.reload()).phase is there
        assert await s.differences() == []
        # Straight down to A0: whoever writes past the daemon may do so at once.
        for phase in (Phase.A2, Phase.A1, Phase.A0):
            await s.step(phase)
        await s.insert(CHILD, "in A0")
        assert await s.count("agent_memories") == 5 + 3 + 1
