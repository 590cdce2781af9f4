"""`--via contract`: how many requests are under way follows the plugin's latency, and namespaces are put once."""

from collections import Counter
from uuid import UUID

from cutover.domain.backfill import Via
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import Forward, ProxiedAnswer, ProxiedRequest, delay, on
from cutover.embedded.processes import until
from cutover.engine.backfill_progress import BackfillLimits
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, STRANGER

COMMITS = on("POST", r"/memories$")
LIMITS = BackfillLimits(chunk=500, rate=0.0, queue=2000, pause_file=None, via=Via.CONTRACT)


async def fill(s: Scene, count: int, workspaces: tuple[UUID, ...] = (CHILD,), scope: str = "LOCAL") -> None:
    await s.database.execute(
        "INSERT INTO agent_memories (workspace_id, content, scope)"
        " SELECT ($1::uuid[])[1 + n % cardinality($1::uuid[])], 'row ' || n, $3 FROM generate_series(1, $2) n",
        list(workspaces), count, scope,
    )  # fmt: skip


async def test_each_namespace_is_put_once_however_many_rows_want_it_at_once(database: str) -> None:
    async with scene(database, backfill=LIMITS, reconciler_senders=32) as s:
        assert s.proxy is not None
        for scope in ("LOCAL", "TEAM", "GLOBAL"):
            await fill(s, 200, (ROOT, CHILD, SIBLING, GRANDCHILD, STRANGER), scope)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        told = await s.backfill()
        assert (told["state"], told["scanned"]) == ("finished", 600)
        puts = Counter(r.path for r in s.proxy.seen if r.method == "PUT" and "canary" not in r.path)
        names = await s.database.fetch(
            "SELECT DISTINCT namespace AS name FROM memory_plugin.memory_records WHERE content LIKE 'row%'"
        )
        assert set(puts) == {f"/v1/namespaces/{row['name']}" for row in names}
        assert len(puts) == 5 + 3 + 2
        assert set(puts.values()) == {1}
        await s.quiet()
        assert await s.differences() == []


async def test_requests_under_way_follow_the_plugins_latency(database: str) -> None:
    """Additive increase while it keeps up, multiplicative decrease when it slows down, and back again."""
    async with scene(database, backfill=LIMITS, reconciler_senders=64) as s:
        assert s.proxy is not None
        await fill(s, 8000)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        under_way = most = 0

        async def counted(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await slow(request, forward) if slowly else await forward(request)
            finally:
                under_way -= 1

        slow, slowly = delay(0.2), False
        s.proxy.rule(COMMITS, counted)

        async def limit(low: int, high: int, what: str) -> None:
            async def within() -> bool:
                concurrency = s.tenant._readiness.status()["plugin"]["concurrency"]
                return bool(low <= concurrency["limit"] <= high)

            await until(within, f"a limit of {low} to {high} {what}", timeout=60, every=0.005)

        await s.tenant.operations.start_backfill(apply=True, actor="test")
        await limit(17, 64, "while the plugin keeps up")
        slowly = True
        await limit(1, 8, "once it is slow")
        most = under_way
        slowly = False
        await limit(12, 64, "when it is well again")
        assert most <= 64
        await s.tenant.operations.abort_backfill(actor="test")
        await s.tenant._backfill.wait()


async def test_a_slow_plugin_holds_back_the_marking_too(database: str) -> None:
    limits = BackfillLimits(chunk=20, rate=0.0, queue=2000, pause_file=None, via=Via.CONTRACT, slow=0.1)
    async with scene(database, backfill=limits) as s:
        assert s.proxy is not None
        await fill(s, 300)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        rule = s.proxy.rule(COMMITS, delay(0.3))
        await s.tenant.operations.start_backfill(apply=True, actor="test", rate=100.0)

        async def held() -> bool:
            told = await s.tenant.operations.backfill_status()
            return bool(told["throttled"] == "latency" and told["scanned"] < 300)

        await until(held, "the plugin's latency as the reason", timeout=30, every=0.005)
        rule.off()
        await s.tenant._backfill.wait()
        assert (await s.tenant.operations.backfill_status())["state"] == "finished"
        await s.quiet()
        assert await s.differences() == []
