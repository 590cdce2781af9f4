"""The composition root: everything the daemon has enters one exit stack here, and every task one task group.

A task that ends, however it ends, ends the daemon loudly: a daemon that only seems to work is worse than none. On
SIGTERM `/readyz` turns red first, then nothing more is let in, requests inside finish, what is known of deliveries is
told to the ledger, the listeners close, and the plugin, where it is our child, stops last.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
import uvloop

from cutover import __version__
from cutover.domain.backfill import Via
from cutover.domain.breaker import BreakerPolicy, ProbePolicy
from cutover.domain.errors import BootRefused, CutoverError, OperatorError
from cutover.domain.events import Event, Observer
from cutover.domain.load_budget import LoadPolicy
from cutover.domain.thresholds import GateThresholds
from cutover.engine.backfill_progress import BackfillLimits
from cutover.engine.schedule import Schedule
from cutover.engine.tenant import Tenant, Tenants
from cutover.engine.tenant_options import TenantOptions
from cutover.http import memories_server, plugin_face
from cutover.http.auth import WorkspaceAuth
from cutover.http.limits import Limits, raise_open_files
from cutover.http.listen import parse_listen
from cutover.http.ops_face import OpsFace
from cutover.http.server import Face
from cutover.http.upstream import Upstream
from cutover.logs import LogObserver, configure
from cutover.metrics import Metrics, MetricsObserver
from cutover.settings import Settings
from cutover.tenant_settings import TenantSettings

_LOGGER = structlog.get_logger("cutover")
_EXIT_UNREACHABLE = 4


class TaskEnded(Exception):
    """A task that must never end has ended."""


def main(settings: Settings) -> int:
    """Run until a signal; gives the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings))


async def run(settings: Settings) -> int:
    """The daemon's life."""
    phases = configure(level=settings.log_level, form=settings.log_format)
    metrics = Metrics(__version__)
    names = [tenant.name for tenant in settings.tenants]
    both = (MetricsObserver(metrics, names, known_writers=settings.known_writers), LogObserver(phases))

    def observer(event: Event) -> None:
        for one in both:
            one(event)

    for warning in settings.warnings:
        _LOGGER.warning("settings.caution", problem=warning)
    raise_open_files()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        async with contextlib.AsyncExitStack() as stack:
            await _serve(settings, metrics, observer, stack, stopping)
    except ExceptionGroup as group:
        return _complain(_leaves(group))
    except (CutoverError, TaskEnded) as error:
        return _complain([error])
    return 0


async def _serve(
    settings: Settings,
    metrics: Metrics,
    observer: Observer,
    stack: contextlib.AsyncExitStack,
    stopping: asyncio.Event,
) -> None:
    tenants = await _open_tenants(settings, observer, stack)
    faces, ops = await _faces(settings, tenants, metrics, observer, stack)
    schedule = Schedule()
    async with asyncio.TaskGroup() as group:
        running: list[asyncio.Task[None]] = []
        try:
            # The ops face is up before the boot gate: an operator can see what the daemon waits for.
            ops.starting()
            await ops.start(parse_listen(settings.ops_listen))
            stack.push_async_callback(ops.stop, 1.0)
            if not await _boot(settings, tenants, stopping):
                return
            schedule.start()
            stack.callback(schedule.stop)
            for tenant in tenants:
                for name, forever in tenant.tasks(schedule):
                    running.append(group.create_task(_forever(name, forever), name=name))
            running.append(group.create_task(metrics.watch_loop(), name="loop lag"))
            for face, listen in faces:
                await face.start(parse_listen(listen))
            ops.started()
            listening = {face.name: [str(a) for a in face.addresses] for face in (*(f for f, _ in faces), ops)}
            for tenant in tenants:
                tenant.presence.announce(listening)
            _LOGGER.info("daemon.ready", version=__version__, pid=os.getpid(), listening=listening)
            await stopping.wait()
            _LOGGER.info("daemon.draining")
            ops.drain()
            await asyncio.gather(*(face.stop(settings.drain_seconds) for face, _ in faces))
            for tenant in tenants:
                await tenant.drain()
        finally:
            for task in running:
                task.cancel()
    _LOGGER.info("daemon.stopped")


async def _forever(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run a task that must not end."""
    try:
        await task()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        _LOGGER.exception("task.failed", task=name)
        raise TaskEnded(f"task {name} failed: {type(error).__name__}") from error
    raise TaskEnded(f"task {name} ended although it never should")


async def _open_tenants(settings: Settings, observer: Observer, stack: contextlib.AsyncExitStack) -> Tenants:
    opened: dict[str, Tenant] = {}
    default = None
    for one in settings.tenants:
        opened[one.name] = await Tenant.open(_options(settings, one), observer, stack)
        if one.default:
            default = one.name
    return Tenants(opened, default)


async def _boot(settings: Settings, tenants: Tenants, stopping: asyncio.Event) -> bool:
    """The boot gate. False when a signal came first.

    With one tenant an unhealthy plugin ends the start. With several, that tenant goes on refusing (A1–A4 never fall
    back) while the others serve: one dead plugin must not take them down.
    """
    everybody = list(tenants)

    async def gate(tenant: Tenant) -> None:
        try:
            await tenant.boot_gate(settings.boot_gate)
        except BootRefused as refused:
            if len(everybody) == 1:
                raise
            _LOGGER.error(  # noqa: TRY400 - said in words; a trace adds nothing
                "boot.refused", tenant=tenant.name, problem=refused.message, next=refused.next_step
            )

    async def gates_of_all() -> None:
        await asyncio.gather(*(gate(tenant) for tenant in everybody))

    gates = asyncio.create_task(gates_of_all())
    signalled = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({gates, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not gates.done():
            gates.cancel()
            return False
        await gates
    finally:
        signalled.cancel()
    return True


async def _faces(
    settings: Settings, tenants: Tenants, metrics: Metrics, observer: Observer, stack: contextlib.AsyncExitStack
) -> tuple[list[tuple[Face[Any], str]], OpsFace]:
    limits = Limits(
        body_bytes=settings.body_limit,
        head_seconds=settings.header_deadline,
        body_seconds=settings.body_deadline,
        answer_seconds=settings.answer_deadline,
        idle_seconds=settings.idle_deadline,
    )
    upstream = None
    if settings.upstream_url is not None:
        upstream = Upstream(settings.upstream_url)
        stack.push_async_callback(upstream.close)
    trusted = settings.memories_auth == "trusted-network"
    if trusted:
        _LOGGER.warning("auth.off", face="memories", why="CUTOVER_MEMORIES_AUTH=trusted-network")
    auth = WorkspaceAuth(trusted_network=trusted)
    faces: list[tuple[Face[Any], str]] = [
        (plugin_face.build(tenants, observer, limits), settings.plugin_listen),
        (memories_server.build(tenants, auth, observer, upstream=upstream, limits=limits), settings.memories_listen),
    ]
    return faces, OpsFace(tenants, metrics, settings.admins, observer, hosts=settings.ops_hosts)


def _options(settings: Settings, tenant: TenantSettings) -> TenantOptions:
    command = None if settings.plugin_disable else tenant.plugin_command
    return TenantOptions(
        name=tenant.name,
        database_url=tenant.database_url,
        plugin_url=tenant.plugin_url,
        plugin_database_url=tenant.plugin_database_url,
        plugin_command=command,
        pool_size=settings.pool_size,
        plugin_timeout=settings.plugin_timeout,
        probe_interval=settings.probe_interval,
        probe_timeout=settings.probe_timeout,
        probe_policy=ProbePolicy(fall=settings.probe_failures, rise=settings.probe_successes),
        breaker_policy=BreakerPolicy(
            consecutive_failures=settings.breaker_failures,
            failure_ratio=settings.breaker_ratio,
            window=settings.breaker_window,
            first_delay=min(0.25, settings.breaker_open),
            longest_delay=settings.breaker_open,
        ),
        refuse=settings.refuse,
        max_in_flight=settings.max_in_flight,
        max_backlog=settings.max_backlog_marks,
        delivery_deadline=settings.delivery_deadline,
        quarantine=settings.quarantine_seconds,
        phase_lease=settings.phase_lease,
        reconciler_senders=settings.reconciler_concurrency,
        shadow_ratio=settings.shadow_read_ratio,
        sweep_interval=settings.sweep_interval,
        digest_interval=settings.digest_interval,
        digest_full_interval=settings.digest_full_interval,
        sweep_load=LoadPolicy(
            chunk_seconds=settings.sweep_chunk_seconds,
            share=settings.sweep_load,
            max_active=settings.sweep_max_active,
        ),
        recall_interval=settings.recall_interval,
        backfill=BackfillLimits(
            chunk=settings.backfill_chunk,
            rate=settings.backfill_rate,
            queue=settings.backfill_queue,
            pause_file=settings.backfill_pause_file,
            via=Via(settings.backfill_via),
            chunk_seconds=settings.backfill_chunk_seconds,
        ),
        kv=settings.kv == "on" if tenant.kv is None else tenant.kv,
        thresholds=_thresholds(settings),
        config_hash=settings.config_hash(tenant.name),
        compared=settings.compared(tenant.name),
        archive_directory=settings.archive_directory,
    )


def _thresholds(settings: Settings) -> GateThresholds:
    return GateThresholds(
        plugin_healthy=settings.gate_plugin_healthy,
        shadow_clean=settings.gate_shadow_clean,
        write_errors=settings.gate_write_errors,
        recall_overlap=settings.gate_recall_overlap,
        bypass_window=settings.gate_bypass_window,
        rehearsal_age=settings.gate_rehearsal_age,
        soak=settings.gate_soak,
        foreign_window=settings.gate_foreign_window,
        certificate_validity=settings.certificate_validity,
        drop_hold=settings.drop_hold,
    )


def _complain(errors: Iterable[Exception]) -> int:
    """Log every reason in words; gives the exit code of the first."""
    code = 0
    for error in errors:
        problem = error.message if isinstance(error, CutoverError) else str(error)
        _LOGGER.error("daemon.failed", problem=problem, next=getattr(error, "next_step", ""))
        own = error.exit_code if isinstance(error, OperatorError) else None
        code = code or own or (_EXIT_UNREACHABLE if isinstance(error, CutoverError) else 1)
    return code


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, ExceptionGroup) else [error])
    return leaves
