"""A tenant put together: its stores, its write and read paths, its tasks (architecture §9).

Everything one tenant has is made here and nowhere else, and nothing is shared between tenants, so that a dead plugin
of one cannot touch another.
"""

import asyncio
import contextlib
import math
import os
import platform
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from cutover import __version__
from cutover.domain.check import HealthReport
from cutover.domain.errors import BootRefused, CutoverError, NotFound
from cutover.domain.events import Observer, RequestsHeld
from cutover.domain.evidence import FreezeEvidence
from cutover.domain.limiter import Limiter, LimiterPolicy
from cutover.domain.phase import Phase
from cutover.domain.soak_clock import SoakRules
from cutover.engine.access_watch import AccessWatch
from cutover.engine.admission import Admission
from cutover.engine.archive import Archivist
from cutover.engine.backfill import Backfill
from cutover.engine.backfill_progress import Progress
from cutover.engine.background_search import BackgroundSearch
from cutover.engine.canary_faults import FAULTS_NAMESPACE, CanaryFaults
from cutover.engine.contract_digest import ContractRun
from cutover.engine.contract_reader import ContractReader
from cutover.engine.creation_times import CreationTimes
from cutover.engine.delivery import Deliverer
from cutover.engine.digest_run import DigestRun
from cutover.engine.digest_sweep import DigestSweeper
from cutover.engine.digest_tally import DigestPolicy, DigestStores
from cutover.engine.drop import Drop, DropKeeper
from cutover.engine.findings import Findings
from cutover.engine.flip import Flip
from cutover.engine.freeze import Freeze
from cutover.engine.health import CANARY_NAMESPACE, PluginHealthMonitor
from cutover.engine.inflight import Inflight
from cutover.engine.kv import KvSwitch
from cutover.engine.last_look import LastLook
from cutover.engine.memory_service import MemoryService
from cutover.engine.namespaces import NamespaceOperations
from cutover.engine.operations import Operations
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.plugin_gate import PluginGate
from cutover.engine.plugin_process import PluginProcess, check_pgvector
from cutover.engine.plugin_reads import PluginReads, Reporting
from cutover.engine.presence import Presence
from cutover.engine.promotion import Promotion
from cutover.engine.query_sample import QuerySample
from cutover.engine.read import Reads
from cutover.engine.readiness import Readiness
from cutover.engine.recall_sweep import RecallLimits, RecallSweeper
from cutover.engine.reconciler import Reconciler
from cutover.engine.record import Record
from cutover.engine.rehearsal import Rehearsals
from cutover.engine.schedule import Schedule
from cutover.engine.settle import Settler
from cutover.engine.shadow_read import ShadowReader
from cutover.engine.shadow_time import ShadowTime, WriteTally
from cutover.engine.soak_clock import SoakClock
from cutover.engine.stand_up import StandDown, StandUp
from cutover.engine.sweep import CountSweeper
from cutover.engine.tenant_options import TenantOptions
from cutover.engine.thaw import Thaw
from cutover.engine.transition import Transition
from cutover.engine.verify import Verifier
from cutover.engine.vitals import SweepIntervals, Vitals
from cutover.engine.way_back import WayBack
from cutover.engine.write import WritePath
from cutover.stores import migrate
from cutover.stores.access import AccessStore
from cutover.stores.certificates import CertificateStore
from cutover.stores.daemons import DaemonSelf, DaemonStore
from cutover.stores.database import Database
from cutover.stores.digest import DigestReader
from cutover.stores.digest_findings import DigestFindings
from cutover.stores.drift import DriftCounter
from cutover.stores.drop import DropStore
from cutover.stores.findings import FindingStore
from cutover.stores.freeze import FreezeStore
from cutover.stores.kv import KvStore
from cutover.stores.ledger import Ledger
from cutover.stores.legacy import LegacyStore
from cutover.stores.namespace_deletion import NamespaceDeletion
from cutover.stores.namespaces import NamespaceStore
from cutover.stores.notifications import Notifications
from cutover.stores.plugin import PluginClient
from cutover.stores.plugin_database import PluginDatabase, plugin_database_url
from cutover.stores.procedures import Procedures
from cutover.stores.quarantine import QuarantineStore
from cutover.stores.recall import RecallStore
from cutover.stores.rehearsal import RehearsalBounds, RehearsalStore
from cutover.stores.retire import refuse_retired
from cutover.stores.runs import Runs
from cutover.stores.shadow import ShadowStore
from cutover.stores.soak import SoakStore
from cutover.stores.strays import PluginStrays
from cutover.stores.way_back import WayBackStore

_APPLICATION = "cutover"
_FLUSH_SECONDS = 5.0
_LEAVE_SECONDS = 2.0
_FULL_LOOK = 600.0
"""How often it is asked whether a full digest sweep is due: by the record, so a restart neither hastens nor delays."""
_RECALL_INTERVAL = 900.0
_FRESH_SECONDS = 30.0
"""A count sweep is taken over from another daemon for no longer, however rare they are."""
_CONCURRENCY = LimiterPolicy(floor=6, start=16, tolerance=4.0)
"""Looser than the limiter's own defaults: a latency seen from here includes the turn of our own busy event loop, which
no smaller limit shortens. With the defaults the limit sat at 2 to 7 and a backfill ran at two thirds of its rate."""


class Tenant:
    """One tenant at work. `open` connects and migrates; `tasks` are what must run while it serves."""

    def __init__(
        self,
        options: TenantOptions,
        database: Database,
        client: PluginClient,
        plugin_database: PluginDatabase | None,
        child: PluginProcess | None,
        observer: Observer,
    ) -> None:
        thresholds = options.thresholds.for_intervals(
            count=options.sweep_interval, digest=options.digest_interval,
            full=options.digest_full_interval, recall=options.recall_interval or _RECALL_INTERVAL,
        )  # fmt: skip
        self.name = options.name
        self._options = options
        self._database = database
        self._plugin_database = plugin_database
        self._child = child
        self._client = client
        ledger = Ledger(database, uuid.uuid4())
        self.phase = PhaseWatch(self.name, ledger, observer, lease=options.phase_lease)
        self.health = PluginHealthMonitor(
            self.name,
            client,
            observer,
            interval=options.probe_interval,
            timeout=options.probe_timeout,
            probe_policy=options.probe_policy,
            breaker_policy=options.breaker_policy,
            owner=ledger.owner,
        )
        self.presence = Presence(self.name, DaemonStore(database), _me(options, ledger.owner), observer)
        shadow = ShadowStore(database)
        self._tally = WriteTally(self.name, shadow, self.phase, observer)
        self.admission = Admission(
            self.phase,
            self.health,
            self._tally,
            refuse=options.refuse,
            max_in_flight=options.max_in_flight,
            max_backlog=options.max_backlog,
            on_held=lambda waiting: observer(RequestsHeld(options.name, waiting)),
        )
        self._creation_times = CreationTimes(self.name, plugin_database, observer)
        namespaces = NamespaceStore(database)
        gate = PluginGate(Limiter(_CONCURRENCY))
        deliverer = Deliverer(self.name, client, gate, self.health, namespaces, observer, self._creation_times.note)
        self._settler = Settler(self.name, ledger, observer, lambda: self._reconciler.wake())
        inflight = Inflight()
        self._reconciler = Reconciler(
            self.name, ledger, self.phase, deliverer, self._settler, inflight, self.health, self.admission, observer,
            senders=options.reconciler_senders, timeout=options.plugin_timeout, quarantine=options.quarantine,
        )  # fmt: skip
        writes = WritePath(
            self.name, ledger, self.phase, deliverer, self._settler, inflight, observer, self._tally,
            delivery_deadline=options.delivery_deadline, quarantine=options.quarantine,
        )  # fmt: skip
        self.legacy = LegacyStore(database)
        plugin_reads = PluginReads(
            self.legacy, client, timeout=options.plugin_timeout, reporting=Reporting(self.name, observer, self.health)
        )
        unreported = PluginReads(self.legacy, client, timeout=options.plugin_timeout)
        sample = QuerySample()
        self._shadow = ShadowReader(
            tenant=self.name, legacy=self.legacy, plugin=unreported, phase=self.phase.current, observer=observer,
            ratio=options.shadow_ratio, recent_seconds=options.quarantine + options.delivery_deadline,
            sample=sample,
        )  # fmt: skip
        self.memories = MemoryService(
            admission=self.admission,
            phase=self.phase,
            health=self.health,
            writes=writes,
            reads=Reads(
                tenant=self.name, legacy=self.legacy, plugin=plugin_reads, phase=self.phase.current,
                observer=observer, shadow=self._shadow,
            ),
            namespaces=NamespaceOperations(
                client, namespaces, NamespaceDeletion(database), deliverer,
                timeout=options.plugin_timeout, quarantine=options.quarantine,
            ),
            legacy=self.legacy,
        )  # fmt: skip
        runs = Runs(database)
        counter = (
            None
            if plugin_database is None
            else DriftCounter(database, plugin_database.database, leaving_out=(CANARY_NAMESPACE, FAULTS_NAMESPACE))
        )
        # The gate of A2 asks for clean sweeps over this time: they must be there to be asked for.
        keep_days = 1 + math.ceil(thresholds.shadow_clean / 86_400)
        fresh = min(options.sweep_interval / 2, _FRESH_SECONDS)
        self._sweeper = CountSweeper(self.name, counter, runs, observer, keep_days=keep_days, fresh=fresh)
        self.digests, self._verifier = _proof(
            options, database, plugin_database, client, gate, runs, observer, self._creation_times
        )
        self._backfill = Backfill(
            self.name, database, ledger, runs, self.phase, self.health, gate, self._reconciler, plugin_database,
            observer, options.backfill, self._backfilled,
        )  # fmt: skip
        strays = None if plugin_database is None else PluginStrays(plugin_database.database)
        self._kv = KvSwitch(self.name, KvStore(database), observer, on=options.kv)
        changing = asyncio.Lock()
        drops = DropStore(database)
        self.archives = Archivist(self.name, database, runs, observer, options.archive_directory)
        self.drops = DropKeeper(
            self.name, drops, self.phase, observer, changing, self.archives, hold=thresholds.drop_hold
        )
        self._stand_up = StandUp(ledger, strays, self._kv, self.name, observer, changing)
        freezes = FreezeStore(database)
        self.freeze = Freeze(self.name, freezes, self.phase, observer)
        self.thaw = Thaw(
            self.name, freezes, WayBackStore(database), self.digests, runs, self.phase, observer,
            contract_only=plugin_database is None,
        )  # fmt: skip
        look = LastLook(
            self.digests,
            None if plugin_database is None else _digest_reader(database, plugin_database),
            self._creation_times.flush,
        )
        self._way_back = WayBack(self.name, database, self._reconciler, observer)
        self._transition = Transition(
            database, ledger, self.phase, self.health, self._reconciler,
            {
                (Phase.A0, Phase.A1): self._stand_up,
                (Phase.A1, Phase.A0): StandDown(self._kv),
                (Phase.A2, Phase.A3): Flip(database, ledger, self._reconciler, self._kv, freezes, look),
                (Phase.A3, Phase.A2): self._way_back,
                (Phase.A3, Phase.A4): Drop(drops, runs, thresholds.drop_hold),
            },
            changing,
            admission=self.admission, forbidden=self.freeze.before_a_step, tenant=self.name, observer=observer,
        )  # fmt: skip
        self.findings = Findings(
            self.name, FindingStore(database), QuarantineStore(database), runs, self.phase, self.admission, observer,
            self._reconciler.wake, max_backlog=options.max_backlog,
            progress=lambda: self.digests.progress,
        )  # fmt: skip
        self.record = Record(database)
        self._recall = RecallSweeper(
            self.name, RecallStore(database), self.legacy, BackgroundSearch(client, gate), sample, runs,
            self.phase.current, observer, RecallLimits(options.quarantine + options.delivery_deadline),
            situation=self._situation,
        )  # fmt: skip
        self.operations = Operations(
            self._transition,
            self._sweeper,
            self._backfill,
            self._creation_times,
            self.digests,
            self._recall,
            self._verifier,
        )
        self.rehearsals = Rehearsals(
            self.name,
            database,
            RehearsalStore(database, None if plugin_database is None else plugin_database.database, RehearsalBounds()),
            runs,
            self.phase,
            observer,
        )
        self._soak = SoakClock(
            self.name,
            SoakStore(database),
            SoakRules(thresholds.count_gap, thresholds.digest_gap, thresholds.digest_age),
            thresholds.soak,
            observer,
            self._want_full_sweep,
        )
        self._access = AccessWatch(self.name, AccessStore(database), self.phase, observer)
        database.own_work.wanted = lambda: self._access.wanted
        shadow_time = ShadowTime(
            shadow, self.phase, contract_only=plugin_database is None,
            gap=3 * (options.digest_interval if plugin_database is None else options.sweep_interval),
        )  # fmt: skip
        self._readiness = Readiness(
            self.name, database, self.phase, self.health, self.admission, self._reconciler, self._sweeper,
            self._backfill, self._recall, self.digests, plugin_database, gate, observer,
            thresholds=thresholds,
            sources={
                "shadow": shadow_time.evidence,
                "soak": self._soak.evidence,
                "access": self._access.evidence,
                "rehearsal": self.rehearsals.evidence,
                "drop": self.drops.evidence, "archive": self.archives.evidence,
                "freeze": self._freeze_evidence, "capture": self.freeze.capture,
            },
        )  # fmt: skip
        self.promotion = Promotion(
            self.name, CertificateStore(database), self.phase, self._transition, self._readiness.fresh,
            thresholds, options.config_hash, self._readiness.lately,
        )  # fmt: skip
        self._vitals = Vitals(
            self.name, database, self.record, self.promotion, self.phase, observer,
            intervals=SweepIntervals(
                options.sweep_interval if counter is not None else 0.0, options.digest_interval, options.recall_interval
            ),
            configuration=options.config_hash,
        )  # fmt: skip

    @property
    def tokens(self) -> LegacyStore:
        """Where workspace tokens are looked up."""
        return self.legacy

    @property
    def plugin_child_pid(self) -> int | None:
        """The process id of the plugin, where it is our own child."""
        return self._child.pid if self._child is not None else None

    @classmethod
    async def open(cls, options: TenantOptions, observer: Observer, stack: contextlib.AsyncExitStack) -> Self:
        """Connect, migrate, start the child. What was opened is closed by `stack`, in reverse order."""
        database = await Database.connect(
            options.database_url, application_name=_APPLICATION, max_size=options.pool_size
        )
        stack.push_async_callback(database.close)
        await refuse_retired(options.name, database)
        await migrate.up(database)
        await Procedures(database).seed(__version__)
        child = await _start_child(options, database, observer, stack)
        client = PluginClient(options.plugin_url)
        stack.push_async_callback(client.close)
        tables = None
        if (url := plugin_database_url(options.database_url, options.plugin_database_url)) is not None:
            tables = await PluginDatabase.connect(url, application_name=_APPLICATION)
            stack.push_async_callback(tables.close)
        tenant = cls(options, database, client, tables, child, observer)
        await tenant.phase.reload()
        await tenant._kv.start()
        return tenant

    async def boot_gate(self, seconds: float) -> None:
        """In A1–A4, wait for the plugin to be healthy; raises `BootRefused` with the reason after `seconds`."""
        state = self.phase.current()
        if not state.phase.needs_plugin:
            return
        deadline = time.monotonic() + seconds
        while not self.health.up:
            if time.monotonic() >= deadline:
                raise BootRefused(
                    f"tenant {self.name} is in {state.phase} and its plugin was not healthy within {seconds:g} s:"
                    f" {self.health.why}",
                    next_step="start the plugin or mend MEMORY_PLUGIN_URL; `cutover doctor` says more",
                )
            await self.health.probe()
            await asyncio.sleep(0.05)

    def tasks(self, schedule: Schedule) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """The tasks of this tenant by name. None of them ever ends by itself."""
        notifications = Notifications(
            self._options.database_url, "cutover_phase", application_name=f"{_APPLICATION}-listen"
        )
        due = schedule.every(self._options.sweep_interval, f"sweep.count {self.name}")
        interval = self._options.recall_interval
        recall_due = schedule.every(interval, f"sweep.recall {self.name}") if interval else None
        yield f"phase {self.name}", lambda: self._watch_phase(notifications)
        yield f"probe {self.name}", self.health.run
        yield f"reconcile {self.name}", lambda: self._reconciler.run(backfill=False)
        yield f"reconcile-backfill {self.name}", lambda: self._reconciler.run(backfill=True)
        yield f"backlog {self.name}", self._reconciler.watch
        yield f"backfill {self.name}", self._backfill.run
        yield f"sweep {self.name}", lambda: self._sweep_when(due)
        digest = schedule.every(self._options.digest_interval, f"sweep.digest {self.name}")
        full = schedule.every(min(_FULL_LOOK, self._options.digest_full_interval), f"sweep.digest.full {self.name}")
        yield f"digest {self.name}", self.digests.run
        yield f"verify {self.name}", self._verifier.run
        yield f"digest-due {self.name}", lambda: self._digest_when(digest, full=False)
        yield f"digest-full-due {self.name}", lambda: self._digest_when(full, full=True)
        yield f"shadow {self.name}", self._shadow.run
        yield f"recall {self.name}", lambda: self._recall.run(recall_due)
        yield f"creation-times {self.name}", self._creation_times.run
        yield f"strays {self.name}", self._stand_up.run
        yield f"kv {self.name}", self._kv.run
        yield f"soak {self.name}", self._soak.run
        yield f"freeze {self.name}", self.freeze.run
        yield f"write-tally {self.name}", self._tally.run
        yield f"way-back {self.name}", self._way_back.run
        yield f"thaw {self.name}", self.thaw.run
        yield f"rehearsal {self.name}", self.rehearsals.run
        yield f"gates {self.name}", self._readiness.watch_gates
        yield f"findings {self.name}", self.findings.watch
        yield f"drop {self.name}", self.drops.run
        yield f"access {self.name}", self._access.run
        yield f"archive {self.name}", self.archives.run
        yield f"presence {self.name}", self.presence.run
        yield f"vitals {self.name}", self._vitals.run
        if self._child is not None:
            yield f"plugin {self.name}", self._child.run

    async def drain(self) -> None:
        """Let nothing in any more, and tell the ledger what is known."""
        self.admission.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self.presence.leave()
        with contextlib.suppress(TimeoutError):  # what is not told now falls due after T_z and is delivered once more
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._settler.flush()
                await self._tally.flush()
                await self._creation_times.flush()

    async def readiness(self) -> HealthReport:
        """`/readyz`: can traffic be served now?"""
        return await self._readiness.serving()

    async def readiness_for(self, phase: Phase) -> HealthReport:
        """`/readyz/{phase}`."""
        return await self._readiness.for_phase(phase)

    async def check(self, check_id: str) -> HealthReport | None:
        """`/readyz/checks/{id}`; None for an unknown id."""
        return await self._readiness.check(check_id)

    async def status(self) -> dict[str, Any]:
        """Everything an operator wants to know at a glance; no content, no secrets."""
        return {
            **self._readiness.status(),
            **await self.promotion.entered(),
            "changing": self.promotion.changing,
            **self.findings.status(),
            "backfill": await self.operations.backfill_status(),
            "kv": self._kv.status(),
            "soak": self._soak.status(),
            "access": self._access.status(),
            "drop": self.drops.last.as_json() if self.drops.last is not None else None,
            "daemons": self.presence.status(),
            "plugin_child_pid": self.plugin_child_pid,
        }

    async def access(self) -> dict[str, Any]:
        """Who else reads and writes `agent_memories`."""
        return await self._access.report()

    async def _watch_phase(self, notifications: Notifications) -> None:
        try:
            await self.phase.run(notifications.wait)
        finally:
            await notifications.close()

    def _situation(self) -> tuple[int | None, str | None]:
        """Evidence about reads is had anew when the phase has changed, and when a backfill has begun or ended."""
        state, progress = self.phase.state, self._backfill.progress
        return (state.epoch if state else None, progress.state if progress else None)

    async def _sweep_when(self, due: asyncio.Event) -> None:
        due.set()  # the first one at start: evidence must not wait for the first interval
        while True:
            await due.wait()
            due.clear()
            with contextlib.suppress(CutoverError):  # what it found, even a failure, is in its record and its event
                await self._sweeper.run("schedule")

    def _backfilled(self, progress: Progress) -> None:
        if self.digests is not None and self._options.digest_after_backfill:
            self.digests.wish("backfill")

    async def _freeze_evidence(self) -> FreezeEvidence:
        """As the phase asks for; after the way back, red while no sweep lets the thaw end."""
        seen = await self.freeze.evidence()
        return replace(seen, intact=False, why=self.thaw.why) if self.thaw.why and seen.intact else seen

    async def _want_full_sweep(self, epoch: int) -> None:
        """The soak clock stands still until one of this stay in A3 is clean; the schedule may be a day away."""
        if await self.digests.evidence(epoch) is None:
            self.digests.wish("schedule")

    async def _digest_when(self, due: asyncio.Event, *, full: bool) -> None:
        while True:
            await due.wait()
            due.clear()
            state = self.phase.state
            if state is not None and state.phase.needs_plugin:
                with contextlib.suppress(CutoverError):  # the next interval asks again
                    if full:
                        await self.digests.full_due(self._options.digest_full_interval)
                    else:
                        await self.digests.due()


class Tenants:
    """All tenants of the daemon, by name."""

    def __init__(self, tenants: dict[str, Tenant], default: str | None) -> None:
        self._tenants = tenants
        self._default = default

    @property
    def default(self) -> Tenant | None:
        """The tenant of paths without a prefix, if there is one."""
        return self._tenants[self._default] if self._default is not None else None

    def get(self, name: str) -> Tenant:
        """One by name; raises `NotFound`."""
        try:
            return self._tenants[name]
        except KeyError:
            raise NotFound("no such tenant") from None

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants.values())


def _me(options: TenantOptions, owner: UUID) -> DaemonSelf:
    """This process as the other daemons of the tenant see it; its id is that of the leases it takes."""
    return DaemonSelf(
        owner, platform.node(), os.getpid(), __version__, options.config_hash[:12] or "0" * 12, options.compared
    )


def _proof(
    options: TenantOptions,
    database: Database,
    tables: PluginDatabase | None,
    client: PluginClient,
    gate: PluginGate,
    runs: Runs,
    observer: Observer,
    creation_times: CreationTimes,
) -> tuple[DigestSweeper, Verifier]:
    """Digest sweeps and verification: in the plugin's tables, or through the contract where those cannot be read."""
    canaries, findings = CanaryFaults(database, client, timeout=options.plugin_timeout), DigestFindings(database)
    # Whatever was on its way at the first look has landed by the second: the client's deadline, and T_z after it.
    policy = DigestPolicy(t_z=options.quarantine + options.plugin_timeout, load=options.sweep_load)

    def stores() -> DigestStores:
        if tables is not None:
            reader = _digest_reader(database, tables)
            return DigestStores(reader, findings, canaries, tables.set_created_at)
        contract = ContractReader(database, BackgroundSearch(client, gate), leaving_out=(CANARY_NAMESPACE,))
        return DigestStores(contract, findings, canaries, _no_times)

    make_run = DigestRun if tables is not None else ContractRun
    before = creation_times.flush
    return (
        DigestSweeper(options.name, database, stores(), runs, observer, policy, before=before, make_run=make_run),
        Verifier(options.name, database, stores(), runs, observer, policy, before=before, make_run=make_run),
    )


def _digest_reader(database: Database, tables: PluginDatabase) -> DigestReader:
    return DigestReader(database, tables.database, leaving_out=(CANARY_NAMESPACE,))


async def _no_times(times: Mapping[UUID, datetime]) -> frozenset[UUID]:
    """The contract cannot set creation times; they travel in `propagation`."""
    del times
    return frozenset()


async def _start_child(
    options: TenantOptions, database: Database, observer: Observer, stack: contextlib.AsyncExitStack
) -> PluginProcess | None:
    if options.plugin_command is None:
        return None
    await check_pgvector(database)
    url = plugin_database_url(options.database_url, options.plugin_database_url)
    environment = {"MEMORY_PLUGIN_DATABASE_URL": url} if url is not None else {}
    child = PluginProcess(options.name, options.plugin_command, environment, observer)
    await child.start()
    stack.push_async_callback(child.stop)
    return child
