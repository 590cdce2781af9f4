"""Migrations of schema `cutover`: paired, idempotent, reversible to nothing, safe for two at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from cutover.domain.errors import OperatorError
from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase

_OBJECTS = """
SELECT 'table' AS kind, table_schema || '.' || table_name AS name FROM information_schema.tables
WHERE table_schema NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT 'function', n.nspname || '.' || p.oid::regprocedure FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL SELECT 'type', n.nspname || '.' || t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_'
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'sequence', schemaname || '.' || sequencename FROM pg_sequences
"""


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    try:
        yield database
    finally:
        await database.close()


async def objects(database: Database) -> set[tuple[str, str]]:
    return {(row["kind"], row["name"]) for row in await database.fetch(_OBJECTS)}


@pytest.mark.parametrize("embedding", [True, False])
@pytest.mark.parametrize("status_enum", [True, False])
async def test_up_twice_and_down_to_nothing_at_all(
    make_database: MakeDatabase, embedding: bool, status_enum: bool
) -> None:
    async with opened(await make_database(embedding=embedding, status_enum=status_enum)) as database:
        before = await objects(database)
        applied = await migrate.up(database)
        assert [m.version for m in applied] == [m.version for m in migrate.available()]
        after = await objects(database)
        assert ("schema", "cutover") in after
        assert await migrate.up(database) == []
        assert await objects(database) == after
        assert all(s.applied_at is not None and not s.changed for s in await migrate.status(database))
        undone = await migrate.down(database)
        assert [m.version for m in undone] == [m.version for m in reversed(migrate.available())]
        assert await objects(database) == before
        assert await migrate.down(database) == []
        assert len(await migrate.up(database)) == len(applied)
        assert await objects(database) == after


async def test_each_migration_is_undone_by_its_partner(database: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        seen = {len(migrate.available()): await objects(db)}
        for version in range(len(migrate.available()) - 1, 0, -1):
            assert [m.version for m in await migrate.down(db, version)] == [version + 1]
            seen[version] = await objects(db)
            assert sum(s.applied_at is not None for s in await migrate.status(db)) == version
        await migrate.up(db)
        assert await objects(db) == seen[len(migrate.available())]


async def test_down_with_the_triggers_installed_takes_them_along(database: str) -> None:
    async with opened(database) as db:
        before = await objects(db)
        await migrate.up(db)
        await db.execute("SELECT cutover.install_capture()")
        await migrate.down(db)
        assert await objects(db) == before


async def test_two_daemons_at_once(database: str) -> None:
    async with opened(database) as one, opened(database) as two:
        results = await asyncio.gather(*(migrate.up(db) for db in (one, two) * 3))
        assert sorted(map(len, results)) == [0] * 5 + [len(migrate.available())]


async def test_a_changed_file_is_refused(database: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        await db.execute("UPDATE cutover.migration SET checksum = 'other' WHERE version = 2")
        with pytest.raises(OperatorError, match="002_capture was applied from a file that has changed"):
            await migrate.up(db)
        assert [s.version for s in await migrate.status(db) if s.changed] == [2]


async def test_a_newer_schema_is_refused(database: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        await db.execute("INSERT INTO cutover.migration (version, name, checksum) VALUES (999, 'future', 'x')")
        with pytest.raises(OperatorError, match="999_future"):
            await migrate.up(db)


@pytest.mark.parametrize("phase", ["A1", "A2", "A3", "A4"])
async def test_down_is_refused_past_a0(database: str, phase: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        await db.execute("UPDATE cutover.phase_state SET phase = $1", phase)
        with pytest.raises(OperatorError, match=phase):
            await migrate.down(db)
        assert await db.fetchval("SELECT to_regclass('cutover.mark') IS NOT NULL")


async def test_nothing_is_left_of_a_migration_that_failed(database: str) -> None:
    async with opened(database) as db:
        before = await objects(db)
        await db.execute("DROP TABLE activity_logs")  # a function of 003 needs it
        without = await objects(db)
        assert without != before
        with pytest.raises(Exception, match="PostgreSQL refused a statement"):
            await migrate.up(db)
        assert await objects(db) == without


# -- what PostgreSQL itself enforces ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO cutover.phase_state (id, phase, epoch) VALUES (2, 'A0', 1)",
        "INSERT INTO cutover.phase_state (id, phase, epoch) VALUES (1, 'A0', 1)",
        "UPDATE cutover.phase_state SET phase = 'A5'",
        "UPDATE cutover.phase_state SET epoch = 0",
        "INSERT INTO cutover.mark (memory_id, rev, origin) VALUES (gen_random_uuid(), 1, 'nobody')",
        "INSERT INTO cutover.mark (memory_id, rev, origin, ambiguous) VALUES (gen_random_uuid(), 1, 'write', true)",
        "INSERT INTO cutover.mark (memory_id, rev, origin, lease_id) VALUES (gen_random_uuid(), 1, 'write', 1)",
        "INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES (gen_random_uuid(), 'mood', 1)",
        "INSERT INTO cutover.idempotency (memory_id, fingerprint) VALUES (gen_random_uuid(), 'short')",
        "INSERT INTO cutover.task_run (kind, state) VALUES ('sweep.count', 'odd')",
        (
            "INSERT INTO cutover.phase_event (epoch, to_phase, actor, reason, previous_hash, hash)"
            " VALUES (9, 'A1', '', 'r', '', '')"
        ),
        (
            "INSERT INTO cutover.journal (memory_id, rev, epoch, op, state, native, namespace)"
            " VALUES (gen_random_uuid(), 1, 1, 'upsert', 'intent', true, 'custom:x')"
        ),
        (
            "INSERT INTO cutover.journal (memory_id, rev, epoch, op, state, native, namespace, content)"
            " VALUES (gen_random_uuid(), 1, 1, 'upsert', 'intent', false, 'custom:x', 'no place in v1')"
        ),
    ],
)
async def test_constraints_hold(database: str, statement: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
    connection = await asyncpg.connect(database)
    try:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_phase_is_set_by_compare_and_set_and_its_events_are_chained(database: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        assert await db.fetchval("SELECT cutover.set_phase(1, 'A1', 'ada', 'why')") == 2
        with pytest.raises(Exception, match="phase changed"):
            await db.fetchval("SELECT cutover.set_phase(1, 'A1', 'bob', 'late')")
        assert await db.fetchval("SELECT cutover.set_phase(2, 'A0', 'bob', 'back')") == 3
        assert await db.fetchval("SELECT generation FROM cutover.phase_state") == 1
        events = await db.fetch("SELECT * FROM cutover.phase_event ORDER BY seq")
        assert [(e["from_phase"], e["to_phase"], e["actor"]) for e in events] == [
            ("A0", "A1", "ada"),
            ("A1", "A0", "bob"),
        ]
        assert bytes(events[0]["previous_hash"]) == b""
        assert events[1]["previous_hash"] == events[0]["hash"]
        assert {len(event["hash"]) for event in events} == {32}


async def test_no_column_holds_a_vector_and_no_table_is_without_a_comment(database: str) -> None:
    async with opened(database) as db:
        await migrate.up(db)
        assert not await db.fetch(
            "SELECT FROM information_schema.columns WHERE table_schema = 'cutover' AND udt_name = 'vector'"
        )
        silent = await db.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'cutover'"
            " AND c.relkind = 'r' AND obj_description(c.oid) IS NULL"
        )
        assert [row["relname"] for row in silent] == []
