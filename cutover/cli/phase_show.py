"""`cutover phase show|check`: where a tenant stands, and what a phase asks for before it may be entered."""

from typing import Any

import click

from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.loosened import loosened
from cutover.cli.output import emit, narrow, output_option, say, tenant_option
from cutover.cli.verb import Verb
from cutover.domain.phase import Phase

COLUMNS = ("check", "status", "observed", "threshold", "reason", "next")
NARROW_COLUMNS = ("check", "status", "reason", "next")


@click.command(
    cls=Verb,
    examples=(
        "cutover phase show",
        "cutover phase show --tenant acme -o json",
    ),
)
@tenant_option
@output_option
def show(tenant: str | None, form: str) -> None:
    """Show the phase, and every check of the next one with its reason and remedy."""
    status, current, report = _asked(tenant, None)
    shown: dict[str, Any] = {
        "tenant": status.get("tenant"),
        "phase": current,
        "meaning": current.meaning,
        "epoch": status.get("epoch"),
        "entered_at": status.get("entered_at"),
        "override": status.get("override"),
        "loosened": status.get("loosened"),
        "changing": status.get("changing"),
        "next": None if current is Phase.A4 else report["target"],
        "gate": verdict(current, report),
    }
    if form in ("json", "yaml"):
        emit({**shown, "checks": rows(report), "notes": report.get("notes", [])}, form)
        return
    emit({**shown, "loosened": loosened(status.get("loosened"))}, form)
    say(f"\nchecks of {report['target']}:")
    emit(_shown(report, form), form, _columns())
    _say_notes(report)


@click.command(
    cls=Verb,
    examples=(
        "cutover phase check         # may the next phase be entered, and if not, why?",
        "cutover phase check A3 && echo open",
    ),
)
@click.argument("target", required=False, type=click.Choice([p.value for p in Phase]))
@tenant_option
@output_option
def check(target: str | None, tenant: str | None, form: str) -> None:
    """Judge the gate of TARGET, or of the next phase; exit code 3 when it is closed.

    For the phase the tenant is in, and those before it, their invariants are judged instead. Changes nothing.
    """
    _, current, report = _asked(tenant, target)
    words = verdict(current, report)
    if form in ("json", "yaml"):
        told = {"tenant": report.get("tenant"), "phase": current, "target": report["target"], "verdict": words}
        emit({**told, "status": report["status"], "checks": rows(report), "notes": report.get("notes", [])}, form)
    else:
        emit(_shown(report, form), form, _columns())
    _say_notes(report)
    failed = [row for row in rows(report) if row["status"] == "fail"]
    if failed:
        what = f"{report['target']}: {words}"
        why = "; ".join(f"{row['check']}: {row['reason']}" for row in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise CommandFailed(what, why + more, next((row["next"] for row in failed if row["next"]), ""), DIVERGENT)
    say(f"{report['target']}: {words}", "green")


def phase_of(status: dict[str, Any]) -> Phase:
    """The tenant's phase by `/api/v1/status`; raises where the daemon could not confirm it."""
    try:
        return Phase(status["phase"])
    except (KeyError, ValueError):
        raise CommandFailed(
            "the phase is not known",
            "the daemon could not confirm it with the tenant's database",
            "cutover doctor",
            DIVERGENT,
        ) from None


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks of a health report, a row each."""
    return [
        {
            "check": name,
            "status": made["status"],
            "observed": made.get("observedValue"),
            "unit": made.get("observedUnit"),
            "threshold": made.get("threshold"),
            "reason": made["output"],
            "next": made.get("next", ""),
        }
        for name, found in report.get("checks", {}).items()
        for made in found
    ]


def verdict(current: Phase, report: dict[str, Any]) -> str:
    """What a report comes to, in words."""
    good = report["status"] != "fail"
    if Phase(report["target"]).order > current.order:
        return "the gate is open" if good else "the gate is closed"
    return "its invariants hold" if good else "its invariants do not hold"


def _asked(tenant: str | None, target: str | None) -> tuple[dict[str, Any], Phase, dict[str, Any]]:
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        status = ops.get("/api/v1/status")
        current = phase_of(status)
        wanted = Phase(target) if target else Phase(f"A{min(current.order + 1, 4)}")
        _, report = ops.health(f"/readyz/{wanted}")
    # A look that took too long is a report of its own, which does not say what was asked about.
    return status, current, {"target": wanted, **report}


def _columns() -> tuple[str, ...]:
    return NARROW_COLUMNS if narrow() else COLUMNS


def _say_notes(report: dict[str, Any]) -> None:
    for note in report.get("notes", []):
        say(f"note: {note}")


def _shown(report: dict[str, Any], form: str) -> list[dict[str, Any]]:
    """The rows as `form` has them: in a table, one long sentence of many thresholds is told short."""
    return [
        {**row, "reason": loosened(row["reason"].split("; "))}
        if form == "table" and row["check"] == "thresholds" and row["status"] == "warn"
        else row
        for row in rows(report)
    ]
