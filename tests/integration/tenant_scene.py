"""A whole tenant inside the test's process: real stores, the reference plugin, the tenant's own tasks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from cutover.domain.breaker import BreakerPolicy, ProbePolicy
from cutover.domain.errors import NotFound
from cutover.domain.events import Observer
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.embedded.reference_plugin import running as running_plugin
from cutover.embedded.stack import plugin_database_url
from cutover.engine.backfill_progress import BackfillLimits
from cutover.engine.schedule import Schedule
from cutover.engine.tenant import Tenant
from cutover.engine.tenant_options import TenantOptions
from cutover.stores.database import Database
from tests.integration.read_scene import add_workspaces

_STEPS = (Phase.A0, Phase.A1, Phase.A2, Phase.A3)


@dataclass(frozen=True)
class One:
    """A directory of one tenant, which is the default."""

    tenant: Tenant

    @property
    def default(self) -> Tenant:
        return self.tenant

    def get(self, name: str) -> Tenant:
        if name != self.tenant.name:
            raise NotFound("no such tenant")
        return self.tenant


@dataclass
class Running:
    """The tenant at work, and a connection of our own to its database."""

    tenant: Tenant
    database: Database
    plugin: contextlib.AsyncExitStack

    async def enter(self, phase: Phase) -> None:
        """Forward to `phase`, one step at a time; from A2 on everything that legacy holds has been delivered."""
        operations = self.tenant.operations
        while (state := self.tenant.phase.current()).phase is not phase:
            step = _STEPS[_STEPS.index(state.phase) + 1]
            await operations.change_phase(step, actor="test", reason="test", expected_epoch=state.epoch)
            if step is Phase.A2:
                await operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="test")
                await until(self._backfilled, "the backfill", timeout=30, every=0.02)

    async def _backfilled(self) -> bool:
        marks = await self.database.fetchval("SELECT count(*) FROM cutover.mark")
        done = await self.database.fetchval("SELECT bool_and(done) FROM cutover.backfill_cursor")
        return bool(done) and marks == 0

    async def stop_plugin(self) -> None:
        """The plugin is gone, and the tenant has seen it."""
        await self.plugin.aclose()

        async def seen() -> bool:
            return not self.tenant.health.up

        await until(seen, "the probe", timeout=10, every=0.01)


@contextlib.asynccontextmanager
async def running_tenant(database_url: str, observer: Observer) -> AsyncIterator[Running]:
    """The tenant `default` in A0, its plugin healthy, with the workspaces of `read_scene`."""
    async with contextlib.AsyncExitStack() as stack:
        plugin = await stack.enter_async_context(contextlib.AsyncExitStack())
        address = await plugin.enter_async_context(running_plugin(plugin_database_url(database_url), "127.0.0.1:0"))
        tenant = await Tenant.open(_options(database_url, address), observer, stack)
        database = await Database.connect(database_url, application_name="test", max_size=2)
        stack.push_async_callback(database.close)
        await add_workspaces(database)
        schedule = Schedule()
        schedule.start()
        stack.callback(schedule.stop)
        tasks = [asyncio.create_task(_forever(run), name=name) for name, run in tenant.tasks(schedule)]
        stack.push_async_callback(_end, tasks)

        async def healthy() -> bool:
            return tenant.health.up

        await until(healthy, "a healthy plugin", timeout=10, every=0.01)
        yield Running(tenant, database, plugin)


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    await run()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _options(database_url: str, plugin_url: str) -> TenantOptions:
    return TenantOptions(
        name="default",
        database_url=database_url,
        plugin_url=plugin_url,
        plugin_database_url=None,
        plugin_command=None,
        pool_size=6,
        plugin_timeout=2.0,
        probe_interval=0.1,
        probe_timeout=1.0,
        probe_policy=ProbePolicy(),
        breaker_policy=BreakerPolicy(),
        refuse="all",
        max_in_flight=64,
        max_backlog=10_000,
        delivery_deadline=1.2,
        quarantine=10.0,
        phase_lease=10.0,
        reconciler_senders=4,
        shadow_ratio=0.0,
        sweep_interval=3600.0,
        recall_interval=0.0,
        backfill=BackfillLimits(chunk=500, rate=0.0, queue=1000, pause_file=None),
    )
