"""`cutover audit verify` on a real record: whoever touched it is found out (architecture §8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cutover.domain.phase import Phase
from cutover.engine.record import Record
from cutover.stores import migrate
from cutover.stores.certificates import CertificateStore
from cutover.stores.database import Database
from tests.certificates import certificate


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url, max_size=1)
    try:
        await migrate.up(database)
        yield database
    finally:
        await database.close()


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


async def changed_twice(db: Database) -> None:
    await db.execute("SELECT cutover.set_phase(1, 'A1', 'ada', 'on')")
    await db.execute("SELECT cutover.set_phase(2, 'A0', 'bob', 'back')")
    await db.execute("SELECT cutover.set_phase(3, 'A1', 'ada', 'again')")


_FREE = "ALTER TABLE cutover.phase_event DISABLE TRIGGER ALL;"
"""What a superuser can do, who is the one to be found out."""
_FORGED = (
    "INSERT INTO cutover.phase_event (epoch, from_phase, to_phase, actor, reason, previous_hash, hash)"
    " VALUES (5, 'A1', 'A2', 'eve', 'x', '', '')"
)


async def test_the_audit_of_a_record_that_was_left_alone_is_good_in_any_session(database: str) -> None:
    async with migrated(database) as db:
        assert (await Record(db).audit(None))["ok"]
        await db.execute("SET timezone = 'Asia/Kolkata'; SET bytea_output = 'escape'; SET datestyle = 'SQL, DMY'")
        await changed_twice(db)
        told = await Record(db).audit(None)
        assert (told["ok"], told["events"], told["phase"], told["epoch"]) == (True, 3, "A1", 4)
        assert (await Record(db).audit(told["head"]))["ok"]
        assert (await Record(db).audit("00" * 32))["problem"] == "missing"


async def approved_steps_to_a3(db: Database) -> str:
    """By certificates, each asked for by ada and approved by grace and edsger; the hash of the one for A3."""
    store = CertificateStore(db)
    for epoch, phase in enumerate((Phase.A0, Phase.A1, Phase.A2), 1):
        target = Phase(f"A{phase.order + 1}")
        now = await store.now()
        made = certificate(now, epoch=epoch, phase=phase, target=target, sweeps=())
        await store.issue(made)
        for name in ("grace", "edsger") if target is Phase.A3 else ():
            assert await store.approve(made.hash, name)
        await db.execute("SELECT cutover.set_phase($1, $2, 'ada', 'on', $3)", epoch, target, bytes.fromhex(made.hash))
    return made.hash


_OPEN = "".join(
    f"ALTER TABLE cutover.{table} DISABLE TRIGGER ALL;" for table in ("phase_event", "certificate", "approval")
)
_SHUT = "".join(
    f";ALTER TABLE cutover.{table} ENABLE ALWAYS TRIGGER {name}"
    for table, extra in (
        ("phase_event", ("certified", "chain")),
        ("certificate", ()),
        ("approval", ("check_approval",)),
    )
    for name in ("append_only", "append_only_truncate", *extra)
)


@pytest.mark.parametrize(
    ("sql", "problem", "words"),
    [
        ("DELETE FROM cutover.certificate WHERE target = 'A3'", "certificate", "is gone"),
        ("DELETE FROM cutover.approval WHERE approver = 'grace'", "certificate", "by edsger now"),
        ("UPDATE cutover.approval SET approver = 'eve' WHERE approver = 'grace'", "certificate", "by eve, edsger now"),
        ("UPDATE cutover.approval SET at = now() + interval '1 hour'", "certificate", "after it was used"),
    ],
    ids=["certificate gone", "approval gone", "another approver", "approved later"],
)
async def test_rewritten_certificates_and_approvals_are_found_out_with_the_triggers_put_back(
    database: str, sql: str, problem: str, words: str
) -> None:
    async with migrated(database) as db:
        await approved_steps_to_a3(db)
        assert (await Record(db).audit(None))["ok"]
        await db.execute(_OPEN + sql + _SHUT)
        told = await Record(db).audit(None)
        assert (told["ok"], told["problem"], told["event"]) == (False, problem, 3), told["why"]
        assert words in told["why"]


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE cutover.approval DISABLE TRIGGER append_only",
        "ALTER TABLE cutover.certificate ENABLE TRIGGER append_only",
        "DROP TRIGGER chain ON cutover.phase_event",
        "ALTER TABLE cutover.phase_state DISABLE TRIGGER phase_has_event",
        (
            "CREATE OR REPLACE FUNCTION cutover.refuse_change() RETURNS trigger LANGUAGE plpgsql"
            " AS 'begin return new; end'"
        ),
    ],
    ids=["disabled", "not for replication", "dropped", "the row's", "another body"],
)
async def test_a_record_whose_triggers_are_not_all_there_is_not_whole(database: str, sql: str) -> None:
    async with migrated(database) as db:
        await approved_steps_to_a3(db)
        await db.execute(sql)
        told = await Record(db).audit(None)
        assert (told["ok"], told["problem"]) == (False, "guard"), told


async def test_a_step_to_a3_without_a_certificate_is_found_out(database: str) -> None:
    async with migrated(database) as db:  # a test's database takes it
        for epoch, phase in enumerate(("A1", "A2", "A3"), 1):
            await db.execute("SELECT cutover.set_phase($1, $2, 'eve', 'on')", epoch, phase)
        told = await Record(db).audit(None)
        assert (told["problem"], told["event"]) == ("certificate", 3)
        assert "without a certificate" in told["why"]


@pytest.mark.parametrize(
    ("sql", "problem", "event"),
    [
        ("UPDATE cutover.phase_event SET actor = 'eve' WHERE seq = 2", "changed", 2),
        ("UPDATE cutover.phase_event SET reason = reason || ' ' WHERE seq = 1", "changed", 1),
        ("UPDATE cutover.phase_event SET at = at + interval '1 microsecond' WHERE seq = 3", "changed", 3),
        ("UPDATE cutover.phase_event SET from_phase = NULL WHERE seq = 2", "changed", 2),
        ("DELETE FROM cutover.phase_event WHERE seq = 2", "missing", 3),
        ("DELETE FROM cutover.phase_event WHERE seq = 1", "missing", 2),
        ("DELETE FROM cutover.phase_event WHERE seq = 3", "missing", 2),
        ("DELETE FROM cutover.phase_event", "missing", None),
        ("UPDATE cutover.phase_state SET phase = 'A0'", "phase_row", 3),
        ("UPDATE cutover.phase_state SET entered_at = entered_at - interval '1 day'", "phase_row", 3),
        (_FORGED, "changed", 4),
    ],
)
async def test_the_audit_names_the_first_bad_event(database: str, sql: str, problem: str, event: int | None) -> None:
    async with migrated(database) as db:
        await changed_twice(db)
        await db.execute(_FREE + sql)
        told = await Record(db).audit(None)
        assert (told["ok"], told["problem"], told["event"]) == (False, problem, event), told["why"]


async def test_nobody_writes_an_event_with_a_hash_of_his_own(database: str) -> None:
    """The chain is the table's own trigger, which fires for a replication session, too."""
    async with migrated(database) as db:
        await changed_twice(db)
        await db.execute("SET session_replication_role = replica;" + _FORGED)
        told = await Record(db).audit(None)
        assert (told["problem"], told["event"]) == ("phase_row", 4)


async def test_a_column_that_comes_later_changes_no_old_event_and_is_hashed_in_new_ones(
    database: str,
) -> None:
    async with migrated(database) as db:
        await changed_twice(db)
        await db.execute("ALTER TABLE cutover.phase_event ADD COLUMN ticket text")
        assert (await Record(db).audit(None))["ok"]
        await db.execute(_FREE + "UPDATE cutover.phase_event SET ticket = 'x' WHERE seq = 2")
        assert (await Record(db).audit(None))["event"] == 2
