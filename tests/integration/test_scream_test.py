"""`cutover phase scream-test`: a freeze for everybody but the daemon, that ends by itself (issue 4 §3)."""

import time

import asyncpg
import pytest

from cutover.domain.errors import IllegalStep
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.stores.freeze import FreezeStore
from tests.integration.lock_scene import foreign_transaction
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD

INSERT = f"INSERT INTO agent_memories (workspace_id, content, scope) VALUES ('{CHILD}', 'x', 'LOCAL')"
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_freeze%'"


async def attempt(database: str, name: str, sql: str = INSERT) -> str:
    """SQLSTATE of a stranger's statement; empty when it passed."""
    writer = await asyncpg.connect(database, server_settings={"application_name": name})
    try:
        await writer.execute(sql)
    except asyncpg.PostgresError as error:
        return error.sqlstate or "?"
    finally:
        await writer.close()
    return ""


async def over(s: Scene) -> None:
    """The freeze has ended and left no trigger."""

    async def gone() -> bool:
        return await FreezeStore(s.database).state() is None and not await s.database.fetchval(TRIGGERS)

    await until(gone, "the end of the test", timeout=30, every=0.1)


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2], ids=str)
async def test_others_are_refused_and_listed_while_the_daemons_own_path_goes_on(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, proxied=False) as s:
        before = await s.create(CHILD, "before")
        told = await s.tenant.freeze.scream(4, "alice", "who writes here?")
        assert told["freeze"]["mode"] == "scream"
        assert await attempt(database, "workspace-server") == "CU003"
        assert await attempt(database, "workspace-server", "UPDATE agent_memories SET content = 'y'") == "CU003"
        assert await attempt(database, "psql", "TRUNCATE agent_memories") == "CU003"
        made = await s.create(CHILD, "through the daemon")
        await s.edit(CHILD, before.id, "edited through the daemon")
        assert (await s.legacy(made.id)) is not None
        await s.delete(CHILD, made.id)
        await over(s)
        assert await attempt(database, "workspace-server") == ""
        ended = await s.tenant.freeze.told(told["freeze"]["number"])
        assert ended["freeze"]["over"]
        assert {row["writer"].split("/")[0]: row["attempts"] for row in ended["refused"]} == {
            "workspace-server": 2,
            "psql": 1,
        }
        await s.quiet()
        assert await s.differences() == []


async def test_it_ends_in_time_although_the_daemon_died_and_the_next_one_tidies_up(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.tenant.freeze.scream(2, "alice", "")
        assert await attempt(database, "psql") == "CU003"
        await s.daemons[-1].abandon()
        began = time.monotonic()

        async def passes() -> bool:
            return await attempt(database, "psql") == ""

        await until(passes, "the end by the database's clock", timeout=20, every=0.1)
        assert time.monotonic() - began < 20
        assert await s.database.fetchval(TRIGGERS) == 2  # nobody lives who could have removed them
        await s.daemon()
        await over(s)
        refused_ones = (await s.tenant.freeze.told())["refused"]
        assert [row["writer"].split("/")[0] for row in refused_ones] == ["psql"]


async def test_no_step_forward_is_taken_during_it_and_no_second_test(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.quiet()
        await s.tenant.freeze.scream(60, "alice", "")
        error = await refused(s.step(Phase.A3), IllegalStep)
        assert "scream test of alice" in str(error)
        assert "under way" in str(await refused(s.tenant.freeze.scream(5, "bob", ""), IllegalStep))
        stopped = await s.tenant.freeze.stop_scream("bob")
        assert stopped["freeze"]["over"]
        assert stopped["freeze"]["ended_by"] == "bob"
        await over(s)
        await s.step(Phase.A3)
        assert (await s.tenant.freeze.evidence()).intact


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A3], ids=str)
async def test_it_belongs_into_a1_and_a2(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, proxied=False) as s:
        error = await refused(s.tenant.freeze.scream(5, "alice", ""), IllegalStep)
        assert "A1 or A2" in str(error)
        assert await s.database.fetchval("SELECT count(*) FROM cutover.freeze WHERE mode = 'scream'") == 0


async def test_a_backfill_goes_on_during_it(database: str) -> None:
    async with scene(database, phase=Phase.A1, proxied=False) as s:
        for number in range(20):
            await s.insert(CHILD, f"old {number}")
        await s.step(Phase.A2)
        await s.tenant.freeze.scream(30, "alice", "")
        progress = await s.backfill()
        assert progress["state"] == "finished"
        await s.tenant.freeze.stop_scream("alice")


async def test_a_foreign_transaction_in_the_way_is_named(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        async with foreign_transaction(database) as stranger:
            await stranger.execute("SET application_name = 'nightly-report'")
            await stranger.execute(INSERT)
            error = await refused(s.tenant.freeze.scream(5, "alice", ""), IllegalStep)
            assert "nightly-report" in str(error)
        assert await s.database.fetchval(TRIGGERS) == 0


async def test_a_way_back_ends_the_scream_test(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        await s.tenant.freeze.scream(600, "alice", "")
        assert (await s.step(Phase.A1))["to"] == "A1"
        await s.insert(CHILD, "others write again")
