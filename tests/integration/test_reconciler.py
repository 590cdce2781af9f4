"""The reconciler on real stores: state, not events; one request per memory; nothing for ever in anybody's way."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from cutover.domain.events import DeliverySettled
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import Forward, ProxiedAnswer, ProxiedRequest, answer, on
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD, ROOT

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")


async def test_what_is_sent_is_what_the_row_is_then(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        fault = s.proxy.rule(COMMITS, answer(500))
        memory_id = await s.insert(CHILD, "version 0")
        for number in range(1, 6):
            await s.database.execute(
                "UPDATE agent_memories SET content = $2 WHERE id = $1", memory_id, f"version {number}"
            )
        s.proxy.seen.clear()
        fault.off()
        await s.quiet()
        sent = [request.json()["content"] for request in s.proxy.seen if COMMITS(request)]
        assert set(sent) == {"version 5"}
        assert await s.content(memory_id) == "version 5"


async def test_two_daemons_never_send_for_one_memory_at_once(database: str) -> None:
    under_way: Counter[str] = Counter()
    together: list[str] = []

    async def watch(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        memory_id = request.json()["id"]
        under_way[memory_id] += 1
        if under_way[memory_id] > 1:
            together.append(memory_id)
        try:
            await asyncio.sleep(0.01)
            return await forward(request)
        finally:
            under_way[memory_id] -= 1

    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        await s.daemon()
        s.proxy.rule(COMMITS, watch)
        made = [await s.create(CHILD, f"{number}") for number in range(4)]
        for round_ in range(5):
            await s.database.execute("UPDATE agent_memories SET content = $1", f"bypass {round_}")
            await asyncio.gather(*(s.edit(CHILD, each.id, f"edit {round_}") for each in made))
        await s.quiet()
        assert together == []
        assert await s.differences() == []


async def test_one_refused_memory_does_not_hold_up_the_others_and_leaves_the_plugin(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "taken")
        await s.quiet()
        s.proxy.rule(on("POST", r"/memories$", "poison"), answer(400, {"code": "bad_request", "message": "no"}))
        await s.edit(CHILD, made.id, "poison")
        others = [await s.create(CHILD, f"fine {number}") for number in range(5)]
        await s.quiet()
        # The plugin must not go on showing what the memory no longer is.
        assert await s.content(made.id) is None
        assert await s.database.fetchval("SELECT reason FROM cutover.quarantine") == "refused_by_plugin"
        assert [await s.content(each.id) for each in others] == [f"fine {number}" for number in range(5)]
        assert await s.differences() == []
        assert (await s.sweep())["causes"]["quarantined"] == 1


async def test_a_foreign_transaction_that_stays_open_holds_only_its_own_memory_up(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        mine, theirs = await s.create(CHILD, "mine"), await s.create(CHILD, "theirs")
        await s.quiet()
        foreign = await asyncpg.connect(database)
        try:
            transaction = foreign.transaction()
            await transaction.start()
            await foreign.execute("UPDATE agent_memories SET content = 'open' WHERE id = $1", theirs.id)
            await s.edit(CHILD, mine.id, "edited")
            new = await s.create(CHILD, "new")
            await s.quiet()  # the foreign mark is not committed yet
            assert await s.content(mine.id) == "edited"
            assert await s.content(new.id) == "new"
            assert await s.content(theirs.id) == "theirs"
            await transaction.commit()
        finally:
            await foreign.close()
        await s.quiet()
        assert await s.content(theirs.id) == "open"
        assert await s.differences() == []


@pytest.mark.parametrize("odd", ["x" * 100_000, "\N{SNOWMAN}\U0001f600 \u202e \x01", "'; DROP TABLE workspaces; --"])
async def test_odd_contents_arrive_as_they_are(database: str, odd: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        inserted = await s.insert(CHILD, odd, "TEAM")
        made = await s.create(ROOT, odd, Scope.GLOBAL)
        await s.quiet()
        assert await s.content(inserted) == odd
        row = await s.legacy(made.id)
        assert row is not None
        assert await s.content(made.id) == row["content"]
        assert await s.differences() == []


async def test_times_that_python_cannot_hold_do_not_stop_anything(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        for time in ("infinity", "-infinity", "0044-03-15 BC", "294276-01-01"):
            await s.database.execute(
                "INSERT INTO agent_memories (workspace_id, content, scope, created_at, updated_at)"
                f" VALUES ($1, $2, 'LOCAL', '{time}', '{time}')",
                CHILD,
                time,
            )
        await s.database.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope, created_at, updated_at)"
            " VALUES ($1, 'none', 'LOCAL', NULL, NULL)",
            CHILD,
        )
        await s.quiet()
        held = await s.database.fetch(
            "SELECT content FROM memory_plugin.memory_records WHERE namespace = $1", f"workspace:{CHILD}"
        )
        assert len(held) == 5


async def test_deliveries_are_told(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        await s.create(CHILD, "by the request")
        await s.insert(CHILD, "by the reconciler")
        await s.quiet()
        told = {(event.path, event.outcome) for event in s.daemons[-1].events if isinstance(event, DeliverySettled)}
        assert told == {("request", "delivered"), ("reconciler", "delivered")}
