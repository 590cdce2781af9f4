"""Divergences as operators read and settle them, and what the table itself refuses (quality §1.4)."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.divergence import DivergenceClass, DivergenceState
from cutover.domain.errors import DatabaseFault, StaleEpoch
from cutover.domain.findings import FindingFilter
from cutover.stores.database import Database
from cutover.stores.findings import FindingStore
from cutover.stores.ledger import Ledger
from tests.integration.read_scene import CHILD, ROOT, database_in_a1_at

RUN = UUID(int=77)
NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
EPOCH = 2


@pytest.fixture
async def db(plain_database: str) -> AsyncIterator[Database]:
    """A tenant in A1 with its workspaces, on each version of PostgreSQL."""
    async with database_in_a1_at(plain_database) as opened:
        yield opened


@pytest.fixture
def store(db: Database) -> FindingStore:
    return FindingStore(db)


DEFAULTS: dict[str, Any] = {
    "state": "confirmed",
    "namespace": f"workspace:{CHILD}",
    "namespace_kind": "workspace",
    "workspace_id": CHILD,
    "writer": "daemon",
    "first_run": RUN,
    "last_run": RUN,
    "first_seen": NOON,
    "confirmed_at": NOON,
    "onset_before": NOON,
}


async def found(db: Database, memory_id: UUID | None = None, cls: str = "content", **values: Any) -> UUID:
    """One finding; what is not given is that of a confirmed difference of content."""
    row = {**DEFAULTS, "class": cls, **values, "memory_id": memory_id or uuid4()}
    names = ", ".join(row)
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    await db.execute(
        f"INSERT INTO cutover.divergence ({names}, snapshot) VALUES ({marks}, pg_current_snapshot()::text)",
        *row.values(),
    )
    memory: UUID = row["memory_id"]
    return memory


async def ids(store: FindingStore, chosen: FindingFilter) -> set[UUID]:
    return {row["memory_id"] for row in await store.page(chosen, limit=100)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"cls": "colour"},
        {"state": "closed"},
        {"source": "somewhere"},
        {"namespace_kind": "planet"},
        {"state": "accepted"},
        {"state": "accepted", "accepted_by": "alice", "accepted_at": NOON},
        {"accepted_by": "alice", "accepted_at": NOON, "why": "because"},
        {"confirmed_at": None},
        {"closed_at": NOON, "closed_by": "sweep"},
        {"state": "repaired", "closed_at": NOON},
        {"state": "repaired", "closed_by": "sweep"},
        {"expected_hash": b"the content itself", "plugin_hash": bytes(32)},
        {"first_run": None},
    ],
    ids=str,
)
async def test_the_table_refuses_what_cannot_be(db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(DatabaseFault):
        await found(db, **wrong)
    assert await db.fetchval("SELECT count(*) FROM cutover.divergence") == 0


async def test_one_row_per_memory_and_class(db: Database) -> None:
    memory = await found(db)
    await found(db, memory, cls="namespace")
    with pytest.raises(DatabaseFault):
        await found(db, memory)


async def test_each_filter_finds_its_own(db: Database, store: FindingStore) -> None:
    plain = await found(db)
    suspect = await found(db, state="suspect", confirmed_at=None)
    accepted = await found(db, state="accepted", accepted_by="a", accepted_at=NOON, why="w")
    gone = await found(db, state="repaired", closed_at=NOON, closed_by="sweep")
    other = await found(db, cls="resurrected", source="kv", namespace_kind="team", workspace_id=ROOT)
    assert await ids(store, FindingFilter()) == {plain, suspect, other}
    assert await ids(store, FindingFilter(closed=True)) == {plain, suspect, other, accepted, gone}
    assert await ids(store, FindingFilter(states=(DivergenceState.ACCEPTED,))) == {accepted}
    assert await ids(store, FindingFilter(states=(DivergenceState.REPAIRED,))) == set()
    assert await ids(store, FindingFilter(states=(DivergenceState.REPAIRED,), closed=True)) == {gone}
    assert await ids(store, FindingFilter(classes=(DivergenceClass.RESURRECTED,))) == {other}
    assert await ids(store, FindingFilter(source="kv")) == {other}
    assert await ids(store, FindingFilter(namespace_kind="team")) == {other}
    assert await ids(store, FindingFilter(workspace_id=ROOT)) == {other}
    assert await ids(store, FindingFilter(ids=(plain, gone))) == {plain}


async def test_pages_cover_everything_once(db: Database, store: FindingStore) -> None:
    made = set()
    for number in range(5):
        memory = await found(db, UUID(int=number))
        await found(db, memory, cls="namespace")
        made |= {(memory, "content"), (memory, "namespace")}
    seen: list[tuple[UUID, str]] = []
    after = None
    while page := await store.page(FindingFilter(), limit=3, after=after):
        seen += [(row["memory_id"], row["class"]) for row in page]
        after = seen[-1]
    assert len(seen) == len(made)
    assert set(seen) == made


async def test_hashes_are_told_in_hex_and_nothing_else_of_the_content(db: Database, store: FindingStore) -> None:
    await found(db, expected_hash=bytes(range(32)), plugin_hash=bytes(32), expected_length=5, plugin_length=None)
    (row,) = await store.page(FindingFilter(), limit=1)
    assert (row["expected_hash"], row["plugin_hash"]) == (bytes(range(32)).hex(), "00" * 32)
    assert (row["expected_length"], row["plugin_length"]) == (5, None)


async def test_one_cause_is_one_group_whatever_each_memory_was_last_seen(db: Database, store: FindingStore) -> None:
    """412 rows with one cause: found by one sweep across the turn of an hour, each known to be well at another time."""
    run = await db.fetchval(
        "INSERT INTO cutover.task_run (kind, state, started_at) VALUES ('sweep.digest', 'finished', $1) RETURNING id",
        NOON - timedelta(minutes=1),
    )
    for number in range(12):
        await found(
            db,
            first_run=run,
            onset_after=None if number == 0 else NOON - timedelta(minutes=10 + number),
            onset_before=NOON + timedelta(seconds=number),
            first_seen=NOON + timedelta(seconds=number),
        )
    elsewhere = await found(db, writer="psql/ops", state="suspect", confirmed_at=None)
    groups, number = await store.groups(FindingFilter(), limit=10)
    assert number == 2
    large, small = groups
    assert (large["rows"], large["states"], len(large["examples"])) == (12, {"confirmed": 12}, 3)
    # The one moment that all of them share.
    assert (large["onset_after"], large["onset_before"]) == (NOON - timedelta(minutes=11), NOON)
    assert (large["first_seen"], large["class"], large["workspaces"]) == (NOON, "content", 1)
    assert (small["rows"], small["writer"], small["examples"]) == (1, "psql/ops", [elsewhere])
    assert len(await store.page(FindingFilter(group=large["group"]), limit=100)) == 12
    assert await ids(store, FindingFilter(group=small["group"])) == {elsewhere}
    assert (await store.groups(FindingFilter(), limit=1))[1] == 2


async def test_groups_differ_in_each_of_the_four(db: Database, store: FindingStore) -> None:
    await found(db)
    await found(db, cls="embedding")
    await found(db, namespace_kind="team")
    await found(db, writer="workspace-server/app")
    await found(db, onset_before=NOON + timedelta(hours=2))
    groups, _ = await store.groups(FindingFilter(), limit=10)
    assert [group["rows"] for group in groups] == [1] * 5
    assert len({group["group"] for group in groups}) == 5


async def test_counts_and_the_oldest_confirmed(db: Database, store: FindingStore) -> None:
    assert (await store.open()).oldest_confirmed is None
    await found(db, first_seen=NOON)
    await found(db, first_seen=NOON - timedelta(days=1))
    await found(db, state="suspect", confirmed_at=None, first_seen=NOON - timedelta(days=9))
    await found(db, state="repaired", closed_at=NOON, closed_by="sweep", first_seen=NOON - timedelta(days=10))
    now = await store.open()
    assert now.oldest_confirmed == NOON - timedelta(days=1)
    assert now.in_state(DivergenceState.CONFIRMED) == {"content": 2}
    assert now.in_state(DivergenceState.SUSPECT) == {"content": 1}
    assert now.in_state(DivergenceState.REPAIRED) == {}


async def test_only_what_is_confirmed_and_open_is_accepted(db: Database, store: FindingStore) -> None:
    sure = await found(db)
    named = [
        sure,
        await found(db, state="suspect", confirmed_at=None),
        await found(db, state="repaired"),
        await found(db, state="repaired", closed_at=NOON, closed_by="sweep"),
    ]
    assert await store.accept(FindingFilter(ids=tuple(named)), who="alice", why="known") == [(sure, "content")]
    (row,) = await store.page(FindingFilter(states=(DivergenceState.ACCEPTED,)), limit=10)
    assert (row["accepted_by"], row["why"], row["memory_id"]) == ("alice", "known", sure)
    assert await store.accept(FindingFilter(ids=tuple(named)), who="bob", why="again") == []


async def repair(store: FindingStore, chosen: FindingFilter, *, epoch: int = EPOCH, limit: int = 100) -> Any:
    return await store.repair(chosen, epoch=epoch, who="alice", limit=limit)


async def marks(db: Database) -> dict[UUID, dict[str, Any]]:
    return {row["memory_id"]: dict(row) for row in await db.fetch("SELECT * FROM cutover.mark")}


@pytest.mark.parametrize("cls", [cls for cls in DivergenceClass if cls is not DivergenceClass.MISSING_IN_LEGACY])
async def test_a_repair_marks_and_says_where_the_plugin_may_hold_it(
    db: Database, store: FindingStore, cls: DivergenceClass
) -> None:
    memory = await found(db, cls=cls.value)
    done = await repair(store, FindingFilter(ids=(memory,)))
    assert (done.marked, done.findings, done.remaining) == (1, {cls.value: 1}, 0)
    (mark,) = (await marks(db)).values()
    assert (mark["memory_id"], mark["origin"], mark["held_in"]) == (memory, "repair", [f"workspace:{CHILD}"])
    assert (mark["ambiguous"], mark["lease_id"]) == (False, None)
    (row,) = await store.page(FindingFilter(), limit=10)
    assert (row["state"], row["repair_by"]) == ("repaired", "alice")


async def test_what_nobody_knows_of_is_never_marked(db: Database, store: FindingStore) -> None:
    """Its state is "not there": a delivery of that would delete what somebody was told was saved."""
    extra = await found(db, cls="missing_in_legacy")
    both = await found(db)
    await found(db, both, cls="missing_in_legacy")
    everything = FindingFilter(states=(DivergenceState.CONFIRMED,))
    assert (await repair(store, everything)).marked == 0
    assert await store.unrepairable(everything) == 2
    assert await marks(db) == {}
    # Nor by the function itself, whoever calls it.
    assert await db.fetchval("SELECT cutover.mark_for_repair($1, $2, $3)", EPOCH, [extra], ["workspace:x"]) == 0
    assert await marks(db) == {}
    assert {row["state"] for row in await store.page(FindingFilter(), limit=10)} == {"confirmed"}


async def test_all_classes_of_a_memory_are_repaired_at_once(db: Database, store: FindingStore) -> None:
    memory = await found(db)
    await found(db, memory, cls="namespace", namespace="team:old")
    done = await repair(store, FindingFilter(ids=(memory,)))
    assert (done.marked, done.findings) == (1, {"content": 1, "namespace": 1})
    (mark,) = (await marks(db)).values()
    assert sorted(mark["held_in"]) == ["team:old", f"workspace:{CHILD}"]


async def test_an_accepted_one_can_still_be_repaired_and_is_then_no_longer_accepted(
    db: Database, store: FindingStore
) -> None:
    memory = await found(db)
    await store.accept(FindingFilter(ids=(memory,)), who="alice", why="known")
    assert (await repair(store, FindingFilter(ids=(memory,), states=tuple(DivergenceState)))).marked == 1
    (row,) = await store.page(FindingFilter(), limit=10)
    assert (row["state"], row["accepted_by"], row["why"]) == ("repaired", None, None)


async def test_a_limit_leaves_the_rest_for_another_call(db: Database, store: FindingStore) -> None:
    for _ in range(5):
        await found(db)
    sure = FindingFilter(states=(DivergenceState.CONFIRMED,))
    counts = []
    while (done := await repair(store, sure, limit=2)).marked:
        counts.append((done.marked, done.remaining))
    assert counts == [(2, 3), (2, 1), (1, 0)]
    assert len(await marks(db)) == 5


async def test_a_memory_with_several_findings_counts_once_and_is_never_cut_in_two(
    db: Database, store: FindingStore
) -> None:
    for number in range(3):
        for cls in ("content", "namespace", "provenance"):
            await found(db, UUID(int=number), cls)
    sure = FindingFilter(states=(DivergenceState.CONFIRMED,))
    done = await repair(store, sure, limit=2)
    assert (done.marked, done.remaining, sum(done.findings.values())) == (2, 1, 6)
    everything = tuple(DivergenceState)
    named = FindingFilter(ids=tuple(UUID(int=number) for number in range(3)), states=everything)
    done = await repair(store, named, limit=2)
    assert (done.marked, done.remaining) == (2, 1)
    assert set(await marks(db)) == {UUID(int=0), UUID(int=1)}
    done = await repair(store, sure, limit=2)
    assert (done.marked, done.remaining, done.findings) == (1, 0, {"content": 1, "namespace": 1, "provenance": 1})


async def test_a_repair_waits_for_a_request_under_way(db: Database, store: FindingStore) -> None:
    """The lease and its T_z stay; the rev is new, so that the old request's success does not clear the mark."""
    memory = await db.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'x', 'LOCAL') RETURNING id", CHILD
    )
    ledger = Ledger(db, UUID(int=1))
    (state,) = await ledger.claim(EPOCH, 60.0, 10, backfill=False)
    before = (await marks(db))[memory]
    await found(db, memory)
    assert (await repair(store, FindingFilter(ids=(memory,)))).marked == 1
    after = (await marks(db))[memory]
    for kept in ("lease_id", "lease_owner", "due_at", "ambiguous"):
        assert after[kept] == before[kept], kept
    assert after["rev"] > before["rev"]
    assert after["origin"] == "bypass", "who wrote it past the daemon is remembered"
    assert state.rev == before["rev"]


async def test_a_repair_outranks_the_backfill(db: Database, store: FindingStore) -> None:
    memory = await found(db)
    await db.execute(
        "INSERT INTO cutover.mark (memory_id, rev, origin, writer, attempts) VALUES ($1, 1, 'backfill', 'cutover', 9)",
        memory,
    )
    await repair(store, FindingFilter(ids=(memory,)))
    mark = (await marks(db))[memory]
    assert (mark["origin"], mark["attempts"]) == ("repair", 0)


async def test_a_repair_is_fenced_by_epoch_and_phase(db: Database, store: FindingStore) -> None:
    await found(db)
    sure = FindingFilter(states=(DivergenceState.CONFIRMED,))
    with pytest.raises(StaleEpoch):
        await repair(store, sure, epoch=EPOCH - 1)
    await db.execute("SELECT cutover.set_phase(2, 'A0', 'test', 'test')")
    with pytest.raises(StaleEpoch):
        await repair(store, sure, epoch=EPOCH + 1)
    assert await marks(db) == {}
    assert len(await store.page(FindingFilter(states=(DivergenceState.CONFIRMED,)), limit=10)) == 1


async def test_what_a_sweep_found(db: Database, store: FindingStore) -> None:
    other = uuid4()
    await found(db)
    await found(db, first_run=other)
    await found(db, first_run=other, last_run=other)
    await found(db, state="repaired", closed_at=NOON, closed_by="sweep")
    assert await store.of_run(RUN) == [
        {"class": "content", "state": "closed", "rows": 1, "new": 1},
        {"class": "content", "state": "confirmed", "rows": 2, "new": 1},
    ]


async def test_what_else_is_known_of_a_memory(db: Database, store: FindingStore) -> None:
    memory = await found(db)
    assert await store.about(memory) == {"mark": None, "deleted_at": None, "quarantine": None}
    await repair(store, FindingFilter(ids=(memory,)))
    await db.execute("SELECT cutover.bury($1, '{}')", memory)
    await db.execute("INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, 'empty_content', 1)", memory)
    told = await store.about(memory)
    assert told["mark"]["origin"] == "repair"
    assert told["deleted_at"] is not None
    assert told["quarantine"]["reason"] == "empty_content"
