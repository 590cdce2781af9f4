"""Daemons tell of themselves in `cutover.daemon` (migration 017, decision 0031)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from cutover.domain.errors import DatabaseFault
from cutover.domain.events import DaemonsCounted, Event, TaskFailed
from cutover.embedded.processes import until
from cutover.engine.presence import Presence
from cutover.stores import migrate
from cutover.stores.daemons import DaemonSelf, DaemonStore, differing
from cutover.stores.database import Database

FACES = {"ops": ["127.0.0.1:9202"]}
HASH = "0123456789ab"


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


@asynccontextmanager
async def store(url: str) -> AsyncIterator[tuple[Database, DaemonStore]]:
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        yield database, DaemonStore(database)
    finally:
        await database.close()


def daemon(host: str = "one", **settings: str) -> DaemonSelf:
    return DaemonSelf(uuid4(), host, 7, "1.0", HASH, settings)


async def test_a_daemon_tells_of_itself_and_takes_its_row_away(database: str) -> None:
    async with store(database) as (_, daemons):
        events: list[Event] = []
        me, other = daemon(A="1", B="2"), daemon("two", A="1", B="3", C="x")
        presence = Presence("t", daemons, me, events.append)
        await daemons.tell(other, FACES)
        presence.announce(FACES)
        await presence.tell()
        await presence.tell()
        seen = await daemons.all()
        assert [(each.id, each.name, each.faces, each.serving) for each in seen] == [
            (other.id, "two/7", FACES, True),
            (me.id, "one/7", FACES, True),
        ]
        assert differing(seen) == {"B": ("3", "2"), "C": ("x", "not set")}
        assert events == [DaemonsCounted("t", 2)] * 2
        assert [(each["id"], each["me"]) for each in presence.status()] == [(str(other.id), False), (str(me.id), True)]
        await presence.leave()
        await presence.tell()  # a heartbeat that was about to be written when the daemon stopped
        assert [each.id for each in await daemons.all()] == [other.id]


async def test_a_silent_daemon_no_longer_counts_and_is_forgotten_after_an_hour(database: str) -> None:
    async with store(database) as (db, daemons):
        died, long_dead, me = daemon("died"), daemon("long-dead"), daemon()
        for each in (died, long_dead, me):
            await daemons.tell(each, FACES)
        moved = "update cutover.daemon set last_seen = last_seen - $2::interval where id = $1"
        for which, ago in ((died, "61 s"), (long_dead, "61 min")):
            await db.execute(moved.replace("$2", f"'{ago}'"), which.id)
        await daemons.tell(me, FACES)
        assert [(each.name, each.serving) for each in await daemons.all()] == [("died/7", False), ("one/7", True)]


async def test_a_heartbeat_that_cannot_be_written_is_told_once_and_again_after_it_could(database: str) -> None:
    async with store(database) as (db, daemons):
        events: list[Event] = []
        presence = Presence("t", daemons, daemon(), events.append, beat=0.01)
        tell, tries = daemons.tell, 0

        async def counted(*arguments: object) -> None:
            nonlocal tries
            tries += 1
            await tell(*arguments)  # type: ignore[arg-type]

        daemons.tell = counted  # type: ignore[assignment, method-assign]
        running = asyncio.create_task(presence.run())
        presence.announce(FACES)

        async def more(than: int) -> None:
            async def seen() -> bool:
                return tries > than

            await until(seen, "more heartbeats", timeout=30.0)

        def failures() -> list[TaskFailed]:
            return [each for each in events if isinstance(each, TaskFailed)]

        await more(1)
        await db.execute("alter table cutover.daemon rename to gone")
        await more(tries + 3)
        assert [(each.task, each.error) for each in failures()] == [("presence", DatabaseFault.__name__)]
        await db.execute("alter table cutover.gone rename to daemon")
        await more(tries + 3)
        await db.execute("alter table cutover.daemon rename to gone")
        await more(tries + 3)
        assert len(failures()) == 2
        assert not running.done()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_no_secret_of_a_setting_reaches_the_table(database: str) -> None:
    secret = "ghp_a1B2c3D4e5F6g7H8i9J0"
    async with store(database) as (db, daemons):
        await daemons.tell(daemon(CUTOVER_TENANTS_FILE=f"/etc/{secret}"), {"ops": [f"unix:/run/{secret}"]})
        told = await db.fetchval("select d::text from cutover.daemon d")
        assert secret not in told
        assert "REDACTED" in told
