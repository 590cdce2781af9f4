"""Gates: which checks a phase asks for (architecture §6). The checks themselves are in `checks/`.

Pure: whoever gathers the evidence calls a function here and gets a verdict that can be shown, exported and tested.
Three questions are answered (observability §1): may a phase be entered (`gate`), do the invariants of a phase that
was entered hold (`invariants`), and can traffic be served now (`serving`).
"""

from collections.abc import Callable

from cutover.domain.check import Check, Status
from cutover.domain.checks import copying, leaving, plugin, proof, service
from cutover.domain.evidence import Evidence
from cutover.domain.phase import Phase, step

Judge = Callable[[Evidence], Check]

_BASE: tuple[Judge, ...] = (service.database, service.schema)
_UP: tuple[Judge, ...] = (*_BASE, plugin.plugin)

_GATES: dict[Phase, tuple[Judge, ...]] = {
    Phase.A0: _BASE,
    Phase.A1: (
        *_UP,
        plugin.plugin_healthy,
        plugin.plugin_version,
        plugin.plugin_capabilities,
        plugin.pgvector,
        plugin.plugin_schema,
        plugin.search_path,
        plugin.strays,
        plugin.canary,
        plugin.plugin_home,
        service.thresholds,
    ),
    Phase.A2: (
        *_UP,
        proof.shadow_clean,
        proof.unexplained,
        proof.sweep_fresh,
        proof.findings,
        copying.marks_drained,
        copying.write_errors,
        leaving.capture,
        service.thresholds,
    ),
    Phase.A3: (
        *_UP,
        copying.backfill,
        copying.quarantine,
        copying.marks_drained,
        proof.unexplained,
        proof.sweep_fresh,
        proof.digest,
        proof.recall,
        leaving.capture,
        leaving.bypass_writers,
        leaving.rehearsal,
        service.thresholds,
    ),
    Phase.A4: (
        *_UP,
        leaving.freeze,
        leaving.capture,
        leaving.soak,
        proof.unexplained,
        proof.sweep_fresh,
        proof.digest,
        copying.quarantine,
        copying.marks_drained,
        leaving.foreign_access,
        leaving.dependants,
        leaving.archive,
        service.thresholds,
    ),
}
_INVARIANTS: dict[Phase, tuple[Judge, ...]] = {
    Phase.A0: _BASE,
    Phase.A1: (*_UP, plugin.plugin_version, plugin.plugin_capabilities, leaving.capture),
    Phase.A2: (*_UP, proof.unexplained, leaving.freeze, leaving.capture),
    Phase.A3: (*_UP, proof.unexplained, leaving.freeze, leaving.capture),
    Phase.A4: (*_UP, leaving.freeze, leaving.capture, leaving.drop),
}
_SERVING: tuple[Judge, ...] = (service.not_draining, service.database, service.phase_known, service.traffic)
_APPROVALS = "two approvals by different people, neither of them who asks, are needed as well: cutover phase certify {}"


def gate(target: Phase, e: Evidence) -> tuple[Check, ...]:
    """May `target` be entered from where the tenant is? A phase further than one step away says which comes first."""
    checks = [judge(e) for judge in _GATES[target]]
    if e.phase is None:
        return (service.phase_known(e), *checks)
    if (wrong := step(e.phase, target)) is not None:
        nearer = f"cutover phase check A{min(e.phase.order + 1, 4)}"
        return (Check("step", Status.FAIL, e.phase, "phase", f"next to {target}", wrong, nearer), *checks)
    return tuple(checks)


def notes(target: Phase) -> tuple[str, ...]:
    """What it takes besides the gate to enter `target`, in sentences."""
    return (_APPROVALS.format(target),) if target in (Phase.A3, Phase.A4) else ()


def invariants(phase: Phase, e: Evidence) -> tuple[Check, ...]:
    """What must hold once `phase` has been entered."""
    return tuple(judge(e) for judge in _INVARIANTS[phase])


def readiness_for(target: Phase, e: Evidence) -> tuple[Check, ...]:
    """`/readyz/{phase}`: the gate of a phase ahead, the invariants of the current one and of those passed."""
    return gate(target, e) if ahead(target, e) else invariants(target, e)


def ahead(target: Phase, e: Evidence) -> bool:
    """Whether `target` is still to be entered; of a phase that is not confirmed every one is."""
    return e.phase is None or target.order > e.phase.order


def serving(e: Evidence) -> tuple[Check, ...]:
    """`/readyz`: can traffic be served in the current phase now? A closed gate never makes this red."""
    checks = [judge(e) for judge in _SERVING]
    if e.phase is not None and e.phase.needs_plugin:
        checks.append(plugin.plugin(e))
    return tuple(checks)


def check_ids(target: Phase) -> tuple[str, ...]:
    """The ids of the checks that a phase's gate is made of, known without evidence."""
    return tuple(judge(Evidence()).id for judge in _GATES[target])


def every_check(e: Evidence) -> dict[str, Check]:
    """All checks by id, for `/readyz/checks/{id}`."""
    judges = {*_SERVING, *(judge for judges in (*_GATES.values(), *_INVARIANTS.values()) for judge in judges)}
    return {check.id: check for check in sorted((judge(e) for judge in judges), key=lambda check: check.id)}
