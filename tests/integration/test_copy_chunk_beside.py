"""`cutover.copy_chunk` beside others: rows that are held, marked, journaled, or change while they are copied."""

import asyncio
from uuid import UUID

import pytest

from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.stores.backfill import BackfillStore, CopiedChunk
from tests.integration.lock_scene import foreign_transaction, until_waiting
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT

UPDATE = "UPDATE agent_memories SET content = 'theirs' WHERE id = $1"
LEASED = (
    "INSERT INTO cutover.mark (memory_id, rev, origin, lease_id, lease_owner, ambiguous, due_at, sent_at)"
    " VALUES ($1, nextval('cutover.rev_seq'), $2, 1, gen_random_uuid(), true, now() + interval '1 hour', now())"
)


def key(number: int) -> UUID:
    return UUID(int=number << 96)


def rows(count: int) -> list[tuple[UUID, UUID, str, str]]:
    return [(key(number), CHILD, f"row {number}", "LOCAL") for number in range(1, count + 1)]


async def opened(s: Scene) -> BackfillStore:
    await s.step(Phase.A1)
    await s.step(Phase.A2)
    store = BackfillStore(s.database)
    await store.open(s.tenant.phase.current().epoch, "tenant", None)
    return store


async def chunk(s: Scene, store: BackfillStore, limit: int = 10) -> CopiedChunk:
    return await store.copy_chunk(s.tenant.phase.current().epoch, "tenant", None, limit, timeout=10)


@pytest.mark.parametrize("gone", [False, True], ids=["edit", "delete"])
async def test_a_row_that_is_being_changed_is_left_to_its_mark(database: str, gone: bool) -> None:
    async with scene(database, rows=rows(6)) as s:
        store = await opened(s)
        async with foreign_transaction(database) as stranger:
            await stranger.execute("DELETE FROM agent_memories WHERE id = $1" if gone else UPDATE, key(4))
            first = await chunk(s, store)
            assert (first.scanned, first.copied, first.blocked, first.done) == (3, 3, True, False)
            again = await chunk(s, store)
            assert (again.scanned, again.blocked) == (0, True)
            assert await s.count("memory_plugin.memory_records WHERE content LIKE 'row%'") == 3
            await stranger.execute("COMMIT")
        await s.quiet()
        last = await chunk(s, store)
        assert last.done
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(key(4)) == (None if gone else "theirs")


async def test_a_row_that_is_only_held_is_marked_and_passed(database: str) -> None:
    async with scene(database, rows=rows(6)) as s:
        store = await opened(s)
        async with foreign_transaction(database) as stranger:
            await stranger.execute("SELECT FROM agent_memories WHERE id = $1 FOR UPDATE", key(4))
            first = await chunk(s, store)
            assert (first.scanned, first.copied, first.handed_over, first.done) == (6, 5, 1, True)
            await s.quiet()
            assert await s.differences() == []


@pytest.mark.parametrize("gone", [False, True], ids=["edit", "delete"])
async def test_who_changes_a_row_while_it_is_copied_waits_and_then_wins(database: str, gone: bool) -> None:
    async with scene(database, rows=rows(3)) as s:
        store = await opened(s)
        async with foreign_transaction(database) as stranger:
            # The copy has its locks and waits for this very namespace.
            await stranger.execute(
                "INSERT INTO memory_plugin.memory_namespaces (name, kind) VALUES ($1, 'workspace')",
                f"workspace:{CHILD}",
            )
            copying = asyncio.create_task(chunk(s, store))
            await until_waiting(s.database, "copy_chunk")
            change = asyncio.create_task(s.delete(CHILD, key(2)) if gone else s.edit(CHILD, key(2), "mine"))
            await until_waiting(s.database, "delete_memory" if gone else "edit_memory")
            await stranger.execute("ROLLBACK")
            assert (await copying).copied == 3
            await change
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(key(2)) == (None if gone else "mine")


async def test_only_marks_that_nobody_has_tried_are_taken_over(database: str) -> None:
    async with scene(database, rows=rows(6)) as s:
        store = await opened(s)
        for task in s.daemons[0].tasks:  # nobody delivers: the marks stay as they are put here
            if task.get_name().startswith("reconcile"):
                task.cancel()
        mark = "INSERT INTO cutover.mark (memory_id, rev, origin, attempts) VALUES ($1, 1, $2, $3)"
        await s.database.execute(mark, key(1), "backfill", 0)
        await s.database.execute(mark, key(2), "backfill", 1)
        await s.database.execute(mark, key(3), "repair", 0)
        await s.database.execute(LEASED, key(4), "backfill")
        await s.database.execute(LEASED, key(5), "write")
        found = await chunk(s, store)
        assert (found.scanned, found.copied, found.already) == (6, 2, 4)
        held = await s.database.fetch("SELECT content FROM memory_plugin.memory_records WHERE content LIKE 'row%'")
        assert {row["content"] for row in held} == {"row 1", "row 6"}
        assert set(await s.marks()) == {key(2), key(3), key(4), key(5)}
        log = await s.database.fetch("SELECT memory_id, origin FROM cutover.delivery_log")
        assert [tuple(row) for row in log] == [(key(1), "backfill")]


async def test_what_the_journal_knows_goes_the_contracts_way(database: str) -> None:
    async with scene(database, rows=rows(3)) as s:
        store = await opened(s)
        native = await s.commit("custom:notes", "a native", Kind.SUMMARY)
        await s.quiet()
        # A row under a native's id: no writer can do that, so it is done past the triggers.
        await s.database.execute("SELECT cutover.remove_capture()")
        await s.insert(ROOT, "an impostor", id=native.id)
        await s.database.execute("SELECT cutover.install_capture()")
        found = await chunk(s, store)
        assert (found.scanned, found.copied, found.handed_over) == (4, 3, 1)
        mark = await s.mark(native.id)
        assert mark is None or mark["origin"] == "backfill"


async def test_a_delivery_that_came_between_is_repeated(database: str) -> None:
    """A mark that needs no row lock appears, is delivered and cleared, all while the copy writes what was before."""
    async with scene(database, rows=rows(3)) as s:
        store = await opened(s)
        for task in s.daemons[0].tasks:
            if task.get_name().startswith("reconcile"):
                task.cancel()
        async with foreign_transaction(database) as stranger:
            await stranger.execute(
                "INSERT INTO memory_plugin.memory_namespaces (name, kind) VALUES ($1, 'workspace')",
                f"workspace:{CHILD}",
            )
            copying = asyncio.create_task(chunk(s, store))
            await until_waiting(s.database, "copy_chunk")
            insert = (
                "INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, nextval('cutover.rev_seq'), 'repair')"
            )
            await s.database.execute(insert, key(1))
            await s.database.execute(insert, key(2))
            await s.database.execute(
                "WITH gone AS (DELETE FROM cutover.mark WHERE memory_id = $1 RETURNING *)"
                " INSERT INTO cutover.delivery_log (memory_id, origin, writer) SELECT memory_id, origin, '' FROM gone",
                key(1),
            )
            before = await s.marks()
            await stranger.execute("ROLLBACK")
            assert (await copying).copied == 3
        after = await s.marks()
        assert set(after) == {key(1), key(2)}
        assert after[key(2)]["rev"] > before[key(2)]["rev"], "whoever delivers the older revision must not clear it"


async def test_a_workspace_that_appears_above_others_moves_what_was_copied(database: str) -> None:
    above, below, memory = UUID(int=7777), UUID(int=8888), key(2)
    async with scene(database, rows=rows(1)) as s:
        await s.database.execute("INSERT INTO workspaces (id, name, parent_id) VALUES ($1, 'below', $2)", below, above)
        await s.insert(below, "follows its root", "GLOBAL", id=memory)
        store = await opened(s)
        async with foreign_transaction(database) as stranger:
            await stranger.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'above')", above)
            assert (await chunk(s, store)).copied == 2
            assert (await s.plugin(memory) or {})["namespace"] == f"org:{below}"
            await stranger.execute("COMMIT")
        await s.quiet()
        assert (await s.plugin(memory) or {})["namespace"] == f"org:{above}"
        assert await s.differences() == []
