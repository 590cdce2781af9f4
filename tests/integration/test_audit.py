"""`cutover audit verify` on a real record: whoever touched it is found out (architecture §8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cutover.engine.record import Record
from cutover.stores import migrate
from cutover.stores.database import Database


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
