"""claim_marks and settle by themselves (architecture §3): who may send, what clears, what waits for T_z."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import StaleEpoch
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger, Settlement, WriteResult
from tests.integration.read_scene import CHILD, database_in_a1_at

QUIET = 60.0


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


@pytest.fixture
async def database_in_a1(database: str) -> AsyncIterator[Database]:
    async with database_in_a1_at(database) as opened:
        yield opened


@pytest.fixture
def one(database_in_a1: Database) -> Ledger:
    return Ledger(database_in_a1, UUID(int=1))


@pytest.fixture
def two(database_in_a1: Database) -> Ledger:
    return Ledger(database_in_a1, UUID(int=2))


async def add(ledger: Ledger, content: str = "x") -> UUID:
    value: UUID = await ledger.database.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, 'LOCAL') RETURNING id",
        CHILD,
        content,
    )
    return value


async def claim(ledger: Ledger, *, backfill: bool = False, quiet: float = QUIET, limit: int = 10) -> list[WriteResult]:
    return await ledger.claim(2, quiet, limit, backfill=backfill)


def outcome(state: WriteResult, word: str, *, rev: int | None = None, delay: float = 0.0, note: str = "") -> Settlement:
    assert state.rev is not None
    assert state.lease_id is not None
    return Settlement(state.memory_id, state.rev if rev is None else rev, state.lease_id, state.seq, word, delay, note)


async def mark(ledger: Ledger, memory_id: UUID) -> dict[str, object] | None:
    row = await ledger.database.fetchrow("SELECT * FROM cutover.mark WHERE memory_id = $1", memory_id)
    return dict(row) if row is not None else None


async def test_a_claim_is_one_daemons_and_carries_the_state(one: Ledger, two: Ledger) -> None:
    memory_id = await add(one, "now")
    state, *others = await claim(one)
    assert others == []
    assert (state.memory_id, state.status, state.content, state.namespace) == (
        memory_id, "upsert", "now", f"workspace:{CHILD}",
    )  # fmt: skip
    assert await claim(two) == []
    assert await claim(one) == []
    held = await mark(one, memory_id)
    assert held is not None
    assert (held["ambiguous"], held["lease_owner"], held["rev"]) == (True, one.owner, state.rev)


async def test_delivered_clears_only_what_was_sent(one: Ledger) -> None:
    memory_id = await add(one)
    state = (await claim(one))[0]
    await one.database.execute("UPDATE agent_memories SET content = 'newer' WHERE id = $1", memory_id)
    assert await one.settle([outcome(state, "delivered")]) == {memory_id: False}
    again = (await claim(one))[0]
    assert again.content == "newer"
    assert again.rev is not None
    assert state.rev is not None
    assert again.rev > state.rev
    assert await one.settle([outcome(again, "delivered")]) == {memory_id: True}
    assert await mark(one, memory_id) is None
    assert await one.settle([outcome(again, "delivered")]) == {memory_id: False}


async def test_a_lease_that_was_granted_anew_belongs_to_its_new_holder(one: Ledger, two: Ledger) -> None:
    memory_id = await add(one)
    late = (await claim(one, quiet=-1.0))[0]  # over at once
    held = (await claim(two))[0]
    assert held.lease_id != late.lease_id
    for word in ("delivered", "failed", "quarantined", "ambiguous"):
        assert await one.settle([outcome(late, word, note="refused_by_plugin:late")]) == {memory_id: False}
    after = await mark(one, memory_id)
    assert after is not None
    assert (after["lease_id"], after["lease_owner"]) == (held.lease_id, two.owner)
    assert await one.database.fetchval("SELECT count(*) FROM cutover.quarantine") == 0


async def test_failed_gives_the_lease_back_after_its_pause(one: Ledger, two: Ledger) -> None:
    memory_id = await add(one)
    state = (await claim(one))[0]
    await one.settle([outcome(state, "failed", delay=60.0, note="HTTP 500 internal")])
    held = await mark(one, memory_id)
    assert held is not None
    assert (held["ambiguous"], held["lease_id"], held["attempts"], held["last_error"]) == (
        False, None, 1, "HTTP 500 internal",
    )  # fmt: skip
    assert await claim(two) == []
    await one.database.execute("UPDATE cutover.mark SET due_at = now() - interval '1 s'")
    again = (await claim(two))[0]
    assert again.attempts == 1
    await two.settle([outcome(again, "failed")])
    assert len(await claim(one)) == 1  # no pause: due at once


async def test_ambiguous_keeps_the_lease_until_t_z(one: Ledger, two: Ledger) -> None:
    memory_id = await add(one)
    state = (await claim(one))[0]
    before = await mark(one, memory_id)
    await one.settle([outcome(state, "ambiguous")])
    after = await mark(one, memory_id)
    assert before is not None
    assert after is not None
    assert (after["due_at"], after["lease_id"], after["ambiguous"]) == (before["due_at"], before["lease_id"], True)
    # Neither a live change nor a delete makes it due sooner.
    await one.database.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
    changed = await mark(one, memory_id)
    assert changed is not None
    assert changed["due_at"] == before["due_at"]
    assert await claim(two) == []
    await one.database.execute("UPDATE cutover.mark SET due_at = now() - interval '1 s'")
    assert (await claim(two))[0].status == "forget"


async def test_quarantined_stores_the_reason_and_a_delivery_frees(one: Ledger) -> None:
    memory_id = await add(one)
    state = (await claim(one))[0]
    assert await one.settle([outcome(state, "quarantined", note="refused_by_plugin:HTTP 400 bad_request")]) == {
        memory_id: True
    }
    row = await one.database.fetchrow("SELECT * FROM cutover.quarantine")
    assert row is not None
    assert (row["reason"], row["detail"], row["workspace_id"]) == ("refused_by_plugin", "HTTP 400 bad_request", CHILD)
    await one.database.execute("UPDATE agent_memories SET content = 'mended' WHERE id = $1", memory_id)
    await one.settle([outcome((await claim(one))[0], "delivered")])
    assert await one.database.fetchval("SELECT count(*) FROM cutover.quarantine") == 0


async def test_one_statement_settles_many_and_passes_over_what_is_locked(one: Ledger) -> None:
    for number in range(4):
        await add(one, f"{number}")
    states = await claim(one)
    locked = states[0].memory_id
    async with one.database.transaction() as foreign:
        await foreign.execute("UPDATE agent_memories SET content = 'open' WHERE id = $1", locked)
        told = await one.settle([outcome(state, "delivered") for state in states])
    assert told == {state.memory_id: None if state.memory_id == locked else True for state in states}
    assert await one.settle([outcome(states[0], "delivered")]) == {locked: False}


async def test_the_lanes_are_apart_and_a_live_change_leaves_the_slow_one(one: Ledger) -> None:
    memory_id = uuid4()
    await one.database.execute(
        "INSERT INTO cutover.mark (memory_id, rev, origin, writer) VALUES ($1, 1, 'backfill', 'cutover')", memory_id
    )
    live = await add(one)
    assert [state.memory_id for state in await claim(one)] == [live]
    assert [state.memory_id for state in await claim(one, backfill=True, quiet=-1.0)] == [memory_id]
    await one.database.execute(
        "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, 'x', 'LOCAL')", memory_id, CHILD
    )
    assert await claim(one, backfill=True) == []
    assert [state.memory_id for state in await claim(one)] == [memory_id]


async def test_what_cannot_be_placed_says_why(one: Ledger) -> None:
    await one.database.execute("INSERT INTO agent_memories (workspace_id, content, scope) VALUES (NULL, 'x', 'TEAM')")
    assert [state.status for state in await claim(one)] == ["no_workspace"]


async def test_a_stale_epoch_claims_nothing_and_neither_does_a0(one: Ledger) -> None:
    memory_id = await add(one)
    with pytest.raises(StaleEpoch):
        await one.claim(1, QUIET, 10, backfill=False)
    await one.database.execute("SELECT cutover.set_phase(2, 'A0', 'test', 'test')")
    assert await one.claim(3, QUIET, 10, backfill=False) == []
    held = await mark(one, memory_id)
    assert held is not None
    assert not held["ambiguous"]
