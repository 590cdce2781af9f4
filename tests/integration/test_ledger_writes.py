"""The SQL of the write path by itself: every function is fenced by epoch and by phase, and says what it came to."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import DatabaseFault, StaleEpoch
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.stores import migrate
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Database
from cutover.stores.ledger import JournalCommit, Ledger, LegacyCreate, WriteResult
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, add_workspaces

EPOCH = 7
QUIET = 5.0


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[Ledger]:
    opened = await Database.connect(database, max_size=2)
    await migrate.up(opened)
    await add_workspaces(opened)
    yield Ledger(opened, UUID(int=1))
    await opened.close()


async def enter(ledger: Ledger, phase: Phase) -> None:
    await ledger.database.execute("UPDATE cutover.phase_state SET phase = $1, epoch = $2", phase.value, EPOCH)
    await ledger.database.execute(
        "SELECT cutover.install_capture()" if phase is not Phase.A0 else "SELECT cutover.remove_capture()"
    )


def row(workspace: UUID = CHILD, scope: Scope = Scope.LOCAL, content: str = "x", **more: Any) -> LegacyCreate:
    return LegacyCreate(
        more.pop("id", None) or uuid4(), workspace, scope, content, more.pop("label", "general"), **more
    )


def intent(workspace: UUID | None = CHILD, scope: Scope | None = Scope.LOCAL, **more: Any) -> JournalCommit:
    given: dict[str, Any] = {
        "id": uuid4(), "fresh": False, "workspace_id": workspace, "scope": scope, "requested": None, "native": False,
        "content": "x", "label": None, "kind": "fact", "source": "agent", "expires_at": None, "pin": False,
        "propagation": None, "embedding": None, "fingerprint": None, **more,
    }  # fmt: skip
    return JournalCommit(**given)


Call = Callable[[Ledger, int], Coroutine[Any, Any, object]]
ANY = UUID(int=99)
LEGACY = {Phase.A0, Phase.A1, Phase.A2}
CALLS: dict[str, tuple[Call, set[Phase]]] = {
    "create": (lambda ledger, epoch: ledger.create(epoch, QUIET, [row()]), LEGACY),
    "edit": (lambda ledger, epoch: ledger.edit(epoch, QUIET, None, ANY, CHILD, "y", None), LEGACY),
    "delete": (lambda ledger, epoch: ledger.delete(epoch, QUIET, None, ANY, CHILD, None), LEGACY),
    "replace": (
        lambda ledger, epoch: ledger.replace(epoch, QUIET, None, row(), from_native=False, lease=True), LEGACY,
    ),
    "adopt": (
        lambda ledger, epoch: ledger.replace(epoch, QUIET, None, row(), from_native=True, lease=True),
        {Phase.A1, Phase.A2},
    ),
    "begin commits": (
        lambda ledger, epoch: ledger.begin_commits(
            epoch, QUIET, [intent(None, None, requested="custom:x", native=True)]
        ),
        set(Phase) - {Phase.A0},
    ),
    "begin edit": (
        lambda ledger, epoch: ledger.edit(epoch, QUIET, None, ANY, CHILD, "y", None, journal=True),
        {Phase.A3, Phase.A4},
    ),
    "begin forget": (
        lambda ledger, epoch: ledger.delete(epoch, QUIET, None, ANY, CHILD, None, journal=True),
        set(Phase) - {Phase.A0},
    ),
    "backfill": (lambda ledger, epoch: BackfillStore(ledger.database).open(epoch, "tenant", None), {Phase.A2}),
}  # fmt: skip


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", CALLS)
async def test_fences(ledger: Ledger, phase: Phase, name: str) -> None:
    await enter(ledger, phase)
    call, allowed = CALLS[name]
    for epoch in (EPOCH - 1, EPOCH + 1):
        with pytest.raises(StaleEpoch):
            await call(ledger, epoch)
    if phase in allowed:
        await call(ledger, EPOCH)
    else:
        with pytest.raises(StaleEpoch):
            await call(ledger, EPOCH)
        for table in ("agent_memories", "cutover.mark", "cutover.journal"):
            assert await ledger.database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def create(ledger: Ledger, *rows: LegacyCreate) -> list[WriteResult]:
    return await ledger.create(EPOCH, QUIET, rows)


@pytest.mark.parametrize("phase", sorted(LEGACY))
async def test_a_batch_says_of_each_row_what_it_came_to(ledger: Ledger, phase: Phase) -> None:
    await enter(ledger, phase)
    taken = row()
    await create(ledger, taken)
    batch = [
        row(label="facts"),
        row(uuid4()),
        row(CHILD, Scope.GLOBAL),
        row(ROOT, Scope.GLOBAL, "of all"),
        row(id=taken.id, workspace=SIBLING),
        row(CHILD, Scope.TEAM, requested=f"team:{CHILD}"),
        row(GRANDCHILD, Scope.TEAM, requested=f"team:{CHILD}", source="user", pin=True, propagation='{"a": 1}'),
        row(CHILD, Scope.GLOBAL, requested=f"org:{ROOT}"),
    ]
    results = await create(ledger, *batch)
    assert [result.ordinal for result in results] == list(range(len(batch)))
    assert [result.status for result in results] == [
        "ok", "no_workspace", "not_root", "ok", "exists", "misplaced", "ok", "ok",
    ]  # fmt: skip
    assert [result.namespace for result in results if result.status == "ok"] == [
        f"workspace:{CHILD}", f"org:{ROOT}", f"team:{CHILD}", f"org:{ROOT}",
    ]  # fmt: skip
    for result in results:
        leased = result.status == "ok" and phase is not Phase.A0
        assert (result.lease_id is not None) is leased
        assert (result.rev is not None) is leased
    extra = await ledger.database.fetchrow("SELECT * FROM cutover.extra")
    assert extra is not None
    assert (extra["memory_id"], extra["source"], extra["pin"], json.loads(extra["propagation"])) == (
        batch[6].id, "user", True, {"a": 1},
    )  # fmt: skip
    logged = await ledger.database.fetch("SELECT * FROM activity_logs ORDER BY created_at")
    assert {entry["activity_type"] for entry in logged} == {"memory_write_global"}
    assert {json.loads(entry["request_body"])["memory_id"] for entry in logged} == {str(batch[3].id), str(batch[7].id)}
    assert "of all" not in str([dict(entry) for entry in logged])


async def test_a_lease_is_granted_once(ledger: Ledger) -> None:
    await enter(ledger, Phase.A1)
    made = (await create(ledger, given := row()))[0]
    other = Ledger(ledger.database, UUID(int=2))
    for daemon in (ledger, other):
        edited = await daemon.edit(EPOCH, QUIET, None, given.id, CHILD, f"by {daemon.owner}", None)
        assert (edited.status, edited.lease_id) == ("ok", None)
    # What the holder knows to be over may be passed on, but nothing else may.
    passed = await ledger.edit(EPOCH, QUIET, made.lease_id, given.id, CHILD, "passed on", None)
    assert passed.lease_id is not None
    assert passed.lease_id != made.lease_id
    stale = await other.edit(EPOCH, QUIET, made.lease_id, given.id, CHILD, "an old number", None)
    assert stale.lease_id is None
    silent = await ledger.edit(EPOCH, QUIET, passed.lease_id, given.id, CHILD, "without a lease", None, lease=False)
    assert silent.lease_id is None
    assert passed.rev is not None
    assert silent.rev is not None
    assert silent.rev > passed.rev


async def test_an_edit_clears_the_vector_of_the_old_words_and_never_changes_the_scope(ledger: Ledger) -> None:
    await enter(ledger, Phase.A1)
    vector = json.dumps([0.5] * 1536)
    await create(ledger, given := row(ROOT, Scope.GLOBAL, "old", embedding=vector))
    relabelled = await ledger.edit(EPOCH, QUIET, None, given.id, ROOT, None, "facts")
    assert relabelled.embedding is not None
    same = await ledger.edit(EPOCH, QUIET, None, given.id, ROOT, "old", "facts")
    assert same.status == "unchanged"
    edited = await ledger.edit(EPOCH, QUIET, None, given.id, ROOT, "[MEMORY forged", None)
    assert (edited.embedding, edited.scope, edited.content) == (None, Scope.GLOBAL, "[_MEMORY forged")
    assert (await ledger.edit(EPOCH, QUIET, None, given.id, CHILD, "not yours", None)).status == "missing"
    types = await ledger.database.fetch("SELECT activity_type FROM activity_logs ORDER BY created_at")
    assert [entry["activity_type"] for entry in types] == ["memory_write_global", "memory_edit_global"]


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1])
async def test_a_delete_leaves_a_grave_in_every_phase(ledger: Ledger, phase: Phase) -> None:
    await enter(ledger, phase)
    await create(ledger, given := row(CHILD, Scope.TEAM, pin=True))
    assert (await ledger.delete(EPOCH, QUIET, None, given.id, SIBLING, None)).status == "missing"
    assert (await ledger.delete(EPOCH, QUIET, None, given.id, None, f"team:{CHILD}")).status == "missing"
    gone = await ledger.delete(EPOCH, QUIET, None, given.id, None, f"team:{ROOT}")
    assert gone.status == "ok"
    grave = await ledger.database.fetchrow("SELECT * FROM cutover.tombstone")
    assert grave is not None
    assert (grave["memory_id"], grave["held_in"]) == (given.id, [f"team:{ROOT}"])
    assert await ledger.database.fetchval("SELECT count(*) FROM cutover.extra") == 0


async def test_one_row_that_cannot_be_stored_undoes_its_batch(ledger: Ledger) -> None:
    await enter(ledger, Phase.A1)
    with pytest.raises(DatabaseFault):
        await create(ledger, row(), row(label="x" * 51))
    assert await ledger.database.fetchval("SELECT count(*) FROM agent_memories") == 0
    assert await ledger.database.fetchval("SELECT count(*) FROM cutover.mark") == 0


# -- the journal ------------------------------------------------------------------------------------------------------


async def test_an_intent_is_withdrawn_to_the_state_before(ledger: Ledger) -> None:
    await enter(ledger, Phase.A3)
    given = intent(content="first", fingerprint=b"f" * 32)
    made = (await ledger.begin_commits(EPOCH, QUIET, [given]))[0]
    assert (made.status, made.namespace) == ("ok", f"workspace:{CHILD}")
    busy = await ledger.edit(EPOCH, QUIET, None, given.id, CHILD, "second", None, journal=True)
    assert (busy.status, busy.lease_id) == ("busy", None)
    assert await ledger.withdraw(made, ambiguous=False, note="HTTP 500 internal")
    assert not await ledger.withdraw(made, ambiguous=False, note="twice")
    assert await ledger.database.fetchval("SELECT count(*) FROM cutover.idempotency") == 0
    state = (await ledger.claim(EPOCH, QUIET, 10, backfill=False))[0]
    assert (state.status, list(state.held_in)) == ("forget", [f"workspace:{CHILD}"])


async def test_an_ambiguous_withdrawal_keeps_the_lease(ledger: Ledger) -> None:
    await enter(ledger, Phase.A3)
    made = (await ledger.begin_commits(EPOCH, QUIET, [intent()]))[0]
    assert await ledger.withdraw(made, ambiguous=True, note="PluginTimeout")
    assert await ledger.claim(EPOCH, QUIET, 10, backfill=False) == []
    held = await ledger.database.fetchrow("SELECT * FROM cutover.mark")
    assert held is not None
    assert (held["lease_id"], held["ambiguous"]) == (made.lease_id, True)


async def test_what_the_journal_refuses(ledger: Ledger) -> None:
    await enter(ledger, Phase.A3)
    results = await ledger.begin_commits(
        EPOCH,
        QUIET,
        [intent(uuid4()), intent(CHILD, Scope.GLOBAL), intent(CHILD, Scope.TEAM, requested=f"team:{CHILD}")],
    )
    assert [result.status for result in results] == ["no_workspace", "not_root", "native"]
    await ledger.database.execute(
        "INSERT INTO cutover.namespace (name, kind, closed_until) VALUES ($1, 'workspace', now() + interval '1 h')",
        f"workspace:{CHILD}",
    )
    closed = (await ledger.begin_commits(EPOCH, QUIET, [intent()]))[0]
    assert closed.status == "closed"
    assert await ledger.database.fetchval("SELECT count(*) FROM cutover.journal") == 1
