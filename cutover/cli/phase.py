"""`cutover phase show|promote|rollback`."""

import getpass
from typing import Any

import click

from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.domain.phase import Phase, step

NOT_YET = (
    "This version changes the phase by a bare compare-and-set. Gates, approvals, freeze and drop are not part of it: "
    "look at `cutover phase show` before, and at `cutover sweep run --kind count` after."
)


@click.group()
def phase() -> None:
    """Show or change a tenant's phase."""


@phase.command()
@tenant_option
@output_option
def show(tenant: str | None, form: str) -> None:
    """Show the phase, and every check of the next one with its reason and remedy."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        status = ops.get("/api/v1/status")
        current = _phase_of(status)
        target = Phase(f"A{min(current.order + 1, 4)}")
        _, report = ops.health(f"/readyz/{target}")
    checks = [
        {"check": name, "status": check["status"], "reason": check["output"], "next": check.get("next", "")}
        for name, found in report.get("checks", {}).items()
        for check in found
    ]
    shown: dict[str, Any] = {
        "tenant": status.get("tenant"),
        "phase": current,
        "meaning": current.meaning,
        "epoch": status.get("epoch"),
        "entered_at": status.get("entered_at"),
        "next": target,
    }
    if form in ("json", "yaml"):
        emit({**shown, "checks": checks}, form)
        return
    emit(shown, form)
    say(f"\nchecks of {target}:")
    emit(checks, form, ("check", "status", "reason", "next"))


@phase.command()
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase]))
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@tenant_option
@yes_option
@output_option
def promote(**options: Any) -> None:
    """Go one phase forward."""
    _change(+1, **options)


@phase.command()
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase]))
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@tenant_option
@yes_option
@output_option
def rollback(**options: Any) -> None:
    """Go one phase back. A3 goes back to A2 without loss: the journal is replayed into legacy."""
    _change(-1, **options)


def _phase_of(status: dict[str, Any]) -> Phase:
    try:
        return Phase(status["phase"])
    except (KeyError, ValueError):
        raise CommandFailed(
            "the phase is not known",
            "the daemon could not confirm it with the tenant's database",
            "cutover doctor",
            DIVERGENT,
        ) from None


def _change(
    direction: int,
    *,
    target: str | None,
    reason: str,
    actor: str | None,
    dry_run: bool,
    tenant: str | None,
    yes: bool,
    form: str,
) -> None:
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=90.0) as ops:
        status = ops.get("/api/v1/status")
        current = _phase_of(status)
        wanted = Phase(target) if target else _neighbour(current, direction)
        if (wrong := step(current, wanted)) is not None:
            raise CommandFailed(f"{current} to {wanted} is not a step", wrong, "cutover phase show", DIVERGENT)
        if (wanted.order - current.order) * direction < 0:
            other = "rollback" if direction > 0 else "promote"
            raise click.UsageError(f"{wanted} lies the other way: use `cutover phase {other}`.")
        steps = planned_steps(current, wanted)
        if dry_run:
            emit([{"step": number, "what": what} for number, what in enumerate(steps, 1)], form, ("step", "what"))
            return
        say(NOT_YET, "yellow")
        confirm(
            yes,
            f"Tenant {status.get('tenant')} goes from {current} ({current.meaning}) to {wanted} ({wanted.meaning}).",
        )
        verb = "promote" if direction > 0 else "rollback"
        body = {
            "target": wanted.value,
            "reason": reason or f"cutover phase {verb}",
            "actor": actor or getpass.getuser(),
            "expected_epoch": status.get("epoch"),
        }
        changed = ops.post(f"/api/v1/phase/{verb}", body)
    emit(_shown(changed, form), form)
    if failed := (changed.get("gate") or {}).get("failed"):
        say(f"the gate of {wanted} was not enforced; it would have said: " + "; ".join(failed), "yellow")


def _neighbour(current: Phase, direction: int) -> Phase:
    """The phase after or before; at either end there is none."""
    if current is Phase.A0 and direction < 0:
        what, why = "there is no phase before A0", "A0 is the first phase: there is nothing to go back to"
        raise CommandFailed(what, why, "cutover phase show", DIVERGENT)
    return Phase(f"A{min(4, current.order + direction)}")


def _shown(changed: dict[str, Any], form: str) -> dict[str, Any]:
    """What the daemon told of a change: `to` says the phase already, and notes are sentences, with commas in them."""
    shown = {key: value for key, value in changed.items() if key != "phase" or "to" not in changed}
    if form in ("table", "tsv") and isinstance(notes := shown.get("notes"), list):
        shown["notes"] = "; ".join(map(str, notes))
    return shown


def planned_steps(current: Phase, wanted: Phase) -> list[str]:
    """What the daemon does for one step, in order."""
    steps = ["hold new writes and let those under way finish"]
    if (current, wanted) == (Phase.A0, Phase.A1):
        steps.append("install the capture triggers on agent_memories and workspaces")
    if (current, wanted) == (Phase.A2, Phase.A3):
        steps.append("drain the marks")
    if (current, wanted) == (Phase.A3, Phase.A2):
        steps.append("replay the journal into agent_memories")
    if (current, wanted) == (Phase.A1, Phase.A0):
        steps.append("remove the capture triggers")
    steps += [
        f"set the phase row from {current} to {wanted} if its epoch is still the same, and append the event",
        "tell the other daemons of this tenant and let writes go on",
    ]
    return steps
