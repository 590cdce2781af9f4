"""`cutover quarantine list|show|retry|acknowledge`: memories that cannot be placed in the plugin, and why."""

import getpass
from typing import Any
from urllib.parse import urlencode

import click

from cutover.cli.moments import moment, short
from cutover.cli.output import confirm, emit, narrow, output_option, say, tenant_option, yes_option
from cutover.cli.verb import Group
from cutover.domain.findings import QuarantineReason

COLUMNS = ("memory_id", "reason", "detail", "last_seen", "state")
NARROW_COLUMNS = ("memory_id", "reason", "state")
_REASONS = click.Choice([reason.value for reason in QuarantineReason])


@click.group(cls=Group)
def quarantine() -> None:
    """Show and settle memories that cannot be placed in the plugin."""


@quarantine.command(
    "list",
    examples=(
        "cutover quarantine list",
        "cutover quarantine list --reason workspace_gone -o tsv",
    ),
)
@click.option("--reason", type=_REASONS, help="Only with this reason.")
@click.option("--workspace", type=click.UUID, help="Only of this workspace.")
@click.option("--all", "everything", is_flag=True, help="Those that were acknowledged, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--after", type=click.UUID, help="Go on behind this memory (told at the end of a page).")
@tenant_option
@output_option
def list_(everything: bool, tenant: str | None, form: str, **filters: Any) -> None:
    """List what blocks the cutover."""
    from cutover.cli.ops_client import Ops

    given = {**filters, "acknowledged": "all" if everything else None}
    asked = urlencode({key: str(value) for key, value in given.items() if value is not None})
    with Ops(tenant=tenant) as ops:
        told = ops.get(f"/api/v1/quarantine?{asked}")
    rows = told["quarantine"]
    if form in ("json", "yaml"):
        emit(told, form)
    elif form == "tsv":
        emit(rows, form)
    else:
        emit([_row(one) for one in rows], form, NARROW_COLUMNS if narrow() else COLUMNS)
    if not rows:
        say("nothing is in the way", "green")
    elif told["next"]:
        say(f"{told['more']} more: --after {told['next']}")


@quarantine.command(
    examples=("cutover quarantine show 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11",),
)
@click.argument("id", type=click.UUID)
@tenant_option
@output_option
def show(id: object, tenant: str | None, form: str) -> None:  # noqa: A002 - the argument's name on the command line
    """Show one memory: why it cannot be placed, who holds it, how long its content is (never what it says)."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        told = ops.get(f"/api/v1/quarantine/{id}")
    if form not in ("json", "yaml"):
        times = {key: moment(told[key]) for key in ("first_seen", "last_seen", "acknowledged_at")}
        told = {key: value for key, value in {**told, **times}.items() if value is not None}
    emit(told, form)


@quarantine.command(
    examples=(
        "cutover quarantine retry --reason workspace_gone",
        "cutover quarantine retry 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11 --yes",
    ),
)
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--reason", type=_REASONS, help="All with this reason.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@tenant_option
@yes_option
@output_option
def retry(
    ids: tuple[object, ...],
    reason: str | None,
    everything: bool,
    limit: int | None,
    actor: str | None,
    tenant: str | None,
    yes: bool,
    form: str,
) -> None:
    """Deliver them once more. What the plugin takes this time leaves the quarantine by itself."""
    from cutover.cli.ops_client import Ops

    ways: dict[str, Any] = {"ids": [str(one) for one in ids], "reason": reason, "all": everything}
    body = {key: value for key, value in ways.items() if value}
    if len(body) != 1:
        raise click.UsageError("Say which: ids, or one of --reason and --all.")
    which = "everything in quarantine" if everything else f"all with {reason}" if reason else f"{len(ids)} of them"
    confirm(yes, f"This has {which} delivered once more.")
    with Ops(tenant=tenant, timeout=120.0) as ops:
        body |= {"actor": actor or getpass.getuser(), **({"limit": limit} if limit else {})}
        told = ops.post("/api/v1/quarantine/retry", body)
    emit(told, form)
    say("in a moment `cutover quarantine list` shows what is still refused")


@quarantine.command(
    examples=("cutover quarantine acknowledge 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11 --why 'its owner knows'",),
)
@click.argument("id", type=click.UUID)
@click.option("--why", required=True, help="The reason, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@tenant_option
@yes_option
@output_option
def acknowledge(id: object, why: str, actor: str | None, tenant: str | None, yes: bool, form: str) -> None:  # noqa: A002
    """Answer for one memory that stays behind; it no longer blocks the cutover.

    One at a time, on purpose. A memory that changes afterwards has to be looked at again.
    """
    from cutover.cli.ops_client import Ops

    confirm(yes, f"Memory {id} will not be in the plugin, and you answer for that.")
    with Ops(tenant=tenant) as ops:
        body = {"id": str(id), "why": why, "actor": actor or getpass.getuser()}
        told = ops.post("/api/v1/quarantine/acknowledge", body)
    shown = ("memory_id", "reason", "acknowledged_by", "acknowledged_at", "why")
    emit(told if form in ("json", "yaml") else {key: told[key] for key in shown}, form)


def _row(one: dict[str, Any]) -> dict[str, Any]:
    who = one["acknowledged_by"]
    state = "being retried" if one["marked"] else f"acknowledged by {who}" if who else "blocks"
    return {**one, "last_seen": short(one["last_seen"]), "state": state}
