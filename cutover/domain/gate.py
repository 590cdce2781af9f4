"""Gates: from evidence to a list of checks, each with its reason and the command that mends it (architecture §6).

Pure: whoever gathers the evidence calls a function here and gets a verdict that can be shown, exported and tested.
Three questions are answered (observability §1): may a phase be entered (`gate`), do the invariants of a phase that
was entered hold (`invariants`), and can traffic be served now (`serving`).

These are the gates' first form. Soak times, certificates and approvals come with the fuller gates; a check
that is not made is not listed, so nothing here reports more than was looked at.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cutover.domain.evidence import (
    AccessEvidence,
    ArchiveEvidence,
    DropEvidence,
    FreezeEvidence,
    RehearsalEvidence,
    ShadowEvidence,
    SoakEvidence,
)
from cutover.domain.phase import Phase, step
from cutover.domain.recall import DEPTH, OVERLAP_REQUIRED
from cutover.domain.thresholds import DEFAULTS, GateThresholds

REQUIRED_CAPABILITIES = frozenset({"fts"})
"""Without full-text search in the plugin, v1's `q` has no counterpart from A3 on."""
CONTRACT_MAJOR = "1"


class Status(StrEnum):
    """A check's verdict, in the words of the health JSON."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


_RANK = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several verdicts; of none, `pass`."""
    return max(statuses, key=_RANK.__getitem__, default=Status.PASS)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, what it should be, why it matters, what to run."""

    id: str
    status: Status
    observed_value: Any
    observed_unit: str
    threshold: str
    output: str
    """Why, in one sentence. Never a secret, never content."""
    next: str = ""
    """The command to run; empty when nothing needs doing."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the ops face answers. `target` is the phase that was asked about; `phase` None: not confirmed."""

    status: Status
    tenant: str
    phase: Phase | None
    target: Phase | None
    checks: tuple[Check, ...]

    @property
    def http_status(self) -> int:
        """200 for pass and warn, 503 for fail."""
        return 503 if self.status is Status.FAIL else 200

    def as_json(self, time: str) -> dict[str, Any]:
        """The health JSON (observability §1); `time` is the RFC 3339 moment at which the checks were made."""
        checks: dict[str, list[dict[str, Any]]] = {}
        for check in self.checks:
            checks.setdefault(check.id, []).append(
                {
                    "status": check.status.value,
                    "observedValue": check.observed_value,
                    "observedUnit": check.observed_unit,
                    "threshold": check.threshold,
                    "time": time,
                    "output": check.output,
                    "next": check.next,
                }
            )
        body: dict[str, Any] = {"status": self.status.value, "tenant": self.tenant, "phase": self.phase}
        if self.target is not None:
            body["target"] = self.target
        body["checks"] = checks
        return body


def report(tenant: str, phase: Phase | None, target: Phase | None, checks: Iterable[Check]) -> HealthReport:
    """The checks with their common verdict."""
    made = tuple(checks)
    return HealthReport(worst(check.status for check in made), tenant, phase, target, made)


@dataclass(frozen=True, slots=True)
class DigestEvidence:
    """What a full digest sweep came to. `coverage` is a share of the expected memories."""

    outcome: str
    trusted: bool
    coverage: float
    age_seconds: float
    open_findings: int = 0
    """Confirmed findings, and repaired ones that no sweep has found in order yet, as of now."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one tenant at one moment. None means: not known, which never passes a gate."""

    phase: Phase | None = None
    draining: bool = False
    refusing: str = ""
    """Why memory traffic is refused right now; empty when it is not."""

    database_reachable: bool = False
    database_why: str = ""
    schema_version: int | None = None
    """The number of the newest migration applied to schema `cutover`."""
    schema_expected: int = 0

    plugin_up: bool = False
    plugin_why: str = ""
    plugin_version: str | None = None
    plugin_capabilities: frozenset[str] = field(default_factory=frozenset)
    plugin_database_reachable: bool = False
    """False as well for a contract-only plugin, which has no database to look at."""
    plugin_schema_known: bool | None = None
    stray_rows: int | None = None
    """Rows in `public.memory_namespaces` / `public.memory_records`, which the plugin cannot see (domain §3)."""
    canary_ok: bool | None = None
    """The last canary that was written to, searched on and forgotten by the plugin; None: none was sent yet."""
    canary_why: str = ""

    marks: int | None = None
    oldest_mark_seconds: float = 0.0
    marks_drained_below: int = 0
    """Marks that count as drained: live traffic always has a few in flight."""
    marks_drained_within: float = 30.0
    """Seconds: a backlog whose oldest mark is younger than this is in flight, not stuck."""
    unexplained: int | None = None
    sweep_age_seconds: float | None = None
    sweep_max_age_seconds: float = 180.0
    backfill_complete: bool = False
    backfill_remaining: int | None = None
    quarantined: int | None = None
    quarantine_acknowledged: int = 0

    digest: DigestEvidence | None = None
    """The last full digest sweep of this phase's epoch; None: there was none."""
    digest_max_age_seconds: float = 129_600.0
    recall_overlap: float | None = None
    """Mean overlap@10 of the last recall sweep, 0..1."""
    recall_visibility: int | None = None
    """Memories that the plugin shows to readers who may not see them, or hides from those who may."""
    recall_live: int = 0
    """Reads of that sweep which callers had made."""
    recall_age_seconds: float | None = None
    recall_max_age_seconds: float = 2700.0

    thresholds: GateThresholds = DEFAULTS
    shadow: ShadowEvidence | None = None
    freeze: FreezeEvidence | None = None
    rehearsal: RehearsalEvidence | None = None
    soak: SoakEvidence | None = None
    access: AccessEvidence | None = None
    archive: ArchiveEvidence | None = None
    drop: DropEvidence | None = None


Judge = Callable[[Evidence], Check]


def _verdict(good: bool) -> Status:
    return Status.PASS if good else Status.FAIL


def database(e: Evidence) -> Check:
    """The tenant's PostgreSQL answers."""
    why = "PostgreSQL answers" if e.database_reachable else f"PostgreSQL does not answer: {e.database_why}"
    step_ = "" if e.database_reachable else "check DATABASE_URL and the server, then: cutover doctor"
    return Check("database", _verdict(e.database_reachable), e.database_reachable, "boolean", "true", why, step_)


def schema(e: Evidence) -> Check:
    """Schema `cutover` is migrated as far as this version knows."""
    good = e.schema_version is not None and e.schema_version == e.schema_expected
    seen = "unknown" if e.schema_version is None else str(e.schema_version)
    why = f"schema cutover is at migration {seen}, this version needs {e.schema_expected}"
    return Check(
        "schema",
        _verdict(good),
        e.schema_version,
        "migration",
        f"= {e.schema_expected}",
        why,
        "" if good else "cutover migrate up",
    )


def phase_known(e: Evidence) -> Check:
    """This daemon knows the tenant's phase for certain."""
    good = e.phase is not None
    why = f"the tenant is in {e.phase}" if good else "the phase could not be confirmed with the database"
    return Check("phase", _verdict(good), e.phase, "phase", "confirmed", why, "" if good else "cutover doctor")


def plugin(e: Evidence) -> Check:
    """The plugin's health endpoint says ok, and has for long enough not to be flapping."""
    why = "the plugin is healthy" if e.plugin_up else f"the plugin is not healthy: {e.plugin_why or 'no probe yet'}"
    step_ = "" if e.plugin_up else "start the plugin or mend MEMORY_PLUGIN_URL, then: cutover doctor"
    return Check("plugin", _verdict(e.plugin_up), e.plugin_up, "boolean", "true", why, step_)


def plugin_version(e: Evidence) -> Check:
    """The plugin speaks version 1.x of the contract."""
    good = e.plugin_version is not None and e.plugin_version.partition(".")[0] == CONTRACT_MAJOR
    seen = "no version (never reached)" if e.plugin_version is None else f"version {e.plugin_version[:32]}"
    return Check(
        "plugin_version",
        _verdict(good),
        None if e.plugin_version is None else e.plugin_version[:32],
        "version",
        f"{CONTRACT_MAJOR}.x",
        f"the plugin reports {seen}",
        "" if good else "deploy a plugin that speaks contract version 1.x",
    )


def plugin_capabilities(e: Evidence) -> Check:
    """The plugin can do what reads need from A3 on."""
    missing = sorted(REQUIRED_CAPABILITIES - e.plugin_capabilities)
    why = f"the plugin lacks: {', '.join(missing)}" if missing else "the plugin has every capability that is needed"
    return Check(
        "plugin_capabilities",
        _verdict(not missing),
        sorted(e.plugin_capabilities),
        "capabilities",
        f"has {', '.join(sorted(REQUIRED_CAPABILITIES))}",
        why,
        "deploy a plugin with full-text search" if missing else "",
    )


def plugin_schema(e: Evidence) -> Check:
    """The plugin's tables are the ones we know, where its database can be looked at."""
    if not e.plugin_database_reachable:
        why = "the plugin's database cannot be looked at: sweeps go through the contract and are partial"
        return Check("plugin_schema", Status.WARN, None, "schema", "known", why, "set MEMORY_PLUGIN_DATABASE_URL")
    good = e.plugin_schema_known is True
    why = "memory_plugin has the known tables" if good else "schema memory_plugin is missing or not the known one"
    return Check(
        "plugin_schema",
        _verdict(good),
        e.plugin_schema_known,
        "boolean",
        "true",
        why,
        "" if good else "let the plugin create its schema (search_path=memory_plugin,public), then: cutover doctor",
    )


def strays(e: Evidence) -> Check:
    """No rows in tables of the plugin's names in schema public: the plugin does not see those."""
    if not e.plugin_database_reachable:
        return Check("strays", Status.WARN, None, "rows", "= 0", "the plugin's database cannot be looked at", "")
    good = e.stray_rows == 0
    seen = "an unknown number of" if e.stray_rows is None else str(e.stray_rows)
    why = f"{seen} rows in public.memory_namespaces and public.memory_records, where the plugin does not see them"
    next_step = "" if good else "move or drop those rows, then: cutover doctor"
    return Check("strays", _verdict(good), e.stray_rows, "rows", "= 0", why, next_step)


def canary(e: Evidence) -> Check:
    """A canary memory was written to the plugin, found and forgotten again (domain §4.5)."""
    good = e.canary_ok is True
    why = (
        "the canary was written, found and forgotten"
        if good
        else "no canary was sent yet"
        if e.canary_ok is None
        else f"the canary failed: {e.canary_why}"
    )
    return Check("canary", _verdict(good), e.canary_ok, "boolean", "true", why, "" if good else "cutover doctor")


def marks_drained(e: Evidence) -> Check:
    """Nothing waits for delivery but what live traffic has in flight."""
    good = e.marks is not None and (e.marks <= e.marks_drained_below or e.oldest_mark_seconds < e.marks_drained_within)
    seen = "an unknown number of" if e.marks is None else str(e.marks)
    why = f"{seen} marks wait for delivery, the oldest for {e.oldest_mark_seconds:.0f} s"
    threshold = f"<= {e.marks_drained_below}, or none older than {e.marks_drained_within:.0f} s"
    next_step = "" if good else "cutover status (is the plugin healthy, is the backfill still running?)"
    return Check("marks", _verdict(good), e.marks, "marks", threshold, why, next_step)


def unexplained(e: Evidence) -> Check:
    """The drift ledger accounts for every row by which the stores differ."""
    good = e.unexplained == 0
    seen = "not known: no count sweep has finished" if e.unexplained is None else f"{e.unexplained} rows"
    why = f"unexplained drift: {seen}"
    return Check(
        "unexplained_drift",
        _verdict(good),
        e.unexplained,
        "rows",
        "= 0",
        why,
        "" if good else "cutover sweep run --kind count",
    )


def sweep_fresh(e: Evidence) -> Check:
    """The last count sweep is recent enough to be believed."""
    age = e.sweep_age_seconds
    good = age is not None and age <= e.sweep_max_age_seconds
    why = "no count sweep has finished" if age is None else f"the last count sweep ended {age:.0f} s ago"
    return Check(
        "sweep_fresh",
        _verdict(good),
        None if age is None else round(age, 1),
        "seconds",
        f"<= {e.sweep_max_age_seconds:.0f}",
        why,
        "" if good else "cutover sweep run --kind count",
    )


def backfill(e: Evidence) -> Check:
    """Every row that was there before A1 has been taken up by the backfill."""
    why = (
        "the backfill is complete"
        if e.backfill_complete
        else "no backfill has been run"
        if e.backfill_remaining is None
        else f"{e.backfill_remaining} rows are still to be copied"
    )
    next_step = "" if e.backfill_complete else "cutover backfill --apply"
    return Check("backfill", _verdict(e.backfill_complete), e.backfill_remaining, "rows", "complete", why, next_step)


def quarantine(e: Evidence) -> Check:
    """What cannot be placed has been resolved, or acknowledged one by one."""
    open_ = None if e.quarantined is None else max(0, e.quarantined - e.quarantine_acknowledged)
    good = open_ == 0
    seen = "an unknown number of" if open_ is None else str(open_)
    why = f"{seen} memories are quarantined"
    next_step = "" if good else "cutover quarantine list"
    return Check("quarantine", _verdict(good), open_, "memories", "= 0", why, next_step)


def digest(e: Evidence) -> Check:
    """The last full digest sweep looked at every memory, found no difference, and caught every fault planted for it."""
    seen = e.digest
    good = False
    if seen is None:
        why = "no full digest sweep has come to an end since this phase was entered"
    elif not seen.trusted:
        why = "the last full digest sweep missed planted faults, so it proves nothing"
    elif seen.age_seconds > e.digest_max_age_seconds:
        why = f"the last full digest sweep ended {seen.age_seconds / 3600:.1f} h ago"
    elif seen.outcome != "clean":
        why = f"the last full digest sweep was {seen.outcome}"
    elif seen.coverage < 1:
        why = f"the last full digest sweep could look at {seen.coverage:.1%} of the memories"
    elif seen.open_findings:
        why = f"{seen.open_findings} findings are open: confirmed, or repaired and not seen in order yet"
    else:
        good, why = True, f"the last full digest sweep was clean and trusted, {seen.age_seconds / 60:.0f} min ago"
    divergent = seen is not None and (seen.outcome == "divergent" or seen.open_findings > 0)
    next_step = "cutover divergence list --groups" if divergent else ""
    return Check(
        "digest",
        _verdict(good),
        None if seen is None else seen.outcome,
        "outcome",
        f"clean, trusted, whole, within {e.digest_max_age_seconds / 3600:.0f} h",
        why,
        "" if good else next_step or "cutover sweep run --kind digest --full",
    )


def recall(e: Evidence) -> Check:
    """The plugin answers as legacy does, and shows every reader exactly what they may see."""
    age = e.recall_age_seconds
    if e.recall_overlap is None or e.recall_visibility is None or age is None:
        seen, good = "no recall sweep has come to a result", False
    elif age > e.recall_max_age_seconds:
        seen, good = f"the last recall sweep ended {age:.0f} s ago", False
    else:
        seen = f"overlap@{DEPTH} {e.recall_overlap:.4f}, visibility differs for {e.recall_visibility} memories"
        good = e.recall_overlap >= OVERLAP_REQUIRED and e.recall_visibility == 0
    status = _verdict(good)
    if good and e.recall_live == 0:
        status, seen = Status.WARN, f"{seen}; no live queries were sampled, only lists of workspaces"
    return Check(
        "recall",
        status,
        e.recall_overlap,
        "ratio",
        f">= {OVERLAP_REQUIRED}, no visibility differences, within {e.recall_max_age_seconds:.0f} s",
        f"recall: {seen}",
        "" if good else "cutover sweep run --kind recall",
    )


def traffic(e: Evidence) -> Check:
    """Memory traffic is being served."""
    why = f"memory traffic is refused: {e.refusing}" if e.refusing else "memory traffic is served"
    return Check("traffic", _verdict(not e.refusing), not e.refusing, "boolean", "true", why, _traffic_next(e))


def _traffic_next(e: Evidence) -> str:
    return "cutover status; cutover doctor" if e.refusing else ""


def not_draining(e: Evidence) -> Check:
    """The daemon is not on its way down."""
    why = "the daemon is shutting down" if e.draining else "the daemon is staying"
    return Check("draining", _verdict(not e.draining), e.draining, "boolean", "false", why, "")


_GATES: dict[Phase, tuple[Judge, ...]] = {
    Phase.A0: (database, schema),
    Phase.A1: (database, schema, plugin, plugin_version, plugin_capabilities, plugin_schema, strays, canary),
    Phase.A2: (database, schema, plugin, marks_drained, unexplained, sweep_fresh),
    Phase.A3: (database, schema, plugin, backfill, quarantine, unexplained, sweep_fresh, marks_drained, digest, recall),
}
_INVARIANTS: dict[Phase, tuple[Judge, ...]] = {
    Phase.A0: (database, schema),
    Phase.A1: (database, schema, plugin, plugin_version, plugin_capabilities),
    Phase.A2: (database, schema, plugin, unexplained),
    Phase.A3: (database, schema, plugin, unexplained),
    Phase.A4: (database, schema, plugin),
}


def gate(target: Phase, e: Evidence) -> tuple[Check, ...]:
    """May `target` be entered from where the tenant is? A phase further than one step away says which comes first."""
    if target is Phase.A4:
        why = "dropping the legacy table needs a soak, an archive and approvals, which this version does not offer"
        return (Check("drop", Status.FAIL, False, "boolean", "true", why, "stay in A3"),)
    checks = [judge(e) for judge in _GATES[target]]
    if e.phase is not None and (wrong := step(e.phase, target)) is not None:
        nearer = f"cutover phase promote A{e.phase.order + 1}"
        checks.insert(0, Check("step", Status.FAIL, e.phase, "phase", f"next to {target}", wrong, nearer))
    elif e.phase is None:
        checks.insert(0, phase_known(e))
    return tuple(checks)


def invariants(phase: Phase, e: Evidence) -> tuple[Check, ...]:
    """What must hold once `phase` has been entered."""
    return tuple(judge(e) for judge in _INVARIANTS[phase])


def readiness_for(target: Phase, e: Evidence) -> tuple[Check, ...]:
    """`/readyz/{phase}`: the gate of a phase ahead, the invariants of the current one and of those passed."""
    if e.phase is not None and target.order <= e.phase.order:
        return invariants(target, e)
    return gate(target, e)


def serving(e: Evidence) -> tuple[Check, ...]:
    """`/readyz`: can traffic be served in the current phase now? A closed gate never makes this red."""
    checks = [not_draining(e), database(e), phase_known(e), traffic(e)]
    if e.phase is not None and e.phase.needs_plugin:
        checks.append(plugin(e))
    return tuple(checks)


def check_ids(target: Phase) -> tuple[str, ...]:
    """The ids of the checks that a phase's gate is made of, known without evidence."""
    return tuple(check.id for check in (judge(Evidence()) for judge in _GATES.get(target, ())))


def every_check(e: Evidence) -> dict[str, Check]:
    """All checks by id, for `/readyz/checks/{id}`."""
    judges = {judge for judges in (*_GATES.values(), *_INVARIANTS.values()) for judge in judges}
    made = [judge(e) for judge in (*judges, phase_known, traffic, not_draining)]
    return {check.id: check for check in sorted(made, key=lambda check: check.id)}
