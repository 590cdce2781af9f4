"""Gates: which checks a phase asks for (architecture §6). The checks themselves are in `checks/`.

Pure: whoever gathers the evidence calls a function here and gets a verdict that can be shown, exported and tested.
Three questions are answered (observability §1): may a phase be entered (`gate`), do the invariants of a phase that
was entered hold (`invariants`), and can traffic be served now (`serving`).
"""

from collections.abc import Callable

from cutover.domain.check import Check, Status
from cutover.domain.checks.copying import backfill, marks_drained, quarantine
from cutover.domain.checks.plugin import canary, plugin, plugin_capabilities, plugin_schema, plugin_version, strays
from cutover.domain.checks.proof import digest, recall, sweep_fresh, unexplained
from cutover.domain.checks.service import database, not_draining, phase_known, schema, traffic
from cutover.domain.evidence import Evidence
from cutover.domain.phase import Phase, step

Judge = Callable[[Evidence], Check]

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
