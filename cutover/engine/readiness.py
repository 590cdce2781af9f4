"""Evidence, gathered: what the gates (`domain/gate.py`) judge and what `cutover status` shows.

Cheap things are read as they are now. What costs a query is kept for a moment, and all queries are made at once under
one deadline: a probe must be answered even when the database is not. What could not be had in time is not known, and
says why (`Evidence.unknown`); everything else counts.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cutover.domain.check import HealthReport, Status, report
from cutover.domain.errors import CutoverError
from cutover.domain.events import GateJudged, Observer, TaskFailed, ThresholdsTold
from cutover.domain.evidence import Evidence
from cutover.domain.gate import ahead, every_check, gate, notes, readiness_for, serving
from cutover.domain.phase import Phase
from cutover.domain.recall import Direction
from cutover.domain.thresholds import THRESHOLDS, GateThresholds
from cutover.engine.admission import Admission
from cutover.engine.backfill import Backfill
from cutover.engine.digest_sweep import DigestSweeper
from cutover.engine.health import CANARY_MAX_AGE, CANARY_NAMESPACE, PluginHealthMonitor
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.plugin_gate import PluginGate
from cutover.engine.recall_sweep import RecallSweeper
from cutover.engine.reconciler import Reconciler
from cutover.engine.sweep import CountSweeper
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.gate_look import look_at_tables, look_at_vector
from cutover.stores.gate_sweeps import look_at_sweeps
from cutover.stores.plugin_database import PluginDatabase

_LOOK_SECONDS = 1.5
"""For all queries of a look together: less than the patience of who asks (`http/health_cache.py`)."""
_FRESH_SECONDS = 20.0
"""The same for a look that a certificate rests on: nobody probes with it, and it may wait for a busy database."""
_SERVING_SECONDS = 0.7
"""For what serving is judged by: a Kubernetes probe waits for one second unless it is told otherwise."""
_AT_ONCE = 4
"""Parts that are asked for at the same time: traffic needs the pool's connections, too."""
_TURN = 0.25
"""The share of a look's time after which a part that has not answered no longer counts among those: so parts that hang
leave time for the others."""
_KEEP_SECONDS = 5.0
_GATES_EVERY = 10.0


Source = Callable[[], Awaitable[Any]]
"""Gathers one part of the evidence (`domain/evidence.py`); raises `CutoverError` where it cannot be known."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A gate's report and the evidence it was made of."""

    report: HealthReport
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class _Look:
    """What was had by queries: fields of `Evidence`, and for those that could not be had, why."""

    fields: Mapping[str, Any]
    unknown: Mapping[str, str]
    at: float
    situation: object


class Readiness:
    """Gathers one tenant's evidence. `sources`: who gathers a part of it, by the name of the field."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        phase: PhaseWatch,
        health: PluginHealthMonitor,
        admission: Admission,
        reconciler: Reconciler,
        sweeper: CountSweeper,
        backfill: Backfill,
        recall: RecallSweeper,
        digests: DigestSweeper | None,
        plugin_database: PluginDatabase | None,
        plugin_gate: PluginGate,
        observer: Observer,
        *,
        thresholds: GateThresholds,
        sources: Mapping[str, Source],
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._phase = phase
        self._health = health
        self._admission = admission
        self._reconciler = reconciler
        self._sweeper = sweeper
        self._backfill = backfill
        self._recall = recall
        self._digests = digests
        self._plugin_database = plugin_database
        self._gate = plugin_gate
        self._observer = observer
        self._thresholds = thresholds
        self._sources = sources
        self._kept: _Look | None = None
        self._lock = asyncio.Lock()

    async def serving(self) -> HealthReport:
        """Can traffic be served in the current phase now? Only what that is judged by is asked for: a probe must not
        wait for the gates' evidence, which is gathered behind its back (`watch_gates`)."""
        slots, deadline = asyncio.Semaphore(1), time.monotonic() + _SERVING_SECONDS
        fields, why = await self._answer("database", self._tenant_database, slots, deadline, _SERVING_SECONDS)
        unknown = {"database": why} if why else {}
        evidence = self._evidence(_Look(fields, unknown, time.monotonic(), None))
        return report(self._tenant, evidence.phase, None, serving(evidence))

    async def for_phase(self, target: Phase) -> HealthReport:
        """May `target` be entered, or do its invariants hold?"""
        evidence = await self.gather()
        more = notes(target) if ahead(target, evidence) else ()
        return report(self._tenant, evidence.phase, target, readiness_for(target, evidence), more)

    async def check(self, check_id: str) -> HealthReport | None:
        """One check by id."""
        evidence = await self.gather()
        found = every_check(evidence).get(check_id)
        return report(self._tenant, evidence.phase, None, [found]) if found is not None else None

    async def fresh(self, target: Phase) -> Judged:
        """The gate of `target` on evidence that was gathered for this call, whatever is kept: for a certificate."""
        evidence = self._evidence(await self._look(_FRESH_SECONDS))
        made = report(self._tenant, evidence.phase, target, gate(target, evidence), notes(target))
        return Judged(made, evidence)

    async def lately(self, target: Phase) -> Judged:
        """The gate of `target` on evidence that is a moment old at most: for what is only told."""
        evidence = await self.gather()
        return Judged(report(self._tenant, evidence.phase, target, gate(target, evidence)), evidence)

    async def gather(self) -> Evidence:
        """The evidence as of now; what costs queries is at most `_KEEP_SECONDS` old."""
        return self._evidence(await self._kept_look())

    def _evidence(self, look: _Look) -> Evidence:
        state = self._phase.state
        confirmed = state is not None and self._phase.confirmed_seconds_ago < _KEEP_SECONDS * 2
        refused = self._admission.why_closed()
        health, backlog = self._health, self._reconciler.backlog
        progress = self._backfill.progress
        return Evidence(
            phase=state.phase if state is not None and confirmed else None,
            draining=self._admission.draining,
            refusing=refused.message if refused is not None else "",
            schema_expected=len(migrate.available()),
            database_why=look.unknown.get("database", ""),
            plugin_up=health.up,
            plugin_why=health.why,
            plugin_version=health.last.version if health.last is not None else None,
            plugin_capabilities=health.last.capabilities if health.last is not None else frozenset(),
            plugin_healthy_seconds=health.healthy_seconds,
            plugin_watched_seconds=health.watched_seconds,
            contract_only=self._plugin_database is None,
            canary_ok=None if health.last_round_trip is None else health.last_round_trip == "",
            canary_why=health.last_round_trip or "",
            canary_age_seconds=health.round_trip_age,
            canary_max_age_seconds=CANARY_MAX_AGE,
            marks=backlog.total if backlog is not None else None,
            oldest_mark_seconds=backlog.oldest_seconds if backlog is not None else 0.0,
            backfill_remaining=None if progress is None else max(0, progress.total - progress.scanned),
            quarantined=backlog.quarantined if backlog is not None else None,
            quarantine_acknowledged=(backlog.quarantined - backlog.unacknowledged) if backlog is not None else 0,
            thresholds=self._thresholds,
            unknown=look.unknown,
            **look.fields,
        )

    async def watch_gates(self) -> None:
        """Judge every phase's gate now and then, for the metrics: an alert must not depend on somebody looking."""
        loosened = {each.name for each in self._thresholds.loosened()}
        self._observer(ThresholdsTold(self._tenant, {name: name in loosened for name in THRESHOLDS}))
        while True:
            try:
                evidence = await self.gather()
                for target in Phase:
                    checks = {check.id: check.status is not Status.FAIL for check in gate(target, evidence)}
                    self._observer(GateJudged(self._tenant, target, checks))
            except Exception as error:  # noqa: BLE001 - metrics of gates are not worth the daemon
                what = "judging the gates for their metrics"
                self._observer(TaskFailed(self._tenant, "gates", type(error).__name__, what))
            await asyncio.sleep(_GATES_EVERY)

    def status(self) -> dict[str, Any]:
        """What needs no query."""
        state, backlog, sweep, health = self._phase.state, self._reconciler.backlog, self._sweeper.last, self._health
        refused = self._admission.why_closed()
        return {
            "tenant": self._tenant,
            "phase": state.phase.value if state is not None else None,
            "meaning": state.phase.meaning if state is not None else None,
            "epoch": state.epoch if state is not None else None,
            "entered_at": state.entered_at.isoformat() if state is not None else None,
            "refusing": None if refused is None else {"reason": refused.reason, "why": refused.message},
            "plugin": {
                "up": health.up,
                "why": health.why,
                "version": health.last.version if health.last is not None else None,
                "breaker": health.breaker.state.value,
                "canary": health.last_canary,
                "recovered_in_seconds": health.recovered_in,
                "concurrency": {
                    "limit": self._gate.limit,
                    "in_flight": self._gate.in_flight,
                    "waiting": self._gate.waiting,
                },
            },
            "marks": None
            if backlog is None
            else {
                "total": backlog.total,
                "by_origin": backlog.by_origin,
                "oldest_seconds": round(backlog.oldest_seconds, 3),
            },
            "quarantined": backlog.quarantined if backlog is not None else None,
            "quarantine_blocking": backlog.unacknowledged if backlog is not None else None,
            "journal_rows": self._reconciler.journal_rows,
            "in_flight": self._admission.in_flight,
            "drift": sweep.as_json() if sweep is not None else None,
            "recall": self._recall.last,
        }

    async def _kept_look(self) -> _Look:
        """A look at most once in `_KEEP_SECONDS`, but anew when a backfill ended or the phase changed."""
        async with self._lock:
            kept = self._kept
            if kept is None or kept.situation != self._situation() or time.monotonic() - kept.at >= _KEEP_SECONDS:
                kept = await self._look(_LOOK_SECONDS)
            return kept

    def _situation(self) -> object:
        progress, state = self._backfill.progress, self._phase.state
        sweep = self._sweeper.last
        return (
            progress.state if progress is not None else None,
            state.epoch if state is not None else None,
            sweep.finished_at if sweep is not None else None,
            self._recall.last and self._recall.last["run"],
        )

    async def _look(self, seconds: float) -> _Look:
        """Ask everybody, a few at once. The situation is the one before: what changes meanwhile is looked at again."""
        situation = self._situation()
        parts = {**self._own_parts(), **{name: _one(name, source) for name, source in self._sources.items()}}
        fields: dict[str, Any] = {}
        unknown = dict.fromkeys(_OWNED - self._sources.keys(), "this daemon does not gather it")
        deadline, slots = time.monotonic() + seconds, asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(self._answer(name, part, slots, deadline, seconds))
                for name, part in parts.items()
            }
        for name, task in tasks.items():
            answered, why = task.result()
            fields |= answered
            if why:
                unknown[name] = why
        self._kept = _Look(fields, unknown, time.monotonic(), situation)
        return self._kept

    async def _answer(
        self, name: str, part: "_Part", slots: asyncio.Semaphore, deadline: float, seconds: float
    ) -> tuple[dict[str, Any], str]:
        """The fields of one part, or why they are not known. Whatever goes wrong with a part, it is that part alone."""
        try:
            async with asyncio.timeout(deadline - time.monotonic()), _turn(slots, seconds * _TURN):
                return await part(), ""
        except TimeoutError:
            return {}, f"no answer within {seconds:g} s"
        except CutoverError as error:
            return {}, error.message
        except Exception as error:  # noqa: BLE001 - a fault of ours in one part must not end the daemon
            # Its words are not shown: they may quote values.
            why = f"{name} could not be gathered: {type(error).__name__}, which is a fault of cutover or of its files"
            self._observer(TaskFailed(self._tenant, "evidence", type(error).__name__, why))
            return {}, why

    def _own_parts(self) -> dict[str, "_Part"]:
        return {
            "database": self._tenant_database,
            "backfill_complete": self._backfill_complete,
            "digest": self._digest_evidence,
            "open_findings": self._open_findings,
            "sweeps": self._sweeps,
            "recall": self._recall_evidence,
            "tables": self._tables,
            "tenant_vector": self._tenant_vector,
        }

    async def _tenant_database(self) -> dict[str, Any]:
        version = await self._database.fetchval("select max(version) from cutover.migration")
        return {"database_reachable": True, "schema_version": version}

    async def _backfill_complete(self) -> dict[str, Any]:
        return {"backfill_complete": await self._backfill.complete()}

    async def _digest_evidence(self) -> dict[str, Any]:
        state = self._phase.state
        if self._digests is None or state is None:
            return {"digest": None}
        return {"digest": await self._digests.evidence(state.epoch)}

    async def _sweeps(self) -> dict[str, Any]:
        seen = await look_at_sweeps(self._database)
        return {"unexplained": seen.unexplained, "sweep_age_seconds": seen.count_age}

    async def _recall_evidence(self) -> dict[str, Any]:
        seen, state = await look_at_sweeps(self._database), self._phase.state
        if seen.newer_failed is not None:
            raise CutoverError(f"the last recall sweep failed: {seen.newer_failed}")
        if (last := seen.recall) is None:
            return {}
        if state is None or last["epoch"] != state.epoch:
            raise CutoverError("no recall sweep has come to a result since this phase was entered")
        shown = last["visibility"]
        return {
            "recall_overlap": last["overlap"],
            "recall_visibility": shown[Direction.MORE] + shown[Direction.LESS],
            "recall_live": last["reads"]["live"],
            "recall_compared": last["reads"]["compared"],
            "recall_coverage": last["coverage"],
            "recall_age_seconds": seen.recall_age,
        }

    async def _tables(self) -> dict[str, Any]:
        if self._plugin_database is None:
            return {}
        return {"tables": await look_at_tables(self._plugin_database, CANARY_NAMESPACE)}

    async def _tenant_vector(self) -> dict[str, Any]:
        return {"tenant_vector": (await look_at_vector(self._database))[0]}

    async def _open_findings(self) -> dict[str, Any]:
        return {"open_findings": await self._digests.open_findings() if self._digests is not None else None}


_Part = Callable[[], Awaitable[dict[str, Any]]]
_OWNED = frozenset({"shadow", "freeze", "capture", "rehearsal", "soak", "access", "archive", "drop"})
"""The fields of `Evidence` that come from `sources`."""


def _one(name: str, source: Source) -> _Part:
    async def part() -> dict[str, Any]:
        return {name: await source()}

    return part


@contextlib.asynccontextmanager
async def _turn(slots: asyncio.Semaphore, seconds: float) -> AsyncIterator[None]:
    """One of the slots, for so many seconds at most."""
    await slots.acquire()
    held = True

    def give_up() -> None:
        nonlocal held
        if held:
            held = False
            slots.release()

    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    try:
        yield
    finally:
        timer.cancel()
        give_up()
