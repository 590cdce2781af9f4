"""Going back (architecture §6): nothing written since the cutover is lost, and nothing deleted comes back."""

import asyncio
import json
from uuid import UUID

import pytest

from cutover.domain.errors import NotFound, Refused
from cutover.domain.memory import EMBEDDING_DIMENSIONS, Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import Shadow
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD, STRANGER

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")
VECTOR = tuple(round(0.001 * i, 3) for i in range(EMBEDDING_DIMENSIONS))


@pytest.mark.parametrize("embedding", [True, False])
async def test_a3_to_a2_replays_exactly_and_forward_again(make_database: MakeDatabase, embedding: bool) -> None:
    async with scene(await make_database(embedding=embedding), phase=Phase.A2) as s:
        kept = await s.create(CHILD, "kept", label="facts")
        edited = await s.commit(f"workspace:{CHILD}", "before", pin=True, propagation={"mine": [1]}, embedding=VECTOR)
        deleted = await s.create(CHILD, "deleted")
        before = {row["id"]: dict(row) for row in await s.database.fetch("SELECT * FROM agent_memories")}
        await s.enter(Phase.A3)

        made = await s.create(CHILD, "made in A3", Scope.TEAM, label="procedures")
        vector = await s.commit(
            f"workspace:{CHILD}", "with a vector", embedding=VECTOR, propagation={"x": None}, pin=True
        )
        await s.edit(CHILD, edited.id, label="procedures")
        await s.delete(CHILD, deleted.id)
        brief = await s.create(CHILD, "made and deleted in A3")
        await s.delete(CHILD, brief.id)
        native = await s.commit("custom:notes", "native", Kind.SUMMARY)
        turned = await s.create(CHILD, "a fact first")
        await s.commit(f"workspace:{CHILD}", "a summary then", Kind.SUMMARY, id=turned.id)
        assert {row["id"]: dict(row) for row in await s.database.fetch("SELECT * FROM agent_memories")} == before
        journal = await s.database.fetchrow("SELECT * FROM cutover.journal WHERE memory_id = $1", made.id)
        assert journal is not None

        changed = await s.step(Phase.A2)
        told = " | ".join(changed["notes"])
        assert "3 writes and 2 deletes" in told
        assert "2 memories have no v1 form" in told
        assert f"{native.id} (summary in custom:notes)" in told
        rows = {row["id"]: row for row in await s.database.fetch("SELECT * FROM agent_memories")}
        assert set(rows) == {kept.id, edited.id, made.id, vector.id}
        assert rows[kept.id]["updated_at"] == before[kept.id]["updated_at"]
        new = rows[made.id]
        assert (new["content"], new["scope"], new["namespace"]) == ("made in A3", "TEAM", "procedures")
        assert (new["created_at"], new["updated_at"]) == (journal["created_at"], journal["updated_at"])
        assert (rows[edited.id]["content"], rows[edited.id]["namespace"]) == ("before", "procedures")
        assert rows[edited.id]["created_at"] == before[edited.id]["created_at"]
        for memory_id in (vector.id, edited.id):
            assert await _vector(s, memory_id, embedding=embedding) == list(VECTOR)
        await s.quiet()
        assert await s.differences() == []
        for memory_id, words in ((vector.id, {"x": None}), (edited.id, {"mine": [1]})):
            row = await s.plugin(memory_id)
            assert row is not None
            assert row["pin"]
            assert {k: v for k, v in row["propagation"].items() if k != "cutover"} == words
            assert json.loads(row["vector"]) == pytest.approx(VECTOR)
        assert await s.content(native.id) == "native"
        assert await s.content(turned.id) == "a summary then"
        assert (await s.sweep())["unexplained"] == 0

        # And on: edits in A2 count over what the journal said.
        await s.edit(CHILD, made.id, "edited in A2")
        await s.delete(CHILD, vector.id)
        await s.enter(Phase.A3)
        assert await s.content(made.id) == "edited in A2"
        await s.edit(CHILD, made.id, "edited in A3 again")
        await refused(s.edit(CHILD, vector.id, "gone"), NotFound)
        await s.quiet()
        assert await s.differences() == []
        await s.step(Phase.A2)
        await s.quiet()
        row2 = await s.legacy(made.id)
        assert row2 is not None
        assert row2["content"] == "edited in A3 again"
        assert await s.legacy(vector.id) is None
        assert await s.differences() == []


async def _vector(s: Scene, memory_id: UUID, *, embedding: bool) -> list[float]:
    if embedding:
        text = await s.database.fetchval("SELECT embedding::text FROM agent_memories WHERE id = $1", memory_id)
    else:
        text = await s.database.fetchval(
            "SELECT translate(embedding::text, '{}', '[]') FROM cutover.extra WHERE memory_id = $1", memory_id
        )
    return [round(value, 3) for value in json.loads(text)]


async def test_a_rollback_works_while_the_plugin_is_dead(database: str) -> None:
    """That is when it is needed."""
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "before the outage")
        await s.quiet()
        s.proxy.rule(COMMITS, answer(500))
        await refused(s.edit(CHILD, made.id, "during the outage"), Refused)  # withdrawn; its mark has to wait
        await s.proxy.refuse()

        async def down() -> bool:
            return not s.tenant.health.up

        await until(down, "the probe", timeout=10)
        assert await s.marks() != {}
        for phase in (Phase.A2, Phase.A1, Phase.A0):
            await s.step(phase)
        row = await s.legacy(made.id)
        assert row is not None
        assert row["content"] == "before the outage"
        assert (await s.create(CHILD, "in A0")).shadow is None


async def test_an_intent_under_way_is_waited_for(database: str) -> None:
    async with scene(database, phase=Phase.A3, delivery_deadline=1.0) as s:
        assert s.proxy is not None
        held = s.proxy.hold(COMMITS)
        write = s.daemons[-1].start(s.create(CHILD, "on its way"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        back = asyncio.create_task(s.step(Phase.A2))
        await asyncio.wait({back}, timeout=0.3)
        assert not back.done()
        await held.release()
        made = await write
        await back
        row = await s.legacy(made.id)
        assert row is not None
        assert row["content"] == "on its way"
        await s.quiet()
        assert await s.differences() == []


async def test_a_crash_left_intent_is_replayed(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        held = s.proxy.hold(COMMITS)
        s.daemons[-1].start(s.create(CHILD, "nobody was told no"))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[-1].abandon()
        await s.daemon()
        await s.step(Phase.A2)
        assert await s.database.fetchval("SELECT content FROM agent_memories") == "nobody was told no"
        await s.quiet()
        assert await s.differences() == []


@pytest.mark.parametrize("by", ["daemon", "sql"])
async def test_what_was_deleted_in_a0_does_not_come_back(database: str, by: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        gone, stays, changed = [await s.create(CHILD, word) for word in ("gone", "stays", "changed")]
        native = await s.commit("custom:notes", "native", Kind.SUMMARY)
        await s.quiet()
        await s.enter(Phase.A0)
        if by == "daemon":
            await s.delete(CHILD, gone.id)
            await s.edit(CHILD, changed.id, "changed in A0")
        else:
            await s.database.execute("DELETE FROM agent_memories WHERE id = $1", gone.id)
            await s.database.execute("UPDATE agent_memories SET content = 'changed in A0' WHERE id = $1", changed.id)
        await s.insert(STRANGER, "inserted in A0")
        await s.step(Phase.A1)
        await s.quiet()
        assert await s.content(gone.id) is None
        await s.enter(Phase.A2)
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(changed.id) == "changed in A0"
        assert await s.content(native.id) == "native"
        assert await s.content(stays.id) == "stays"
        assert (await s.sweep())["unexplained"] == 0


async def test_a_contract_only_plugin_forgets_what_the_daemon_deleted_in_a0(database: str) -> None:
    async with scene(database, phase=Phase.A2, plugin_database_url="none") as s:
        gone = await s.create(CHILD, "gone")
        await s.quiet()
        await s.enter(Phase.A0)
        await s.delete(CHILD, gone.id)
        assert await s.content(gone.id) == "gone"
        await s.step(Phase.A1)
        await s.quiet()
        assert await s.content(gone.id) is None


async def test_a_late_request_from_before_a_rollback_does_no_harm(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "first")
        await s.quiet()
        held = s.proxy.hold(COMMITS)
        assert (await s.edit(CHILD, made.id, "second")).shadow is Shadow.PENDING
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await held.release()
        await s.quiet()
        assert await s.content(made.id) == "second"
        assert await s.differences() == []


async def test_the_steps_that_are_not_steps(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        for target in (Phase.A1, Phase.A3, Phase.A4):
            error = await refused(s.step(target), Exception)
            assert getattr(error, "status", None) == 409, target
        stale = s.tenant.operations.change_phase(Phase.A2, actor="a", reason="r", expected_epoch=1)
        assert "epoch" in str(await refused(stale, Exception))
        await s.step(Phase.A2)
        error = await refused(s.step(Phase.A3), Exception)
        assert "backfill" in str(error)
        assert (await s.tenant.phase.reload()).phase is Phase.A2
