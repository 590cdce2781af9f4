"""What PostgreSQL holds to of certificates, whatever the code above it thinks (migration 011)."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from cutover.domain.certificate import Certificate, SweepResult
from cutover.domain.errors import CertificateVoid, DatabaseFault
from cutover.domain.phase import Phase
from cutover.stores import migrate
from cutover.stores.certificates import CertificateStore
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger
from cutover.stores.runs import Runs
from tests.certificates import certificate
from tests.conftest import BARE_STEPS


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    opened = await Database.connect(database)
    try:
        await migrate.up(opened)
        yield opened
    finally:
        await opened.close()


async def issued(db: Database, **changes: Any) -> Certificate:
    store = CertificateStore(db)
    made = certificate(await store.now() - timedelta(seconds=1), **{"sweeps": (), **changes})
    await store.issue(made)
    return made


async def step(db: Database, epoch: int, to: Phase, consumed: Certificate) -> int:
    async with db.transaction() as connection:
        return await Ledger.set_phase(connection, epoch, to, "ada", "why", consumed.hash)


async def test_a_certificate_comes_back_with_its_approvals_and_its_use(db: Database) -> None:
    store = CertificateStore(db)
    made = await issued(db, override="because")
    assert await store.approve(made.hash, "grace")
    assert not await store.approve(made.hash, "grace"), "the same person twice"
    assert await store.approve(made.hash, "edsger")
    (kept,) = await store.find(made.hash[:8].upper())
    assert (kept.certificate, kept.approvers, kept.used_in) == (made, ("grace", "edsger"), None)
    assert await store.find("ffff" + made.hash[:8]) == []
    assert await step(db, 1, Phase.A1, made) == 2
    (kept,) = await store.recent(5)
    assert kept.used_in == 2
    entered = await store.entered()
    assert entered is not None
    assert (entered.epoch, entered.certificate, entered.override) == (2, made.hash, "because")
    assert entered.loosened == made.loosened


async def test_a_step_records_the_override_and_the_loosened_thresholds_of_what_it_consumed(db: Database) -> None:
    plain = await issued(db, loosened=())
    assert await step(db, 1, Phase.A1, plain) == 2
    assert await db.fetchval("SELECT cutover.set_phase(2, 'A0', 'ada', 'back')") == 3
    loosened = await issued(db, epoch=3)
    assert await step(db, 3, Phase.A1, loosened) == 4
    rows = await db.fetch("SELECT certificate, override, loosened FROM cutover.phase_event ORDER BY seq")
    assert [(r["certificate"] and r["certificate"].hex(), r["override"], tuple(r["loosened"])) for r in rows] == [
        (plain.hash, None, ()),
        (None, None, ()),
        (loosened.hash, None, loosened.loosened),
    ]


@pytest.mark.parametrize(
    ("changes", "epoch", "to"),
    [
        ({}, 1, Phase.A2),
        ({"epoch": 2}, 1, Phase.A1),
        ({"phase": Phase.A1, "target": Phase.A2}, 1, Phase.A1),
        ({"override": "because"}, 1, Phase.A1),
        ({"expires_in": 0.001}, 1, Phase.A1),
    ],
    ids=["another target", "another epoch", "another phase", "an override without approvals", "expired"],
)
async def test_a_certificate_serves_no_step_but_its_own(
    db: Database, changes: dict[str, Any], epoch: int, to: Phase
) -> None:
    if (seconds := changes.pop("expires_in", None)) is not None:
        changes["expires_at"] = await CertificateStore(db).now() + timedelta(seconds=seconds)
    made = await issued(db, **changes)
    await db.execute("SELECT pg_sleep(0.01)")
    with pytest.raises(CertificateVoid):
        await step(db, epoch, to, made)
    assert await db.fetchval("SELECT phase FROM cutover.phase_state") == "A0"


@pytest.fixture
async def strict(db: Database) -> Database:
    """As in production: nothing goes without a certificate."""
    await db.execute(BARE_STEPS.format(await db.fetchval("SELECT current_database()"), "off"))
    return db


async def test_there_is_no_step_forward_without_a_certificate_and_a_way_back_needs_none(strict: Database) -> None:
    with pytest.raises(CertificateVoid):
        await strict.execute("SELECT cutover.set_phase(1, 'A1', 'eve', 'no certificate')")
    with pytest.raises(CertificateVoid):  # nor for who has given himself what tests have
        await strict.execute("SET cutover.bare_steps = 'on'; SELECT cutover.set_phase(1, 'A1', 'eve', 'none')")
    assert await step(strict, 1, Phase.A1, await issued(strict)) == 2
    assert await strict.fetchval("SELECT cutover.set_phase(2, 'A0', 'ada', 'back')") == 3
    event = (
        "INSERT INTO cutover.phase_event (epoch, from_phase, to_phase, actor, reason, previous_hash, hash)"
        " VALUES (4, 'A0', 'A1', 'eve', 'by hand', '', '')"
    )
    for sql in (event, "SET session_replication_role = replica;" + event):
        with pytest.raises(CertificateVoid):
            await strict.execute(sql)


@pytest.mark.parametrize(
    "change", ["phase = 'A3'", "epoch = epoch + 1", "entered_at = now()", "phase = 'A1', epoch = 2"]
)
async def test_the_phase_row_does_not_change_without_its_event(strict: Database, change: str) -> None:
    before = await strict.fetchrow("SELECT * FROM cutover.phase_state")
    for sql in ("", "SET session_replication_role = replica; "):
        with pytest.raises(DatabaseFault):
            await strict.execute(f"{sql}UPDATE cutover.phase_state SET {change}")
    assert await strict.fetchrow("SELECT * FROM cutover.phase_state") == before
    await strict.execute("UPDATE cutover.phase_state SET strays_pending = true")


async def test_the_event_says_who_approved(strict: Database) -> None:
    made = await issued(strict, override="because")
    for name in ("grace", "edsger"):
        await CertificateStore(strict).approve(made.hash, name)
    assert await step(strict, 1, Phase.A1, made) == 2
    assert await strict.fetchval("SELECT approvers FROM cutover.phase_event") == ["grace", "edsger"]
    assert "grace" in await strict.fetchval("SELECT cutover.phase_event_text(e) FROM cutover.phase_event e")


async def step_under_which(db: Database, made: Certificate, happens: Callable[[], Awaitable[None]]) -> None:
    async with db.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(cutover.phase_lock_key())")
        await happens()
        await Ledger.set_phase(connection, 1, Phase.A1, "ada", "why", made.hash)


@pytest.mark.parametrize("kind", ["count", "digest"])
async def test_a_sweep_that_ended_after_the_judging_stops_the_step_in_its_own_transaction(
    db: Database, kind: str
) -> None:
    """Writes are held, the gate was judged before: nobody but the database looks now."""
    runs, clean = Runs(db), {"outcome": "clean", "unexplained": 0, "trusted": True, "full": True, "epoch": 1}

    async def swept(**found: Any) -> None:
        await runs.finish(
            await runs.begin(f"sweep.{kind}", "test", {}), "finished", {**clean, "coverage": 0.1, **found}
        )

    await swept()
    made = await issued(db, sweeps=await CertificateStore(db).sweeps())
    await swept()  # the same again
    with pytest.raises(CertificateVoid, match="newer sweep"):
        await step_under_which(db, made, lambda: swept(outcome="divergent"))
    await swept()
    assert await step(db, 1, Phase.A1, made) == 2


async def undone(db: Database, consumed: Certificate) -> None:
    async with db.transaction() as connection:
        assert await Ledger.set_phase(connection, 1, Phase.A1, "ada", "why", consumed.hash) == 2
        raise ZeroDivisionError


async def test_one_approval_is_not_enough_and_a_step_that_was_undone_has_consumed_nothing(db: Database) -> None:
    made = await issued(db, override="because")
    store = CertificateStore(db)
    await store.approve(made.hash, "grace")
    with pytest.raises(CertificateVoid):
        await step(db, 1, Phase.A1, made)
    await store.approve(made.hash, "edsger")
    with pytest.raises(ZeroDivisionError):
        await undone(db, made)
    assert (await store.recent(1))[0].used_in is None
    assert await step(db, 1, Phase.A1, made) == 2


async def test_nobody_approves_what_he_asked_for_nor_what_is_over(db: Database) -> None:
    store = CertificateStore(db)
    made = await issued(db, override="because")
    with pytest.raises(CertificateVoid):
        await store.approve(made.hash, "ada")
    with pytest.raises(CertificateVoid):
        await store.approve("00" * 32, "grace")
    with pytest.raises(CertificateVoid):
        await store.approve(made.hash, "admin")
    shared = await issued(db, override="shared", requested_by="admin")
    with pytest.raises(CertificateVoid):
        await store.approve(shared.hash, "grace")
    late = await issued(db, override="late", expires_at=await store.now() + timedelta(milliseconds=1))
    await db.execute("SELECT pg_sleep(0.01)")
    with pytest.raises(CertificateVoid):
        await store.approve(late.hash, "grace")
    await db.execute("SELECT cutover.set_phase(1, 'A1', 'ada', 'meanwhile')")
    with pytest.raises(CertificateVoid):
        await store.approve(made.hash, "grace")
    assert await db.fetchval("SELECT count(*) FROM cutover.approval") == 0


@pytest.mark.parametrize(
    "change",
    [
        "target = 'A3'",
        "epoch = 7",
        "override = 'other'",
        "requested_by = 'grace'",
        "loosened = '{}'",
        "body = body || ' '",
    ],
)
async def test_what_is_judged_by_is_what_the_hash_is_over(db: Database, database: str, change: str) -> None:
    """Nor can somebody write a certificate whose columns say something else than its body."""
    made = await issued(db, override="because")
    column, value = change.split(" = ")
    connection = await asyncpg.connect(database)
    try:
        names = [
            r["column_name"]
            for r in await connection.fetch(
                "SELECT column_name FROM information_schema.columns"
                " WHERE table_schema = 'cutover' AND table_name = 'certificate'"
            )
        ]
        chosen = ", ".join(value if name == column else name for name in names)
        await connection.execute("CREATE TEMPORARY TABLE forged AS SELECT * FROM cutover.certificate")
        await connection.execute("CREATE TABLE pg_temp.other (LIKE cutover.certificate INCLUDING CONSTRAINTS)")
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(f"INSERT INTO pg_temp.other ({', '.join(names)}) SELECT {chosen} FROM forged")
        await connection.execute(f"INSERT INTO pg_temp.other SELECT {', '.join(names)} FROM forged")
    finally:
        await connection.close()
    assert (await CertificateStore(db).find(made.hash))[0].certificate == made


async def test_an_override_that_looks_like_a_secret_is_refused(db: Database) -> None:
    with pytest.raises(DatabaseFault):
        await issued(db, override="use OPENAI_API_KEY=abc123 now")


async def test_the_last_sweep_of_each_kind_is_what_counts(db: Database) -> None:
    store, runs = CertificateStore(db), Runs(db)
    assert await store.sweeps() == ()

    async def ran(kind: str, state: str, outcome: dict[str, Any]) -> str:
        run = await runs.begin(f"sweep.{kind}", "test", {})
        await runs.finish(run, state, outcome)
        return str(run)

    await ran("count", "finished", {"outcome": "drift", "unexplained": 2})
    count = await ran("count", "finished", {"outcome": "clean", "unexplained": 0, "seconds": 0.1})
    await ran("count", "failed", {"outcome": "failed"})
    full = {"outcome": "clean", "trusted": True, "coverage": 1.0, "full": True, "epoch": 1}
    digest = await ran("digest", "finished", full)
    await ran("digest", "finished", {**full, "full": False, "outcome": "divergent"})
    recall = await ran(
        "recall", "finished", {"outcome": "clean", "overlap": 0.9991, "visibility": {"more": 0, "less": 0}}
    )
    await ran("recall", "finished", {"outcome": "not_applicable"})
    assert {each.kind: each for each in await store.sweeps()} == {
        "count": SweepResult("count", count, {"outcome": "clean", "unexplained": 0}),
        "digest": SweepResult("digest", digest, {"outcome": "clean", "trusted": True, "coverage": 1.0}),
        "recall": SweepResult("recall", recall, {"outcome": "clean", "visibility": {"more": 0, "less": 0}}),
    }
