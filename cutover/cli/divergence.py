"""`cutover divergence list|show|accept|repair`: the differences that digest sweeps found, and settling them."""

import getpass
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import click

from cutover.cli.failure import DIVERGENT, UNREACHABLE, CommandFailed
from cutover.cli.moments import interval, moment, short
from cutover.cli.output import confirm, emit, narrow, output_option, say, tenant_option, yes_option
from cutover.cli.progress import interruptible
from cutover.cli.verb import Group
from cutover.domain.divergence import DivergenceClass, DivergenceState

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

COLUMNS = ("memory_id", "class", "state", "kind", "first_seen", "length", "group")
NARROW_COLUMNS = ("memory_id", "class", "state", "first_seen")
GROUP_COLUMNS = ("group", "rows", "class", "kind", "state", "began", "writer")
NARROW_GROUP_COLUMNS = ("group", "rows", "class", "kind", "began", "writer")
_CLASSES = click.Choice([cls.value for cls in DivergenceClass])
_PATIENCE = 120.0
_MOMENTS = ("_at", "_seen")
C = TypeVar("C", bound=Callable[..., Any])


@click.group(cls=Group)
def divergence() -> None:
    """Show and settle the differences that digest sweeps found."""


def _which(command: C) -> C:
    """The ways of saying which findings: ids, one group, one class."""
    command = click.option("--class", "cls", type=_CLASSES, help="All of this class.")(command)
    command = click.option("--group", metavar="GROUP", help="All of one cause (`list --groups` names them).")(command)
    return click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")(command)


@divergence.command(
    "list",
    examples=(
        "cutover divergence list --groups      # not 412 rows but their causes",
        "cutover divergence list --class content",
    ),
)
@click.option("--groups", is_flag=True, help="By likely cause: class, namespace kind, writer, and when it began.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in DivergenceState]),
    multiple=True,
    help="Only in this state; may be given again.",
)
@click.option("--class", "cls", type=_CLASSES, multiple=True, help="Only of this class; may be given again.")
@click.option("--source", type=click.Choice(["memory", "native", "kv"]), help="Only of this origin.")
@click.option(
    "--namespace-kind",
    type=click.Choice(["workspace", "team", "org", "custom", "none"]),
    help="Only where they belong into such a namespace.",
)
@click.option("--workspace", type=click.UUID, help="Only of this workspace.")
@click.option("--group", metavar="GROUP", help="Only those of one cause.")
@click.option("--all", "closed", is_flag=True, help="Those that were accepted or went away, too.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.option("--after", help="Go on behind this place (told at the end of a page).")
@tenant_option
@output_option
def list_(
    groups: bool, state: tuple[str, ...], cls: tuple[str, ...], tenant: str | None, form: str, **filters: Any
) -> None:
    """List what waits to be settled, by memory or (--groups) by cause."""
    from cutover.cli.ops_client import Ops

    given = {**filters, "state": ",".join(state), "class": ",".join(cls), "closed": filters["closed"] or None}
    asked = urlencode({key: str(value) for key, value in given.items() if value not in (None, "")})
    with Ops(tenant=tenant) as ops:
        told = ops.get(f"/api/v1/divergence{'/groups' if groups else ''}?{asked}")
    rows = told["groups" if groups else "divergences"]
    if form in ("json", "yaml"):
        emit(told, form)
    elif form == "tsv":
        emit(rows, form)
    else:
        wide, less = (GROUP_COLUMNS, NARROW_GROUP_COLUMNS) if groups else (COLUMNS, NARROW_COLUMNS)
        emit([(_group if groups else _row)(one) for one in rows], form, less if narrow() else wide)
    if not rows:
        say("nothing waits to be settled", "green")
    elif not groups and told["next"]:
        say(f"more of them: --after {told['next']}, or --groups for the causes")
    elif groups and told["more"]:
        say(f"{told['more']} more causes: --limit {filters['limit'] * 2}")


@divergence.command(
    examples=("cutover divergence show 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11",),
)
@click.argument("id", type=click.UUID)
@tenant_option
@output_option
def show(id: object, tenant: str | None, form: str) -> None:  # noqa: A002 - the argument's name on the command line
    """Show everything that was ever found of one memory: hashes and lengths, never content."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        told = ops.get(f"/api/v1/divergence/{id}")
    if form in ("json", "yaml"):
        emit(told, form)
        return
    findings = told.pop("findings")
    for number, one in enumerate(findings):
        if number and form == "table":
            click.echo()
        emit(_details(one), form)
    if form == "table":
        say("")
        say(_situation(told))


@divergence.command(
    examples=("cutover divergence accept 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11 --why 'known: written by the importer'",),
)
@_which
@click.option("--why", required=True, help="The reason, for the record.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@tenant_option
@yes_option
@output_option
def accept(why: str, actor: str | None, tenant: str | None, yes: bool, form: str, **which: Any) -> None:
    """Answer for confirmed differences: they stay as they are, and the gates no longer count them."""
    from cutover.cli.ops_client import Ops

    body = _chosen(**which)
    confirm(yes, f"This accepts {_words(body)} as they are.")
    with Ops(tenant=tenant) as ops:
        told = ops.post("/api/v1/divergence/accept", {**body, "why": why, "actor": actor or getpass.getuser()})
    emit(told if form in ("json", "yaml") else {"accepted": told["accepted"], **told["by_class"]}, form)
    for one in told["refused"]:
        say(f"not accepted: {one['memory_id']} {one['class'] or ''}: {one['why']}", "yellow")
    if told["refused"]:
        raise click.exceptions.Exit(DIVERGENT)


@divergence.command(
    examples=(
        "cutover divergence repair --group 9cae72d48904",
        "cutover divergence repair --all --limit 1000 --yes",
    ),
)
@_which
@click.option("--all", "everything", is_flag=True, help="All that is confirmed and that a delivery sets right.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many memories.")
@click.option("--actor", default=None, help="Who, for the record. Default: the user who runs this.")
@tenant_option
@yes_option
@output_option
def repair(
    limit: int | None, actor: str | None, everything: bool, tenant: str | None, yes: bool, form: str, **which: Any
) -> None:
    """Have memories delivered once more, as they are by then: a live edit or delete always wins.

    What only the plugin knows of (missing_in_legacy) is left alone, because that would be a delete. The next sweep says
    whether a repair helped.
    """
    from cutover.cli.ops_client import Ops

    body = {**_chosen(**which, everything=everything), "actor": actor or getpass.getuser()}
    confirm(yes, f"This has {_words(body)} delivered to the plugin once more.")
    with Ops(tenant=tenant, timeout=120.0) as ops:
        with interruptible("what was marked is delivered all the same; the same command marks the rest"):
            told = ops.post("/api/v1/divergence/repair", {**body, **({"limit": limit} if limit else {})})
            while limit is None and told["remaining"]:
                say(f"{told['marked']} marked, {told['remaining']} left")
                more = _when_there_is_room(ops, body)
                told = {**more, "marked": told["marked"] + more["marked"]}
    emit(told if form in ("json", "yaml") else {"marked": told["marked"], "remaining": told["remaining"]}, form)
    for one in told["refused"]:
        say(f"left alone: {one['rows']} {one['class']}: {one['why']}", "yellow")
        say(f"  next: {told['next']}")
    say("the next digest sweep closes what is right again: cutover sweep run --kind digest")


def _when_there_is_room(ops: "Ops", body: dict[str, Any]) -> dict[str, Any]:
    """The next part of a large repair: the daemon refuses while too many marks wait for delivery."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            told: dict[str, Any] = ops.post("/api/v1/divergence/repair", body)
        except CommandFailed as failed:
            if failed.exit_code != UNREACHABLE or time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return told


def _chosen(*, ids: tuple[object, ...], group: str | None, cls: str | None, everything: bool = False) -> dict[str, Any]:
    """The body's way of saying which; a usage error unless it is exactly one."""
    ways: dict[str, Any] = {"ids": [str(one) for one in ids], "group": group, "class": cls, "all": everything}
    body = {key: value for key, value in ways.items() if value}
    if len(body) != 1:
        raise click.UsageError("Say which: ids, or one of --group and --class (or, to repair, --all).")
    return body


def _words(body: dict[str, Any]) -> str:
    if "ids" in body:
        return f"{len(body['ids'])} {'memory' if len(body['ids']) == 1 else 'memories'}"
    if "group" in body:
        return f"all of group {body['group']}"
    return f"all of class {body['class']}" if "class" in body else "everything that is confirmed"


def _row(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "memory_id": one["memory_id"],
        "class": one["class"],
        "state": one["state"] if one["closed_at"] is None else "closed",
        "kind": one["namespace_kind"],
        "first_seen": short(one["first_seen"]),
        "length": _lengths(one),
        "group": one["group_id"],
    }


def _lengths(one: dict[str, Any]) -> str:
    """Expected and found, in characters."""
    sides = ("-" if one[side] is None else str(one[side]) for side in ("expected_length", "plugin_length"))
    return "/".join(sides)


def _group(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "group": one["group"],
        "rows": one["rows"],
        "class": one["class"],
        "kind": one["namespace_kind"],
        "state": ", ".join(
            f"{rows} {state}" if len(one["states"]) > 1 else state for state, rows in one["states"].items()
        ),
        "began": interval(one["onset_after"], one["onset_before"]),
        "writer": one["writer"],
    }


def _details(one: dict[str, Any]) -> dict[str, Any]:
    """One finding's fields that say something."""
    after, before = one["onset_after"], one["onset_before"]
    shown = {
        key: moment(value) if key.endswith(_MOMENTS) else value
        for key, value in one.items()
        if value is not None and not key.startswith("onset")
    }
    return {**shown, "began": f"after {moment(after)}, by {moment(before)}" if after else f"by {moment(before)}"}


def _situation(told: dict[str, Any]) -> str:
    """What else is known of the memory, in words."""
    said = []
    if mark := told["mark"]:
        said.append(f"it waits for delivery (a mark of origin {mark['origin']}, tried {mark['attempts']} times)")
    if told["deleted_at"]:
        said.append(f"it was deleted at {moment(told['deleted_at'])}")
    if quarantine := told["quarantine"]:
        said.append(f"it is in quarantine ({quarantine['reason']})")
    return "; ".join(said) or "no mark, no tombstone, not in quarantine"
