"""What PostgreSQL does to a statement, as the rest of the program hears of it (quality §1.8)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cutover.domain.errors import DatabaseFault, DatabaseUnavailable, LockTimeout
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from cutover.stores.database import Database


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    opened = await Database.connect(database, max_size=3)
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("sql", "arguments", "kind"),
    [
        ("SELECT 1 / 0", (), DatabaseFault),
        ("SELECT nothing", (), DatabaseFault),
        ("SELECT $1::int", ("no number",), DatabaseFault),
        ("SELECT 'infinity'::timestamptz + $1::interval", (5,), DatabaseFault),
        ("SELECT pg_terminate_backend(pg_backend_pid())", (), DatabaseUnavailable),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING errcode = '40P01'; END $$", (), LockTimeout),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING errcode = '53300'; END $$", (), DatabaseUnavailable),
        ("DO $$ BEGIN RAISE EXCEPTION 'x' USING errcode = '25006'; END $$", (), DatabaseUnavailable),
    ],
)
async def test_statements_that_fail(
    db: Database, sql: str, arguments: tuple[object, ...], kind: type[Exception]
) -> None:
    for call in (db.fetch, db.fetchrow, db.fetchval, db.execute):
        with pytest.raises(kind) as raised:
            await call(sql, *arguments)
        assert type(raised.value) is kind
        assert "SELECT" not in str(raised.value)
    assert await db.fetchval("SELECT 1") == 1  # and the pool is as good as before


async def test_a_statement_that_takes_too_long(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await db.fetchval("SELECT pg_sleep(30)", timeout=0.1)
    assert await db.fetchval("SELECT 1") == 1


async def test_a_lock_that_cannot_be_had(db: Database) -> None:
    async with db.transaction() as holder:
        await holder.execute("LOCK agent_memories")
        with pytest.raises(LockTimeout):  # noqa: PT012 - the time-out set before is the point
            async with db.transaction() as other:
                await other.execute("SET LOCAL lock_timeout = 50")
                await other.execute("LOCK agent_memories")


async def test_errors_inside_a_transaction_undo_it(db: Database) -> None:
    with pytest.raises(DatabaseFault):  # noqa: PT012 - the statement before the error is the point
        async with db.transaction() as connection:
            await connection.execute("INSERT INTO workspaces (name) VALUES ('gone')")
            await connection.execute("SELECT 1 / 0")
    assert await db.fetchval("SELECT count(*) FROM workspaces") == 0


async def test_no_connection_in_time(db: Database) -> None:
    async with db.connection(), db.connection(), db.connection():
        with pytest.raises(DatabaseUnavailable):
            async with db.connection(timeout=0.05):
                raise AssertionError("a fourth connection")


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "postgresql:///x?host=/nowhere", "nonsense://x"])
async def test_nobody_there(url: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.connect(url, timeout=2)


async def test_a_server_that_dies_and_comes_back(own_postgres: EmbeddedPostgres) -> None:
    url = await own_postgres.create_database("mortal")
    db = await Database.connect(url, max_size=2)
    try:
        waiting = asyncio.create_task(db.fetchval("SELECT pg_sleep(60)"))

        async def sleeping() -> bool:
            running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
            return bool(await db.fetchval(running))

        await until(sleeping, "the long statement", timeout=10, every=0.01)
        await asyncio.to_thread(own_postgres.kill)
        with pytest.raises(DatabaseUnavailable):
            await waiting
        with pytest.raises(DatabaseUnavailable):
            await db.fetchval("SELECT 1")
        await asyncio.to_thread(own_postgres.start)
        assert await db.fetchval("SELECT 1") == 1
    finally:
        await db.close()
