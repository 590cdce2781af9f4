"""Others at agent_memories (architecture §6, decision 0024): writers by their marks, readers net of our own work."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from cutover.domain.access import CASCADE, REFUSED, UNNAMED, Access
from cutover.domain.errors import IllegalStep
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.stores.drop import DropStore
from tests.conftest import MakeDatabase
from tests.integration.digest_scene import digest
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT, STRANGER, database_in_a1_at
from tests.integration.test_verify import verify

ROWS: list[tuple[Any, ...]] = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(40)]
TOLD = 12.0
"""Seconds after which every session has told the statistics what it did."""


@contextlib.asynccontextmanager
async def somebody(database: str, name: str = "console") -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A session of somebody else's; at its end the statistics know what it did."""
    connection = await asyncpg.connect(database, server_settings={"application_name": name})
    try:
        yield connection
    finally:
        await connection.close()


async def access(s: Scene) -> Access:
    return await s.tenant._access.access()


async def watched(s: Scene) -> None:
    """Wait until scans count."""

    async def counting() -> bool:
        return (await access(s)).reads_since is not None

    await until(counting, "the watch", timeout=60)


async def reads(s: Scene, count: int) -> Access:
    """Wait until so many scans of others are known."""

    async def known() -> bool:
        return (await access(s)).evidence().reads >= count

    await until(known, f"{count} foreign scans", timeout=30)
    seen = await access(s)
    assert seen.evidence().reads == count
    return seen


async def watch(s: Scene) -> asyncpg.Record:
    row = await s.database.fetchrow("SELECT *, clock_timestamp() AS now FROM cutover.access_watch")
    assert row is not None
    return row


async def all_told(s: Scene) -> asyncpg.Record:
    """Once the statistics know everything that was done so far: the watch as it is then."""
    done = await s.database.fetchval("SELECT clock_timestamp()")

    async def told() -> bool:
        row = await watch(s)
        own = row["last_own"] - row["base_own"]
        late = (row["looked_at"] - done).total_seconds()
        return bool(late > TOLD and row["last_scans"] - row["base_scans"] >= own + row["counted"])

    await until(told, "the statistics", timeout=60)
    return await watch(s)


async def test_our_own_work_is_nobody_elses_and_others_are_seen_counted_and_named(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS, proxied=False) as s:
        more = await s.create(ROOT, "of the root")
        await s.enter(Phase.A3)
        await watched(s)
        before = await watch(s)

        # Everything we do with the table in A3.
        outcome = await digest(s)
        assert (outcome["outcome"], outcome["trusted"]) == ("clean", True), outcome
        assert (await verify(s))["outcome"] == "clean"
        await s.sweep()
        await s.edit(CHILD, ROWS[0][0], "edited")
        await s.delete(CHILD, ROWS[1][0])
        await s.forget(f"workspace:{CHILD}", ROWS[2][0])
        await s.commit(f"workspace:{CHILD}", "upserted", id=ROWS[3][0])
        await s.create(CHILD, "new")
        await s.quiet()
        # A way back that is given up, and a step to A4 that is.
        await s.tenant._way_back.prepare(await s.tenant.phase.reload())
        await DropStore(s.tenant._database).adopt_chunk((await s.tenant.phase.reload()).epoch, None, 2)
        with pytest.raises(IllegalStep, match="not taken over"):
            await DropStore(s.tenant._database).set_aside_again(60.0, "test", "", 500)
        async with somebody(database, "workspace-server") as theirs:
            await theirs.execute("DELETE FROM workspaces WHERE id = $1", STRANGER)
            await theirs.execute("UPDATE workspaces SET parent_id = NULL WHERE id = $1", CHILD)
        # Deletions that fail before their foreign keys look: nothing may be left noted that a reader could hide behind.
        async with somebody(database, "workspace-server") as theirs:
            await theirs.execute(
                "CREATE FUNCTION public.not_now() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
                " CREATE TRIGGER zz BEFORE DELETE ON workspaces FOR EACH ROW EXECUTE FUNCTION public.not_now()"
            )
            for _ in range(3):
                with pytest.raises(asyncpg.RaiseError, match="not now"):
                    await theirs.execute("DELETE FROM workspaces WHERE id = $1", CHILD)
            await theirs.execute("DROP FUNCTION public.not_now() CASCADE")
        await s.quiet()
        with pytest.raises(Exception, match="22012"):  # a statement of ours that fails half way
            await s.tenant._database.fetch("SELECT 1 / (count(*) - count(*)) FROM public.agent_memories")
        after = await all_told(s)
        assert after["last_own"] - before["last_own"] > 20, "it was counted at all"
        assert after["last_scans"] - after["base_scans"] == after["last_own"] - after["base_own"] + after["counted"]
        seen = await access(s)
        assert (seen.evidence().reads, seen.evidence().readers) == (0, ())
        assert seen.evidence().reads_clean_seconds == seen.evidence().watched_seconds > 0

        # One scan of the table, one of an index, both too short to be seen; looking at the schema is no read.
        async with somebody(database) as theirs:
            await theirs.execute("SELECT count(*) FROM agent_memories")
        await reads(s, 1)
        async with somebody(database) as theirs:
            await theirs.execute("SET enable_seqscan = off")
            await theirs.fetchval("SELECT content FROM agent_memories WHERE id = $1", more.id)
            await theirs.execute("ANALYZE agent_memories")
            await theirs.execute("VACUUM agent_memories")
        seen = await reads(s, 2)
        assert seen.evidence().readers == (UNNAMED,)

        # One that lasts is named while it does, and its scan is put down to it.
        async with somebody(database) as theirs:
            role = await theirs.fetchval("SELECT session_user")
            async with theirs.transaction():
                await theirs.fetch("SELECT id FROM agent_memories")

                async def named() -> bool:
                    return f"console/{role}" in (await access(s)).evidence().readers

                await until(named, "the reader's name", timeout=30)
        seen = await reads(s, 3)
        by = {each.name: each for each in seen.readers}
        assert by[f"console/{role}"].scans == 1
        assert by[f"console/{role}"].first_seen <= by[f"console/{role}"].last_seen

        # A restarted daemon knows it still, and two daemons count once.
        since = (await watch(s))["since"]
        await s.daemons[-1].stop()
        await s.daemon()
        await s.daemon()
        assert (await access(s)).evidence().reads == 3
        async with somebody(database) as theirs:
            await theirs.execute("SELECT count(*) FROM agent_memories")
        await reads(s, 4)
        assert (await watch(s))["since"] == since, "the counters went on while nobody looked"

        # What the statistics lose, the watch does not pretend to know.
        await s.database.execute("SELECT pg_stat_reset()")

        async def anew() -> bool:
            return bool((await watch(s))["why"] == "the statistics were reset")

        await until(anew, "the watch to begin anew", timeout=30)
        evidence = (await access(s)).evidence()
        assert (evidence.watched_seconds, evidence.reads_clean_seconds) == (0.0, 0.0)


async def test_a_look_that_cannot_be_made_is_not_a_look_that_saw_nobody(database: str) -> None:
    async with scene(database, phase=Phase.A3, rows=ROWS[:3], proxied=False) as s:
        await watched(s)
        store = s.tenant._access._store
        async with somebody(database, "stuck") as theirs, theirs.transaction():
            await theirs.execute("SELECT pg_advisory_xact_lock(cutover.access_lock_key())")
            assert await store.look(0.0) is None

            async def blind() -> bool:
                return bool((await s.tenant._access.evidence()).reads_unknown)

            await until(blind, "the watch to be called blind", timeout=60)
        await until(lambda: looks(s), "the watch to see again", timeout=60)


async def looks(s: Scene) -> bool:
    return not (await s.tenant._access.evidence()).reads_unknown


async def test_refused_writers_count_and_work_that_dies_with_its_daemon_is_set_aside(database: str) -> None:
    async with scene(database, phase=Phase.A3, rows=ROWS, proxied=False) as s:
        await watched(s)
        # Whoever is refused by the freeze is still a writer, and no reader.
        async with somebody(database, "seeder") as theirs:
            with pytest.raises(asyncpg.PostgresError):
                await theirs.execute("INSERT INTO agent_memories (content, scope) VALUES ('x', 'LOCAL')")

        async def refused() -> bool:
            return [each.operation for each in (await access(s)).writers if each.name.startswith("seeder/")] == [
                REFUSED
            ]

        await until(refused, "the refused writer", timeout=30)
        # As a daemon leaves it that is killed while its statement runs: begun, scanned, and gone.
        async with somebody(database, "cutover") as killed:
            await killed.execute("BEGIN; SELECT cutover.begin_own_work(); SELECT count(*) FROM agent_memories")

        async def aside() -> bool:
            return (await access(s)).set_aside > 0

        await until(aside, "the scan to be set aside", timeout=30)
        assert (await access(s)).evidence().reads == 0
        async with somebody(database) as theirs:
            await theirs.execute("SELECT count(*) FROM agent_memories")
        await reads(s, 1)


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE", "SET NULL"])
async def test_writers_are_named_with_what_they_did_and_cascades_are_apart(
    make_database: MakeDatabase, action: str
) -> None:
    database = await make_database()
    async with scene(database, phase=Phase.A2, rows=ROWS[:3], proxied=False) as s:
        async with somebody(database, "owner") as owner:
            await owner.execute(
                "ALTER TABLE agent_memories DROP CONSTRAINT agent_memories_workspace_id_fkey, ADD FOREIGN KEY"
                f" (workspace_id) REFERENCES workspaces (id) ON DELETE {action}"
            )
        async with somebody(database, "seeder") as theirs:
            role = await theirs.fetchval("SELECT session_user")
            mine = uuid4()
            insert = "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, 'x', 'LOCAL')"
            await theirs.execute(insert, mine, STRANGER)
            await theirs.execute("UPDATE agent_memories SET content = 'y' WHERE id = $1", mine)
            if action == "NO ACTION":
                await theirs.execute("DELETE FROM agent_memories WHERE id = $1", mine)
            await theirs.execute("SET application_name = 'purger'")
            await theirs.execute("DELETE FROM workspaces WHERE id = $1", STRANGER)
        seen = await access(s)
        by = {(each.name, each.operation): each.writes for each in seen.writers}
        expected = {(f"seeder/{role}", "INSERT"): 1, (f"seeder/{role}", "UPDATE"): 1}
        if action == "NO ACTION":
            expected[f"seeder/{role}", "DELETE"] = 1
        else:
            expected[f"purger/{role}", CASCADE] = 1
        # The rows of the scene were there before A1, and nobody captured them.
        assert by == expected
        evidence = seen.evidence()
        assert (evidence.writes, evidence.writers) == (3 if action == "NO ACTION" else 2, (f"seeder/{role}",))
        assert 0 <= evidence.writes_clean_seconds < evidence.watched_seconds
        told = await s.tenant.access()
        assert {each["name"] for each in told["writes"]["by"]} == {name for name, _ in expected}
        assert evidence.watched_seconds > 0
        assert (told["reads"]["watched_seconds"], evidence.reads) == (0.0, 0), "readers are watched after the cutover"


@pytest.mark.parametrize(
    "make", [pytest.param("make_database", id="16"), pytest.param("make_database15", id="15", marks=pytest.mark.pg15)]
)
async def test_scans_are_told_apart_on_postgresql(request: pytest.FixtureRequest, make: str) -> None:
    database = await request.getfixturevalue(make)(embedding=False)
    async with database_in_a1_at(database) as ours:
        await ours.execute("SELECT cutover.set_phase(2, 'A2', 'test', 'test')")
        await ours.execute("SELECT cutover.set_phase(3, 'A3', 'test', 'test')")
        await asyncio.sleep(TOLD)  # what was done in A1 and A2 has been told
        look = "SELECT new_scans FROM cutover.watch_access(0)"
        assert await ours.fetchval(look) == 0
        ours.own_work.wanted = lambda: True
        assert await ours.fetch("SELECT id FROM agent_memories") == []
        many = (
            "SELECT (SELECT count(*) FROM agent_memories a WHERE a.id::text <> n::text) FROM generate_series(1, 5000) n"
        )
        assert len(await ours.fetch(many)) == 5000  # a scan for each
        async with ours.transaction() as connection:
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchval("SELECT 1 / count(*) FROM agent_memories")
            assert await connection.fetchval("SELECT 1") == 1, "a failure within our own transaction does not end it"
        for sql in ("SELECT * FROM agent_memories", "SELECT FROM agent_memories WHERE id = gen_random_uuid()"):
            async with somebody(database) as theirs:
                await theirs.execute("SET enable_seqscan = off")
                await theirs.execute(sql)
        found = []

        async def settled() -> bool:
            found.append(await ours.fetchval(look))
            row = await ours.fetchrow("SELECT * FROM cutover.access_watch")
            assert row is not None
            return bool(row["last_scans"] - row["base_scans"] == row["last_own"] - row["base_own"] + row["counted"])

        await until(settled, "the statistics", timeout=30)
        assert sum(found) == 2
        own = await ours.fetchval("SELECT last_own - base_own FROM cutover.access_watch")
        assert own == 5002
