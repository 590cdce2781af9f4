"""Issue 5 §2, live: a real Prometheus with our rules watches a real daemon; each condition sets off its alert and no
other, and the alert goes when the condition does.

One daemon serves five tenants, so five conditions are planted at once, twice, and "no other" is asked per tenant, over
the whole round. The rules are ours with every duration divided by `FASTER` (`tests/alert_rules.py`).

Left to promtool's tests (`alerts/tests/`) is CutoverConfigDisagreement: its ten minutes are half a minute here, and it
takes a second daemon from the start, whose tenant could be planted with nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest

from cutover.embedded.callers import Seat
from cutover.embedded.control import Control
from cutover.embedded.fault_proxy import FaultProxy, Rule, answer, on
from cutover.embedded.processes import Child, ChildError, DaemonChild, Processes, daemon_child, plugin_child, until
from cutover.embedded.prometheus import Prometheus, Sample
from cutover.embedded.stack import plugin_database_url
from cutover.stores.task_lock import COUNT_SWEEP
from tests.acceptance.scene import FAST, add_memories, add_seats
from tests.alert_rules import shortened_files
from tests.conftest import MakeDatabase

pytestmark = [pytest.mark.acceptance, pytest.mark.prometheus, pytest.mark.timeout(300)]
FASTER = 20
PATIENCE = 90.0
SETTINGS = {
    **FAST,
    "CUTOVER_POOL_SIZE": "4",
    "CUTOVER_SWEEP_INTERVAL": "3",
    "CUTOVER_PROBE_TIMEOUT": "5",
    "CUTOVER_PHASE_LEASE": "30",
}
"""Five tenants on a busy machine: a slow answer must not look like a fault."""
ROUNDS: tuple[Mapping[str, str], ...] = (
    {
        "rows": "CutoverDriftUnexplained",
        "plugin": "CutoverPluginDown",
        "marks": "CutoverQuarantineNotEmpty",
        "others": "CutoverSweepStale",
        "frozen": "CutoverFrozenTableWritten",
    },
    {
        "rows": "CutoverDivergenceConfirmed",
        "plugin": "CutoverRefusingTraffic",
        "marks": "CutoverMarksAgeing",
        "others": "CutoverBypassWriterSeen",
        "frozen": "CutoverFrozenTableRead",
    },
)
"""By round, which alert each tenant is for: in that round no other may fire for it."""
AFTERWARDS: Mapping[str, str] = {"frozen": "CutoverFreezeBroken"}
"""Planted in the last round as soon as that tenant's own alert, which ends by itself, has fired."""
AT_REST: Mapping[str, str] = {"rows": "CutoverAuditBroken"}
"""Planted while the daemon is gone: it looks when it starts, and then every hour, so this one is not seen to clear."""


@dataclass(slots=True)
class Tenant:
    """One of them, with a memory that both stores hold."""

    name: str
    database_url: str
    plugin: Child
    proxy: FaultProxy
    control: Control
    memories: str
    seat: Seat
    memory: UUID | None = None

    async def execute(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """A statement of somebody who is not the daemon."""
        connection = await asyncpg.connect(self.database_url, server_settings={"application_name": "psql"})
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def call(self, session: aiohttp.ClientSession, method: str, path: str, content: str) -> tuple[int, object]:
        """Write a memory, as an agent would."""
        url = f"{self.memories}/tenants/{self.name}/workspaces/{self.seat.workspace_id}/memories{path}"
        body = {"content": content} | ({"scope": "LOCAL"} if method == "POST" else {})
        headers = {"Authorization": f"Bearer {self.seat.token}"}
        async with session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json()


_NAMES = {
    "CutoverDriftUnexplained": "drift",
    "CutoverDivergenceConfirmed": "differ",
    "CutoverPluginDown": "dead",
    "CutoverRefusingTraffic": "refusing",
    "CutoverQuarantineNotEmpty": "quarantine",
    "CutoverMarksAgeing": "ageing",
    "CutoverSweepStale": "stale",
    "CutoverBypassWriterSeen": "bypass",
    "CutoverFrozenTableWritten": "write",
    "CutoverFrozenTableRead": "read",
    "CutoverFreezeBroken": "thaw",
    "CutoverAuditBroken": "forge",
}


class Conditions:
    """What sets off each alert, and how it is set right."""

    def __init__(self, tenants: Mapping[str, Tenant], session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self._tenants = tenants
        self._session = session
        self._stack = stack
        self._rules: dict[str, Rule] = {}

    async def plant(self, wanted: Mapping[str, str]) -> None:
        """All of a round at once."""
        await asyncio.gather(*(getattr(self, _NAMES[alert])(self._tenants[at]) for at, alert in wanted.items()))

    async def mend(self, wanted: Mapping[str, str]) -> None:
        """All of a round at once; what ends by itself has nothing to mend."""
        lasting = {
            at: _NAMES[alert] for at, alert in wanted.items() if _NAMES[alert] not in ("bypass", "write", "read")
        }
        await asyncio.gather(*(getattr(self, f"mend_{name}")(self._tenants[at]) for at, name in lasting.items()))

    async def drift(self, tenant: Tenant) -> None:
        """A memory goes from the plugin's table, without a mark."""
        await tenant.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", tenant.memory)

    async def mend_drift(self, tenant: Tenant) -> None:
        status, told = await tenant.call(self._session, "PATCH", f"/{tenant.memory}", "delivered once more")
        assert status == 200, told

    async def differ(self, tenant: Tenant) -> None:
        """Somebody changes what the plugin holds; as many rows as before. A digest sweep finds it."""
        await tenant.execute(
            "UPDATE memory_plugin.memory_records SET content = 'not what was saved' WHERE id = $1", tenant.memory
        )
        told = await tenant.control.digest_sweep(full=True, timeout=PATIENCE)
        assert told["outcome"]["outcome"] == "divergent", told

    async def mend_differ(self, tenant: Tenant) -> None:
        assert tenant.memory is not None
        await tenant.control.repair([tenant.memory])
        await tenant.control.digest_sweep(full=True, timeout=PATIENCE)

    async def dead(self, tenant: Tenant) -> None:
        """The plugin's process is gone; callers come all the same and are refused."""
        tenant.plugin.kill()

        async def refused() -> bool:
            return (await tenant.call(self._session, "POST", "", "refused"))[0] == 503

        await until(refused, "a refusal", timeout=PATIENCE, every=0.5)

    async def mend_dead(self, tenant: Tenant) -> None:
        await tenant.plugin.start()

    async def refusing(self, tenant: Tenant) -> None:
        """The plugin answers its probes, and fails every write."""
        self._rules["refusing"] = tenant.proxy.rule(on("POST", r"/memories$"), answer(500))

        async def refused() -> bool:
            return (await tenant.call(self._session, "POST", "", "fails at the plugin"))[0] == 503

        await until(refused, "a refusal", timeout=PATIENCE, every=0.2)

    async def mend_refusing(self, tenant: Tenant) -> None:
        assert tenant.proxy is not None
        self._rules["refusing"].off()

    async def quarantine(self, tenant: Tenant) -> None:
        """The plugin says no to one memory, for good."""
        self._rules["quarantine"] = tenant.proxy.rule(on("POST", r"/memories$", "unplaceable"), answer(400))
        await tenant.call(self._session, "POST", "", "unplaceable")

    async def mend_quarantine(self, tenant: Tenant) -> None:
        self._rules["quarantine"].off()
        status, told = await tenant.control.call("POST", "/api/v1/quarantine/retry", {"all": True})
        assert status == 200, told

    async def bypass(self, tenant: Tenant) -> None:
        """psql writes the table."""
        await tenant.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'by hand', 'LOCAL')",
            tenant.seat.workspace_id,
        )

    async def stale(self, tenant: Tenant) -> None:
        """Another session holds the lock of count sweeps."""
        self._lock = await asyncpg.connect(tenant.database_url)
        self._stack.push_async_callback(self._lock.close)
        await self._lock.execute("SELECT pg_advisory_lock($1)", COUNT_SWEEP)

    async def mend_stale(self, tenant: Tenant) -> None:
        assert not self._lock.is_closed(), tenant.name
        await self._lock.execute("SELECT pg_advisory_unlock($1)", COUNT_SWEEP)

    async def ageing(self, tenant: Tenant) -> None:
        """A mark of an hour ago that is not due yet: what a series of failed deliveries leaves."""
        await tenant.execute(
            "INSERT INTO cutover.mark (memory_id, rev, origin, due_at, marked_at)"
            " VALUES ($1, 1, 'write', now() + interval '1 hour', now() - interval '1 hour')",
            tenant.memory,
        )

    async def mend_ageing(self, tenant: Tenant) -> None:
        await tenant.execute("UPDATE cutover.mark SET due_at = now()")

    async def write(self, tenant: Tenant) -> None:
        """psql tries to write the frozen table."""
        with pytest.raises(asyncpg.PostgresError):
            await self.bypass(tenant)

    async def read(self, tenant: Tenant) -> None:
        """psql reads it."""
        await tenant.execute("SELECT count(*) FROM agent_memories")

    async def thaw(self, tenant: Tenant) -> None:
        """The table's owner switches the freeze off."""
        await tenant.execute("ALTER TABLE agent_memories DISABLE TRIGGER cutover_freeze")

    async def mend_thaw(self, tenant: Tenant) -> None:
        status, told = await tenant.control.call("POST", "/api/v1/phase/refreeze", {"reason": "a test"})
        assert status == 200, told

    async def forge(self, tenant: Tenant) -> None:
        """The schema's owner changes who took a step. The next start of a daemon looks."""
        await tenant.execute("ALTER TABLE cutover.phase_event DISABLE TRIGGER ALL")
        await tenant.execute("UPDATE cutover.phase_event SET actor = 'eve' WHERE seq = 1")
        await tenant.execute("ALTER TABLE cutover.phase_event ENABLE TRIGGER ALL")


@dataclass(frozen=True, slots=True)
class Watched:
    """The daemon, and who watches it."""

    daemon: DaemonChild
    tenants: Mapping[str, Tenant]
    prometheus: Prometheus

    async def firing(self) -> dict[str, set[str]]:
        """What fires now, by tenant ("" for what is of no tenant)."""
        return self._by_tenant(await self.prometheus.query('ALERTS{alertstate="firing"}'))

    async def ever_fired(self) -> dict[str, set[str]]:
        """The same of the whole run."""
        return self._by_tenant(await self.prometheus.query('last_over_time(ALERTS{alertstate="firing"}[1h])'))

    @staticmethod
    def _by_tenant(samples: list[Sample]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for sample in samples:
            found.setdefault(sample.labels.get("tenant", ""), set()).add(sample.labels["alertname"])
        return found

    async def until_firing(self, wanted: Mapping[str, str], timeout: float) -> None:
        """Wait until each of them fires or has fired (some end by themselves), and tell which does not."""
        last: dict[str, set[str]] = {}

        async def all_fire() -> bool:
            last.clear()
            last.update(await self.ever_fired())
            return all(name in last.get(tenant, set()) for tenant, name in wanted.items())

        await self._waited(all_fire, wanted, last, timeout)

    async def until_only(self, wanted: Mapping[str, set[str]], timeout: float) -> None:
        """Wait until exactly these fire."""
        last: dict[str, set[str]] = {}

        async def only() -> bool:
            last.clear()
            last.update(await self.firing())
            return last == wanted

        await self._waited(only, wanted, last, timeout)

    @staticmethod
    async def _waited(condition: Callable[[], Awaitable[bool]], wanted: object, last: object, timeout: float) -> None:
        try:
            await until(condition, "alerts", timeout=timeout, every=0.5)
        except ChildError:
            pytest.fail(f"after {timeout:g} s {last} fired; wanted: {wanted or 'nothing'}")


@asynccontextmanager
async def watched(
    make_database: MakeDatabase, directory: Path, session: aiohttp.ClientSession, stack: AsyncExitStack
) -> AsyncIterator[Watched]:
    """All tenants in their phases, each with a memory in both stores, and Prometheus beside them."""
    processes = stack.enter_context(Processes(directory / "logs"))
    lines, settings, made = [], dict(SETTINGS), {}
    for name in ROUNDS[0]:
        url = await make_database()
        plugin, plugin_url = plugin_child(processes, plugin_database_url(url), name=f"plugin-{name}")
        proxy = await stack.enter_async_context(FaultProxy(plugin_url))
        made[name] = (url, plugin, proxy, (await add_seats(url, roots=1, children=0))[0])
        settings[f"URL_{name.upper()}"] = url
        lines.append(
            f'[[tenant]]\nname = "{name}"\ndatabase_url = "env:URL_{name.upper()}"\nplugin_url = "{proxy.url}"'
        )
    listing = directory / "tenants.toml"
    listing.write_text("\n".join(lines))
    await asyncio.gather(*(plugin.start() for _, plugin, _, _ in made.values()))
    daemon = daemon_child(processes, settings={**settings, "CUTOVER_TENANTS_FILE": str(listing)})
    stack.callback(daemon.child.kill)  # before the proxies go
    await daemon.child.start()
    tenants = {}
    for name, (url, plugin, proxy, seat) in made.items():
        control = await stack.enter_async_context(Control(daemon.at.ops, daemon.admin_token, tenant=name))
        tenants[name] = Tenant(name, url, plugin, proxy, control, daemon.at.memories, seat)

    async def ready(tenant: Tenant) -> None:
        if tenant.name == "frozen":
            await add_memories(tenant.database_url, [tenant.seat], 3)
        await tenant.control.enter("A1", override="a test")
        if tenant.name in ("rows", "frozen"):  # before a backfill, what the plugin lacks may be there to be copied
            await tenant.control.enter("A2", override="a test")
            await tenant.control.copy(timeout=PATIENCE)
        if tenant.name == "frozen":
            await tenant.control.enter("A3", override="a test")
            return
        status, told = await tenant.call(session, "POST", "", "held by both stores")
        assert status == 201, told
        assert isinstance(told, dict)
        tenant.memory = UUID(told["id"])

        async def delivered() -> bool:
            return bool(
                await tenant.execute("SELECT 1 FROM memory_plugin.memory_records WHERE id = $1", tenant.memory)
            ) and not await tenant.execute("SELECT 1 FROM cutover.mark")

        await until(delivered, "the first memory delivered", timeout=PATIENCE, every=0.1)

    await asyncio.gather(*(ready(tenant) for tenant in tenants.values()))
    rules = shortened_files(directory, FASTER)
    async with Prometheus(
        directory / "prometheus", [daemon.at.ops.removeprefix("http://")], rules=rules, every=1.5
    ) as prometheus:
        await prometheus.until_scraped()
        yield Watched(daemon, tenants, prometheus)


async def test_each_planted_condition_sets_off_its_alert_and_no_other_and_it_clears(
    make_database: MakeDatabase, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with (
        AsyncExitStack() as stack,
        watched(make_database, tmp_path, session, stack) as seen,
    ):
        conditions = Conditions(seen.tenants, session, stack)
        fired: dict[str, set[str]] = {}
        for wanted in ROUNDS:
            await conditions.plant(wanted)
            more = AFTERWARDS if wanted is ROUNDS[-1] else {}
            await seen.until_firing({tenant: wanted[tenant] for tenant in more}, PATIENCE)
            await conditions.plant(more)
            await seen.until_firing(wanted, PATIENCE)
            await seen.until_firing(more, PATIENCE)
            await conditions.mend(wanted)
            await conditions.mend(more)
            await seen.until_only({}, PATIENCE)
            for tenant, name in (*wanted.items(), *more.items()):
                fired.setdefault(tenant, set()).add(name)
            # Of no tenant is only a daemon that does not answer in time, which a busy machine may bring about.
            told = {tenant: names for tenant, names in (await seen.ever_fired()).items() if tenant}
            assert told == fired

        # A daemon that is gone takes everything it told with it; only its absence is told.
        seen.daemon.child.kill()
        await seen.until_only({"": {"CutoverDaemonAbsent"}}, PATIENCE)
        await conditions.plant(AT_REST)
        await seen.daemon.child.start()
        await seen.until_only({tenant: {name} for tenant, name in AT_REST.items()}, PATIENCE)
