"""`cutover drop show|start|cancel`: agent_memories is renamed and held before it goes."""

import getpass
from typing import Any

import click

from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.verb import Group
from cutover.domain.duration import spoken

_REASON = click.option("--reason", default="", help="Why, for the record.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")


@click.group(cls=Group)
def drop() -> None:
    """Show, call off or begin again the hold before agent_memories is dropped."""


@drop.command(
    examples=("cutover drop show",),
)
@tenant_option
@output_option
def show(tenant: str | None, form: str) -> None:
    """Show where the drop stands, what depends on the table, and every step so far."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        told = ops.get("/api/v1/drop")
    _show(told, form)
    _say_next(told)


@drop.command(
    examples=("cutover drop start --reason 'the archive is in the vault'",),
)
@_REASON
@_DRY_RUN
@tenant_option
@yes_option
@output_option
def start(reason: str, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Begin the hold again after it was called off. (The step to A4 begins it the first time.)"""
    steps = (
        "check that nothing depends on agent_memories",
        "rename agent_memories to a name that says until when it is held",
        "when the hold is over: check that nothing depends on it, and that a whole, restore-tested archive covers it",
        "record it, drop the table without CASCADE",
    )
    _change(
        "start",
        steps,
        "agent_memories is renamed, and dropped when the hold is over.",
        reason,
        dry_run,
        tenant,
        yes,
        form,
    )


@drop.command(
    examples=("cutover drop cancel --reason 'a report still needs it'",),
)
@_REASON
@_DRY_RUN
@tenant_option
@yes_option
@output_option
def cancel(reason: str, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Call the hold off: the table gets its name back and stays frozen."""
    steps = ("record who called it off", "give agent_memories its name back; it stays frozen, the tenant stays in A4")
    _change(
        "cancel", steps, "agent_memories gets its name back and is not dropped.", reason, dry_run, tenant, yes, form
    )


def _change(
    verb: str, steps: tuple[str, ...], words: str, reason: str, dry_run: bool, tenant: str | None, yes: bool, form: str
) -> None:
    from cutover.cli.ops_client import Ops

    if dry_run:
        emit([{"step": number, "what": what} for number, what in enumerate(steps, 1)], form, ("step", "what"))
        return
    confirm(yes, words)
    body = {"reason": reason or f"cutover drop {verb}", "actor": getpass.getuser()}
    with Ops(tenant=tenant) as ops:
        told = ops.post(f"/api/v1/drop/{verb}", body)
    _show(told, form)
    _say_next(told)


def _show(told: dict[str, Any], form: str) -> None:
    if form in ("json", "yaml"):
        emit(told, form)
        return
    emit({key: value for key, value in told.items() if key not in ("dependants", "history")}, form)
    if told["history"]:
        say("\nsteps:")
        emit(told["history"], form, ("at", "event", "actor", "relation", "detail"))
    if told["dependants"]:
        say("\ndepend on the table:")
        emit(told["dependants"], form, ("kind", "name"))


def _say_next(told: dict[str, Any]) -> None:
    left = spoken(told["remaining_seconds"]) if told["remaining_seconds"] else ""
    if told["dependants"] and told["state"] != "dropped":
        say("what depends on the table stops the drop: change it or drop it yourself, nothing here cascades", "yellow")
    elif told["state"] in ("held", "blocked") and told["blocked"]:
        words = f"held for {left} more, and then it stays" if left else "the hold is over, but the table stays"
        say(f"{words}: {told['blocked']}", "yellow")
        say(f"next: {told['next']}", "yellow")
    elif told["state"] == "held":
        say(f"held for {left or '0 s'} more, then dropped; cutover drop cancel calls it off", "yellow")
    elif told["state"] == "cancelled":
        say("agent_memories is kept, frozen; cutover drop start begins the hold again", "yellow")
    elif told["state"] == "dropped":
        say("agent_memories is gone; cutover retire removes what is left of the move", "green")
