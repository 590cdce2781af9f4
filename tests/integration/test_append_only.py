"""What is append-only refuses every change: by trigger for everybody, and by rights before that (architecture §8)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from cutover.stores import migrate
from cutover.stores.certificates import CertificateStore
from cutover.stores.database import Database
from cutover.stores.procedures import Procedures
from cutover.stores.runs import Runs
from tests.certificates import certificate

# Table, and a column to change in it.
TABLES = {
    "phase_event": "reason = 'other'",
    "task_checkpoint": "data = '{}'",
    "memory_procedure_version": "body = 'other'",
    "memory_procedure_event": "package = '9'",
    "certificate": "override = 'other'",
    "approval": "approver = 'other'",
}
_TABLES_WITH_THE_TRIGGER = """
SELECT DISTINCT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname = 'append_only' AND c.relnamespace = 'cutover'::regnamespace
"""
_ENABLED = """
SELECT t.tgname, t.tgenabled FROM pg_trigger t WHERE t.tgrelid = $1::regclass AND t.tgname LIKE 'append_only%'
"""
_RIGHTS = """
SELECT g.privilege_type FROM pg_class c, aclexplode(c.relacl) g
WHERE c.oid = $1::regclass AND g.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE')
"""


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


@asynccontextmanager
async def filled(url: str) -> AsyncIterator[Database]:
    """Schema cutover with a row in every append-only table of it that a daemon fills by itself."""
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        await Procedures(database).seed("1.0")
        run = await Runs(database).begin("backfill", "test", {})
        await Runs(database).checkpoint(run, {"scanned": 1})
        kept = CertificateStore(database)
        await kept.issue(made := certificate(await kept.now(), sweeps=()))
        await kept.approve(made.hash, "grace")
        await database.execute("SELECT cutover.set_phase(1, 'A1', 'test', 'test', $1)", bytes.fromhex(made.hash))
        yield database
    finally:
        await database.close()


def changes(table: str) -> tuple[str, ...]:
    return (
        f"UPDATE cutover.{table} SET {TABLES[table]}",
        f"DELETE FROM cutover.{table}",
        f"TRUNCATE cutover.{table}",
    )


@pytest.mark.parametrize("table", sorted(TABLES))
@pytest.mark.parametrize("replica", [False, True], ids=["origin", "replica"])
async def test_a_superuser_cannot_change_what_is_append_only(database: str, table: str, replica: bool) -> None:
    async with filled(database) as db:
        before = await db.fetchval(f"SELECT count(*) FROM cutover.{table}")
        assert before
        connection = await asyncpg.connect(database)
        try:
            if replica:
                await connection.execute("SET session_replication_role = replica")
            for statement in changes(table):
                with pytest.raises(asyncpg.PostgresError, match="append-only"):
                    await connection.execute(statement)
        finally:
            await connection.close()
        assert await db.fetchval(f"SELECT count(*) FROM cutover.{table}") == before


@asynccontextmanager
async def owned_by(url: str, role: str) -> AsyncIterator[str]:
    """The URL of the same database for a plain role that may do all it needs to have schema cutover of its own."""
    admin = await asyncpg.connect(url)
    try:
        name = await admin.fetchval("SELECT current_database()")
        me = await admin.fetchval("SELECT current_user")
        await admin.execute(f"CREATE ROLE {role} LOGIN")
        await admin.execute(f'GRANT CREATE ON DATABASE "{name}" TO {role}')
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        try:
            assert f"//{me}@" in url
            yield url.replace(f"//{me}@", f"//{role}@")
        finally:
            await admin.execute(f"DROP OWNED BY {role} CASCADE")
            await admin.execute(f"DROP ROLE {role}")
    finally:
        await admin.close()


async def test_the_owner_has_not_even_the_right_to_change_what_is_append_only(database: str) -> None:
    async with owned_by(database, "cutover_owner") as url, filled(url) as db:
        for table in TABLES:
            assert await db.fetch(_RIGHTS, f"cutover.{table}") == []
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
            for table in sorted(TABLES):
                for statement in changes(table):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(statement)
                # An owner can give it back to himself: then the trigger is what refuses.
                await connection.execute(f"GRANT UPDATE, DELETE, TRUNCATE ON cutover.{table} TO current_user")
                for statement in changes(table):
                    with pytest.raises(asyncpg.PostgresError, match="append-only"):
                        await connection.execute(statement)
        finally:
            await connection.close()


async def test_a_daemon_whose_role_is_the_owner_does_all_its_work_without_those_rights(database: str) -> None:
    async with owned_by(database, "cutover_worker") as url, filled(url) as db:
        runs = Runs(db)
        run = await runs.begin("verify", "test", {})
        await runs.checkpoint(run, {"at": 1})
        await runs.finish(run, "finished", {})
        again = await Procedures(db).seed("2.0")
        assert again == {}
        without = await runs.begin("sweep.count", "schedule", {})
        await db.execute("UPDATE cutover.task_run SET started_at = now() - interval '9 days'")
        await runs.prune("sweep.count", 7)
        await runs.prune("verify", 7)
        assert await runs.get(without) is None
        assert await runs.get(run) is not None, "a run with checkpoints stays"
        assert await db.fetchval("SELECT cutover.set_phase(2, 'A0', 'test', 'test')") == 3
        await migrate.down(db)


async def test_rights_that_a_database_gives_by_default_are_taken_away_too(database: str) -> None:
    admin = await asyncpg.connect(database)
    try:
        await admin.execute("CREATE ROLE cutover_reader LOGIN")
        await admin.execute("CREATE SCHEMA cutover")
        await admin.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA cutover GRANT ALL ON TABLES TO cutover_reader")
        try:
            async with filled(database) as db:
                for table in TABLES:
                    assert await db.fetch(_RIGHTS, f"cutover.{table}") == []
        finally:
            await admin.execute("DROP OWNED BY cutover_reader CASCADE")
            await admin.execute("DROP ROLE cutover_reader")
    finally:
        await admin.close()


async def test_the_triggers_fire_always_and_on_every_table_that_has_them(database: str) -> None:
    async with filled(database) as db:
        tables = {row["relname"] for row in await db.fetch(_TABLES_WITH_THE_TRIGGER)}
        assert tables >= set(TABLES)
        for table in tables:
            enabled = {r["tgname"]: bytes(r["tgenabled"]) for r in await db.fetch(_ENABLED, f"cutover.{table}")}
            assert enabled == {"append_only": b"A", "append_only_truncate": b"A"}, table
            assert await db.fetch(_RIGHTS, f"cutover.{table}") == [], table


async def test_no_foreign_key_would_have_to_lock_a_row_that_is_append_only(database: str) -> None:
    """A check of a foreign key takes the right to update the row that it locks, which nobody has."""
    async with filled(database) as db:
        bad = await db.fetch(
            "SELECT conrelid::regclass::text AS says, confrelid::regclass::text AS of FROM pg_constraint"
            " WHERE contype = 'f' AND confrelid::regclass::text = ANY"
            " (SELECT 'cutover.' || relname FROM (" + _TABLES_WITH_THE_TRIGGER + ") t)"
        )
        assert [dict(row) for row in bad] == []


async def test_a_checkpoint_of_no_run_is_refused(database: str) -> None:
    async with filled(database) as db:
        with pytest.raises(Exception, match="23503"):
            await db.execute("INSERT INTO cutover.task_checkpoint (run_id, data) VALUES (gen_random_uuid(), '{}')")
