"""Whole tenants on real stores, made to be hurt: short times, a fault proxy before the plugin, daemons that die.

`T_Z` is short so that a test can see it pass. A daemon that is abandoned here ends the way SIGKILL ends it: nothing is
drained, and what the proxy still holds arrives when the test says so.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from cutover.domain.backfill import Via
from cutover.domain.breaker import BreakerPolicy, ProbePolicy
from cutover.domain.events import Event
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import (
    Caller,
    CommitMemory,
    CreateMemory,
    DeleteMemory,
    EditMemory,
    ForgetMemory,
    Receipt,
    Shadow,
)
from cutover.embedded.fault_proxy import FaultProxy
from cutover.embedded.processes import until
from cutover.embedded.reference_plugin import running as running_plugin
from cutover.embedded.stack import plugin_database_url
from cutover.engine.backfill_progress import BackfillLimits
from cutover.engine.schedule import Schedule
from cutover.engine.tenant import Tenant
from cutover.engine.tenant_options import TenantOptions
from cutover.stores.database import Database
from tests.integration.read_scene import add_workspaces

T = TypeVar("T")
PLUGIN_SECONDS = 0.8
T_Z = 1.2
_STEPS = (Phase.A0, Phase.A1, Phase.A2, Phase.A3)
# A breaker that never opens: these tests are about one write at a time, not about refusing.
_PATIENT = BreakerPolicy(consecutive_failures=100_000, minimum_calls=100_000)


def options(database_url: str, plugin_url: str) -> TenantOptions:
    """A tenant with short times."""
    return TenantOptions(
        name="default",
        database_url=database_url,
        plugin_url=plugin_url,
        plugin_database_url=None,
        plugin_command=None,
        pool_size=8,
        plugin_timeout=PLUGIN_SECONDS,
        probe_interval=0.1,
        probe_timeout=1.0,
        probe_policy=ProbePolicy(),
        breaker_policy=_PATIENT,
        refuse="all",
        max_in_flight=256,
        max_backlog=100_000,
        delivery_deadline=PLUGIN_SECONDS,
        quarantine=T_Z,
        phase_lease=10.0,
        reconciler_senders=4,
        shadow_ratio=0.0,
        sweep_interval=3600.0,
        digest_after_backfill=False,  # a sweep plants faults, which tests of other things would trip over
        recall_interval=0.0,
        backfill=BackfillLimits(chunk=50, rate=0.0, queue=1000, pause_file=None, via=Via.CONTRACT),
    )


def caller(face: str = "memories") -> Caller:
    """Somebody whose request arrives now."""
    return Caller(face, arrived=time.monotonic())


@dataclass
class Daemon:
    """One daemon's share of the tenant: the tenant object, its tasks and its requests under way."""

    tenant: Tenant
    events: list[Event]
    stack: contextlib.AsyncExitStack
    tasks: list[asyncio.Task[None]]
    requests: set[asyncio.Task[Any]] = field(default_factory=set)
    alive: bool = True

    def start(self, request: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin a request that ends with the daemon."""
        task = asyncio.create_task(request)
        self.requests.add(task)
        task.add_done_callback(self.requests.discard)
        return task

    async def stop(self) -> None:
        """End in good order."""
        await self.tenant.drain()
        await self._end()

    async def abandon(self) -> None:
        """End like a killed process: the ledger learns nothing more."""
        settler = self.tenant._settler
        for task in self.requests:
            task.cancel()
        await asyncio.gather(*self.requests, return_exceptions=True)
        settler._noted.clear()
        telling = list(settler._telling)
        for telling_task in telling:
            telling_task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await self._end()

    async def _end(self) -> None:
        self.alive = False
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.stack.aclose()


@dataclass
class Scene:
    """One tenant: its database, its plugin behind a proxy (or on a socket), and the daemons that serve it."""

    options: TenantOptions
    database: Database
    plugin_database: Database
    """`database` itself, unless the plugin was given another."""
    proxy: FaultProxy | None
    daemons: list[Daemon] = field(default_factory=list)

    # -- daemons and phases ----------------------------------------

    async def daemon(self, **changes: Any) -> Daemon:
        """Another daemon on this tenant; the newest is the one that the shortcuts below talk to."""
        stack = contextlib.AsyncExitStack()
        events: list[Event] = []
        tenant = await Tenant.open(replace(self.options, **changes), events.append, stack)
        schedule = Schedule()
        schedule.start()
        stack.callback(schedule.stop)
        tasks = [asyncio.create_task(_run(forever), name=name) for name, forever in tenant.tasks(schedule)]
        daemon = Daemon(tenant, events, stack, tasks)
        self.daemons.append(daemon)

        async def healthy() -> bool:
            return tenant.health.up

        await until(healthy, "a healthy plugin", timeout=10, every=0.01)
        return daemon

    @property
    def tenant(self) -> Tenant:
        """The newest daemon's."""
        return self.daemons[-1].tenant

    async def step(self, phase: Phase) -> dict[str, Any]:
        """One step, forward or back."""
        state = await self.tenant.phase.reload()
        return await self.tenant.operations.change_phase(phase, actor="test", reason="test", expected_epoch=state.epoch)

    async def enter(self, phase: Phase) -> None:
        """Step by step to `phase`, backfilling on the way through A2."""
        while (now := (await self.tenant.phase.reload()).phase) is not phase:
            forward = phase.order > now.order
            following = _STEPS[now.order + (1 if forward else -1)]
            if forward and following is Phase.A3:
                await self.quiet()
            await self.step(following)
            if forward and following is Phase.A2:
                await self.backfill()

    async def backfill(self, **arguments: Any) -> dict[str, Any]:
        """A whole backfill; gives its last progress."""
        await self.tenant.operations.start_backfill(**{"apply": True, "actor": "test", **arguments})
        progress = await asyncio.wait_for(self.tenant._backfill.wait(), 90)
        assert progress is not None
        return progress.as_json()

    async def quiet(self, timeout: float = 40.0) -> None:
        """Wait until nothing is marked any more."""

        async def drained() -> bool:
            return not await self.database.fetchval("SELECT count(*) FROM cutover.mark")

        await until(drained, "marks to drain", timeout=timeout, every=0.02)

    async def sweep(self) -> dict[str, Any]:
        """A count sweep; its record."""
        return await self.tenant.operations.run_count_sweep()

    # -- what callers do ----------------------------------------

    async def create(
        self,
        workspace: UUID,
        content: str,
        scope: Scope = Scope.LOCAL,
        *,
        label: str | None = None,
        key: str | None = None,
    ) -> Receipt:
        return await self.tenant.memories.create(CreateMemory(workspace, content, scope, label, key), caller())

    async def edit(
        self, workspace: UUID, memory_id: UUID, content: str | None = None, label: str | None = None
    ) -> Receipt:
        return await self.tenant.memories.edit(EditMemory(workspace, memory_id, content, label), caller())

    async def delete(self, workspace: UUID, memory_id: UUID) -> Shadow | None:
        return await self.tenant.memories.delete(DeleteMemory(workspace, memory_id), caller())

    async def commit(self, namespace: str, content: str, kind: Kind = Kind.FACT, **more: Any) -> Receipt:
        return await self.tenant.memories.commit(CommitMemory(namespace, content, kind, **more), caller("plugin"))

    async def forget(self, namespace: str, memory_id: UUID) -> Shadow | None:
        return await self.tenant.memories.forget(ForgetMemory(memory_id, namespace), caller("plugin"))

    async def insert(self, workspace: UUID | None, content: str, scope: str = "LOCAL", **more: Any) -> UUID:
        """A row written past the daemon."""
        memory_id: UUID = more.pop("id", None) or uuid4()
        await self.database.execute(
            "INSERT INTO agent_memories (id, workspace_id, content, scope, namespace) VALUES ($1, $2, $3, $4, $5)",
            memory_id,
            workspace,
            content,
            scope,
            more.pop("label", "general"),
        )
        return memory_id

    async def tamper(self) -> None:
        """Switch the freeze off, as somebody with the rights could: in A3 direct SQL gets through from here on."""
        for trigger in ("cutover_freeze", "cutover_freeze_row"):
            await self.database.execute(f"ALTER TABLE agent_memories DISABLE TRIGGER {trigger}")

    # -- what the stores hold ----------------------------------------

    async def legacy(self, memory_id: UUID) -> dict[str, Any] | None:
        row = await self.database.fetchrow("SELECT * FROM agent_memories WHERE id = $1", memory_id)
        return dict(row) if row is not None else None

    async def plugin(self, memory_id: UUID) -> dict[str, Any] | None:
        row = await self.plugin_database.fetchrow(
            "SELECT *, embedding::text AS vector FROM memory_plugin.memory_records WHERE id = $1", memory_id
        )
        if row is None:
            return None
        held = dict(row)
        held["propagation"] = json.loads(held["propagation"]) if held["propagation"] is not None else None
        return held

    async def content(self, memory_id: UUID) -> str | None:
        """What the plugin shows of a memory."""
        row = await self.plugin(memory_id)
        return row["content"] if row is not None else None

    async def mark(self, memory_id: UUID) -> dict[str, Any] | None:
        row = await self.database.fetchrow("SELECT * FROM cutover.mark WHERE memory_id = $1", memory_id)
        return dict(row) if row is not None else None

    async def marks(self) -> dict[UUID, dict[str, Any]]:
        return {row["memory_id"]: dict(row) for row in await self.database.fetch("SELECT * FROM cutover.mark")}

    async def count(self, table: str) -> int:
        return int(await self.database.fetchval(f"SELECT count(*) FROM {table}"))

    async def differences(self) -> list[str]:
        """How the plugin differs from what is expected of it; empty when it does not. Only meaningful when quiet."""
        gone = await self.database.fetchval("SELECT phase = 'A4' FROM cutover.phase_state")  # then the journal says all
        nobody = "(SELECT * FROM cutover.legacy_stand_in)"
        sql = _EXPECTED.replace("FROM agent_memories", f"FROM {nobody}") if gone else _EXPECTED
        expected = {row["id"]: row for row in await self.database.fetch(sql)}
        held = {row["id"]: row for row in await self.plugin_database.fetch(_HELD)}
        found = [f"missing {each}: {expected[each]['content']!r}" for each in expected.keys() - held.keys()]
        found += [f"extra {each}: {held[each]['content']!r}" for each in held.keys() - expected.keys()]
        found += [
            f"{column} of {each}: {expected[each][column]!r} != {held[each][column]!r}"
            for each in expected.keys() & held.keys()
            for column in ("namespace", "content", "kind", "source", "pin", "expires_at", "label", "created")
            if expected[each][column] != held[each][column] and (column, expected[each][column]) != ("label", None)
        ]
        return found


# Written anew here, not with the functions under test: the newest word of the journal from A3 on and for natives,
# agent_memories for the rest; what is quarantined is not expected.
_EXPECTED = """
WITH RECURSIVE up (start, at, hops) AS (
    SELECT id, id, 0 FROM workspaces
    UNION ALL
    SELECT u.start, p.id, u.hops + 1 FROM up u JOIN workspaces w ON w.id = u.at JOIN workspaces p ON p.id = w.parent_id
    WHERE u.hops < 50
), root AS (
    SELECT DISTINCT ON (start) start AS id, at AS root FROM up ORDER BY start, hops DESC
), phase AS (
    SELECT phase IN ('A3', 'A4') AS late FROM cutover.phase_state
), newest AS (
    SELECT DISTINCT ON (memory_id) * FROM cutover.journal WHERE state IN ('intent', 'applied')
    ORDER BY memory_id, seq DESC
), legacy AS (
    SELECT a.id, a.workspace_id, a.scope::text, a.namespace::text AS label, a.content, a.created_at,
           coalesce(e.source, 'agent') AS source, coalesce(e.pin, false) AS pin
    FROM agent_memories a LEFT JOIN cutover.extra e ON e.memory_id = a.id, phase
    WHERE NOT (phase.late AND EXISTS (SELECT FROM newest n WHERE n.memory_id = a.id))
    UNION ALL
    SELECT n.memory_id, n.workspace_id, n.scope, n.label, n.content, n.created_at, n.source, n.pin
    FROM newest n, phase WHERE phase.late AND NOT n.native AND n.op = 'upsert'
)
SELECT l.id, l.content, 'fact' AS kind, l.source, l.pin, NULL::timestamptz AS expires_at, l.label,
       l.created_at AS created,
       CASE l.scope WHEN 'LOCAL' THEN 'workspace:' || w.id
                    WHEN 'TEAM' THEN 'team:' || coalesce(w.parent_id, w.id)
                    ELSE 'org:' || r.root END AS namespace
FROM legacy l LEFT JOIN workspaces w ON w.id = l.workspace_id LEFT JOIN root r ON r.id = w.id
WHERE NOT EXISTS (SELECT FROM cutover.quarantine q WHERE q.memory_id = l.id)
UNION ALL
SELECT n.memory_id, n.content, n.kind, n.source, n.pin, n.expires_at, NULL, n.created_at, n.namespace
FROM cutover.native n
"""
_HELD = """
SELECT id, namespace, content, kind, source, pin, expires_at,
       propagation -> 'cutover' ->> 'namespace' AS label,
       (propagation -> 'cutover' ->> 'created_at')::timestamptz AS created
FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%'
  AND propagation #> '{cutover,kv}' IS NULL  -- kv_scene compares those
"""


async def _run(forever: Any) -> None:
    await forever()


@contextlib.asynccontextmanager
async def scene(
    database_url: str,
    *,
    phase: Phase = Phase.A0,
    proxied: bool = True,
    plugin_at: str | None = None,
    rows: Sequence[tuple[Any, ...]] = (),
    **changes: Any,
) -> AsyncIterator[Scene]:
    """A tenant in `phase` with the workspaces of `read_scene`; legacy holds `rows` (id, workspace, content, scope)
    from before. `proxied`: over TCP through a fault proxy, else straight over a unix socket. `plugin_at`: the URL of
    the plugin's own database, where it is not the tenant's."""
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        listen = "127.0.0.1:0" if proxied else f"unix:{Path(directory) / 'plugin.sock'}"
        address = await stack.enter_async_context(
            running_plugin(plugin_database_url(plugin_at or database_url), listen)
        )
        proxy = await stack.enter_async_context(FaultProxy(address)) if proxied else None
        database = await Database.connect(database_url, application_name="somebody-else", max_size=4)
        stack.push_async_callback(database.close)
        plugin_database = database
        if plugin_at is not None:
            changes["plugin_database_url"] = plugin_database_url(plugin_at)
            plugin_database = await Database.connect(plugin_at, max_size=1)
            stack.push_async_callback(plugin_database.close)
        await add_workspaces(database)
        for memory_id, workspace, content, scope in rows:
            await database.execute(
                "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, $3, $4)",
                memory_id, workspace, content, scope,
            )  # fmt: skip
        given = replace(options(database_url, address if proxy is None else proxy.url), **changes)
        made = Scene(given, database, plugin_database, proxy)
        try:
            await made.daemon()
            await made.enter(phase)
            yield made
        finally:
            for daemon in made.daemons:
                if daemon.alive:
                    await daemon.abandon()


async def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait until a condition on this process's own objects holds."""

    async def holds() -> bool:
        return condition()

    await until(holds, "a condition", timeout=timeout, every=0.001)


async def refused(request: Awaitable[object], kind: type[Exception]) -> Exception:
    """The error that a request ends with; anything else fails the test."""
    try:
        answer = await request
    except kind as error:
        return error
    raise AssertionError(f"{answer!r} instead of {kind.__name__}")
