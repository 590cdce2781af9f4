"""The quarantine as operators settle it: each memory has its reason, and whoever acknowledges one answers for it."""

import re
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import DatabaseFault
from cutover.domain.findings import QuarantineFilter, QuarantineReason
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger, Settlement, WriteResult
from cutover.stores.quarantine import QuarantineStore
from tests.integration.read_scene import CHILD, ROOT, database_in_a1_at

EPOCH = 2
REFUSED = "refused_by_plugin:HTTP 400 bad_request"
EVERYTHING = QuarantineFilter(acknowledged=None)


@pytest.fixture
async def db(plain_database: str) -> AsyncIterator[Database]:
    """A tenant in A1 with its workspaces, on each version of PostgreSQL."""
    async with database_in_a1_at(plain_database) as opened:
        yield opened


@pytest.fixture
def store(db: Database) -> QuarantineStore:
    return QuarantineStore(db)


@pytest.fixture
def ledger(db: Database) -> Ledger:
    return Ledger(db, UUID(int=1))


async def add(db: Database, content: str = "x") -> UUID:
    value: UUID = await db.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, 'LOCAL') RETURNING id",
        CHILD,
        content,
    )
    return value


async def claimed(ledger: Ledger) -> WriteResult:
    (state,) = await ledger.claim(EPOCH, 60.0, 10, backfill=False)
    return state


async def settle(ledger: Ledger, word: str, note: str = "") -> None:
    """The memory that waits for delivery comes to this end."""
    state = await claimed(ledger)
    assert state.rev is not None
    assert state.lease_id is not None
    await ledger.settle([Settlement(state.memory_id, state.rev, state.lease_id, state.seq, word, 0.0, note)])


async def refused(ledger: Ledger, content: str = "x") -> UUID:
    """A memory that the plugin would not take."""
    memory = await add(ledger.database, content)
    await settle(ledger, "quarantined", REFUSED)
    return memory


async def acknowledged(db: Database) -> dict[UUID, str | None]:
    rows = await db.fetch("SELECT memory_id, acknowledged_by FROM cutover.quarantine")
    return {row["memory_id"]: row["acknowledged_by"] for row in rows}


@pytest.mark.parametrize(
    "wrong",
    [
        "reason = 'bored'",
        "acknowledged_by = 'alice'",
        "acknowledged_by = 'alice', acknowledged_at = now()",
        "why = 'because'",
        "acknowledged_by = '', acknowledged_at = now(), why = 'because'",
        "acknowledged_by = 'alice', acknowledged_at = now(), why = ''",
    ],
)
async def test_the_table_refuses_what_cannot_be(db: Database, ledger: Ledger, wrong: str) -> None:
    await refused(ledger)
    with pytest.raises(DatabaseFault):
        await db.execute(f"UPDATE cutover.quarantine SET {wrong}")


@pytest.mark.parametrize("reason", list(QuarantineReason))
async def test_every_reason_that_can_be_asked_for_can_be_there(db: Database, reason: QuarantineReason) -> None:
    await db.execute(
        "INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, $2, 1)", uuid4(), reason.value
    )


async def test_every_reason_that_can_be_there_can_be_asked_for(db: Database) -> None:
    rules = await db.fetch(
        "SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint"
        " WHERE conrelid = 'cutover.quarantine'::regclass AND conname = 'quarantine_reason_check'"
    )
    assert {reason.value for reason in QuarantineReason} == set(re.findall(r"'(\w+)'", rules[0]["rule"]))


async def test_each_filter_finds_its_own(db: Database, store: QuarantineStore) -> None:
    made = {}
    for number, (reason, workspace, who) in enumerate(
        [("empty_content", CHILD, None), ("no_workspace", None, None), ("empty_content", ROOT, "alice")]
    ):
        made[number] = UUID(int=number)
        await db.execute(
            "INSERT INTO cutover.quarantine"
            " (memory_id, workspace_id, reason, rev, acknowledged_by, acknowledged_at, why)"
            " VALUES ($1, $2, $3, 1, $4, CASE WHEN $4::text IS NOT NULL THEN now() END,"
            "         CASE WHEN $4::text IS NOT NULL THEN 'known' END)",
            made[number], workspace, reason, who,
        )  # fmt: skip

    async def ids(chosen: QuarantineFilter) -> list[int]:
        rows, _ = await store.page(chosen, limit=10)
        return [row["memory_id"].int for row in rows]

    assert await ids(QuarantineFilter()) == [0, 1]
    assert await ids(QuarantineFilter(acknowledged=True)) == [2]
    assert await ids(EVERYTHING) == [0, 1, 2]
    assert await ids(QuarantineFilter(reason=QuarantineReason.EMPTY_CONTENT)) == [0]
    assert await ids(QuarantineFilter(workspace_id=CHILD)) == [0]
    assert await ids(QuarantineFilter(ids=(made[2],), acknowledged=None)) == [2]
    first, matching = await store.page(EVERYTHING, limit=2)
    assert (len(first), matching) == (2, 3)
    rest, matching = await store.page(EVERYTHING, limit=2, after=first[-1]["memory_id"])
    assert ([row["memory_id"].int for row in rest], matching) == ([2], 1)


async def test_what_is_told_of_one_says_no_content(db: Database, store: QuarantineStore, ledger: Ledger) -> None:
    memory = await refused(ledger, "nobody may read this here")
    told = await store.about(memory)
    assert (told["held_by"], told["scope"], told["content_length"]) == ("legacy", "LOCAL", 25)
    assert (told["workspace_known"], told["mark"]) == (True, None)
    (row,), _ = await store.page(EVERYTHING, limit=1)
    assert "nobody may" not in str(told) + str(row)
    assert (await store.about(uuid4()))["held_by"] is None
    await db.execute("INSERT INTO cutover.kv (memory_id, workspace_id, key) VALUES ($1, $2, 'k')", UUID(int=5), ROOT)
    told = await store.about(UUID(int=5))
    assert (told["held_by"], told["workspace_known"]) == ("kv", True)


async def test_a_retry_marks_and_a_delivery_frees(db: Database, store: QuarantineStore, ledger: Ledger) -> None:
    memory = await refused(ledger)
    done = await store.retry(EVERYTHING, epoch=EPOCH, limit=10)
    assert (done.marked, done.remaining) == (1, 0)
    assert await db.fetchval("SELECT origin FROM cutover.mark WHERE memory_id = $1", memory) == "repair"
    assert (await store.page(EVERYTHING, limit=1))[0][0]["marked"] is True
    assert (await store.retry(EVERYTHING, epoch=EPOCH, limit=10)).marked == 0, "it waits for that delivery already"
    await settle(ledger, "delivered")
    assert await acknowledged(db) == {}


async def test_a_retry_takes_those_of_one_reason_and_not_more_than_so_many(
    db: Database, store: QuarantineStore
) -> None:
    for number in range(4):
        reason = "empty_content" if number else "no_workspace"
        await db.execute(
            "INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, $2, 1)", UUID(int=number), reason
        )
    empty = QuarantineFilter(reason=QuarantineReason.EMPTY_CONTENT, acknowledged=None)
    done = await store.retry(empty, epoch=EPOCH, limit=2)
    assert (done.marked, done.remaining) == (2, 1)
    assert {row["memory_id"].int for row in await db.fetch("SELECT memory_id FROM cutover.mark")} == {1, 2}


async def test_one_is_acknowledged_by_somebody_who_says_why(
    db: Database, store: QuarantineStore, ledger: Ledger
) -> None:
    memory, other = await refused(ledger, "a"), await refused(ledger, "b")
    assert await store.acknowledge(memory, who="alice", why="seen with the owner")
    assert await acknowledged(db) == {memory: "alice", other: None}
    (row,), _ = await store.page(QuarantineFilter(acknowledged=True), limit=10)
    assert (row["acknowledged_by"], row["why"]) == ("alice", "seen with the owner")
    assert not await store.acknowledge(memory, who="bob", why="me too")
    assert (await acknowledged(db))[memory] == "alice"
    assert not await store.acknowledge(uuid4(), who="alice", why="not there")


async def test_not_while_a_newer_state_of_it_is_on_its_way(
    db: Database, store: QuarantineStore, ledger: Ledger
) -> None:
    memory = await refused(ledger)
    await db.execute("UPDATE agent_memories SET content = 'newer' WHERE id = $1", memory)
    assert not await store.acknowledge(memory, who="alice", why="what I saw was the old one")
    assert await acknowledged(db) == {memory: None}


async def test_a_memory_that_changed_is_no_longer_acknowledged(
    db: Database, store: QuarantineStore, ledger: Ledger
) -> None:
    """Somebody answers for what was there when they looked; the next state is refused anew, and blocks anew."""
    memory = await refused(ledger)
    await store.acknowledge(memory, who="alice", why="known")
    await db.execute("UPDATE agent_memories SET content = 'another' WHERE id = $1", memory)
    await settle(ledger, "quarantined", REFUSED)
    assert await acknowledged(db) == {memory: None}
    assert (await ledger.backlog()).unacknowledged == 1


async def test_the_same_state_stays_acknowledged(db: Database, store: QuarantineStore, ledger: Ledger) -> None:
    """A delivery that is told twice (a crash before its mark was cleared, say) says nothing new."""
    memory = await refused(ledger)
    await store.acknowledge(memory, who="alice", why="known")
    await db.execute("UPDATE cutover.quarantine SET last_seen = now(), detail = 'HTTP 400 other'")
    assert await acknowledged(db) == {memory: "alice"}


async def test_so_it_is_with_a_replayed_journal(db: Database, store: QuarantineStore) -> None:
    """A3 to A2: a memory whose workspace is gone was acknowledged in an earlier state."""
    memory, workspace = uuid4(), uuid4()
    await db.execute("INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, 'workspace_gone', 1)", memory)
    assert await store.acknowledge(memory, who="alice", why="known")
    await db.execute(
        "INSERT INTO cutover.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope,"
        " content, kind, source, created_at)"
        " VALUES ($1, 9, 2, 'upsert', 'applied', false, $3, $2, 'LOCAL', 'x', 'fact', 'agent', now())",
        memory, workspace, f"workspace:{workspace}",
    )  # fmt: skip
    await db.fetch("SELECT * FROM cutover.replay_journal()")
    row = await db.fetchrow("SELECT * FROM cutover.quarantine")
    assert row is not None
    assert (row["rev"], row["detail"], row["acknowledged_by"]) == (9, "at the replay of the journal", None)
