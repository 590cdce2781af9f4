"""Deleting a namespace in A3: neither a late bulk delete nor a write that raced it costs an acknowledged memory."""

import asyncio
import contextlib
from uuid import UUID

import pytest

from cutover.domain.errors import NotFound, Refused
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import PutNamespace, Receipt
from cutover.embedded.fault_proxy import on, swallow
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting, waiting
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import ROOT

PLACE = "custom:project"
DELETES = on("DELETE", "/v1/namespaces/")


async def attempt(s: Scene) -> Receipt | None:
    """All that an impatient client may do after a delete without an answer; the memory, if it was acknowledged."""
    memories = s.tenant.memories
    with contextlib.suppress(Refused, NotFound):
        await memories.delete_namespace(PLACE, caller("plugin"))
    try:
        await memories.put_namespace(PutNamespace(PLACE, "custom"), caller("plugin"))
        return await s.commit(PLACE, "acknowledged afterwards")
    except Refused:
        return None


async def test_a_late_bulk_delete_meets_no_memory_that_was_acknowledged_since(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        first = await s.commit(PLACE, "to be deleted")
        await s.quiet()
        held = s.proxy.hold(DELETES)
        await refused(s.tenant.memories.delete_namespace(PLACE, caller("plugin")), Refused)
        made = await attempt(s)
        await held.release()
        acknowledged: list[Receipt] = [made] if made is not None else []

        async def open_again() -> bool:
            if not acknowledged and (again := await attempt(s)) is not None:
                acknowledged.append(again)
            return bool(acknowledged)

        await until(open_again, "the namespace to open again", timeout=8)
        await s.quiet()
        assert await s.plugin(first.id) is None
        assert await s.content(acknowledged[0].id) == "acknowledged afterwards"
        assert await s.differences() == []


async def test_a_daemon_that_died_with_its_bulk_delete_under_way_leaves_the_namespace_closed(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        await s.commit(PLACE, "to be deleted")
        await s.quiet()
        held = s.proxy.hold(DELETES)
        s.daemons[-1].start(s.tenant.memories.delete_namespace(PLACE, caller("plugin")))
        await asyncio.wait_for(held.arrived.wait(), 5)
        await s.daemons[-1].abandon()
        await s.daemon()
        made = await attempt(s)
        await held.release()
        await s.quiet()
        assert made is None or await s.content(made.id) == "acknowledged afterwards"
        assert await s.differences() == []


async def test_a_bulk_delete_without_an_answer_can_be_finished_later(database: str) -> None:
    async with scene(database, phase=Phase.A3) as s:
        assert s.proxy is not None
        made = await s.commit(PLACE, "to be deleted")
        await s.quiet()
        s.proxy.rule(DELETES, swallow(), times=1)
        await refused(s.tenant.memories.delete_namespace(PLACE, caller("plugin")), Refused)

        async def deleted() -> bool:
            try:
                await s.tenant.memories.delete_namespace(PLACE, caller("plugin"))
            except Refused:
                return False
            except NotFound:
                return True
            return True

        await until(deleted, "the delete", timeout=8)
        await s.quiet()
        assert await s.plugin(made.id) is None
        assert await s.differences() == []
        again = await s.commit(PLACE, "anew")
        await s.quiet()
        assert await s.content(again.id) == "anew"


@pytest.mark.parametrize("contract", [True, False], ids=["contract", "v1"])
async def test_a_create_that_is_not_committed_yet_is_seen_by_the_closing_of_its_namespace(
    database: str, contract: bool
) -> None:
    name = f"org:{ROOT}"
    async with scene(database, phase=Phase.A3, delivery_deadline=2.0) as s:
        assert s.proxy is not None
        await s.create(ROOT, "an older one", Scope.GLOBAL)
        await s.quiet()
        held = s.proxy.hold(DELETES)
        async with foreign_transaction(database) as stranger:
            # GLOBAL writes are logged at the very end of their transaction: there this one waits.
            await stranger.execute("LOCK TABLE activity_logs IN SHARE MODE")
            create = asyncio.create_task(
                s.commit(name, "racing") if contract else s.create(ROOT, "racing", Scope.GLOBAL)
            )
            await until_waiting(s.database, "begin_commits")
            delete = asyncio.create_task(s.tenant.memories.delete_namespace(name, caller("plugin")))

            async def closing() -> bool:
                return held.arrived.is_set() or await waiting(s.database, "close_namespace") > 0

            await until(closing, "the closing", timeout=5, every=0.005)
            await stranger.execute("ROLLBACK")
            made = await create
        await asyncio.wait_for(held.arrived.wait(), 5)
        await held.release()
        await delete
        await s.quiet()
        assert await s.differences() == []
        assert await newest(s, made.id) == "forget"
        assert await s.plugin(made.id) is None


async def newest(s: Scene, memory_id: UUID) -> str | None:
    """The journal's last word on a memory."""
    word: str | None = await s.database.fetchval(
        "SELECT op FROM cutover.journal WHERE memory_id = $1 AND state <> 'withdrawn' ORDER BY seq DESC LIMIT 1",
        memory_id,
    )
    return word
