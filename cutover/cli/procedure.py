"""`cutover procedure list|show|diff`: the runbooks that operators and task runs follow."""

import difflib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from cutover.cli.complete import procedures
from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.moments import short
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Group
from cutover.cli.visible import visible

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

LIST_COLUMNS = ("name", "title", "version", "package", "packaged", "since")
PACKAGED = "packaged"
_VERSION = click.IntRange(min=1)


@click.group(cls=Group)
def procedure() -> None:
    """Show the runbooks of A0 to A4, sweeps, backfill, verify, archive, drop and the way back."""


@procedure.command(
    "list",
    examples=("cutover procedure list",),
)
@tenant_option
@output_option
def list_(tenant: str | None, form: str) -> None:
    """List the runbooks with the version in force in the tenant's database.

    `packaged` says whether the daemon's release comes with the same text.
    """
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        found = ops.get("/api/v1/procedures")["procedures"]
    if form in ("json", "yaml"):
        emit(found, form)
        return
    emit([{**each, "since": short(each["at"])} for each in found], form, LIST_COLUMNS)


@procedure.command(
    examples=(
        "cutover procedure show a3-cutover",
        "cutover procedure show a3-cutover --version 2 -o json",
    ),
)
@click.argument("name", shell_complete=procedures)
@click.option("--version", type=_VERSION, help="Another version than the one in force.")
@tenant_option
@output_option
def show(name: str, version: int | None, tenant: str | None, form: str) -> None:
    """Print a runbook. `-o json` has its versions and events, too."""

    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        told = _one(ops, name, version)
    if form == "table":
        say(f"{told['name']} version {told['version']}, {told['package']}, sha256 {told['hash']}\n")
        click.echo(visible(told["body"]), nl=False)
    else:
        emit(told, form)


@procedure.command(
    examples=(
        "cutover procedure diff a3-cutover",
        "cutover procedure diff a3-cutover --from 1 --to 2",
    ),
)
@click.argument("name", shell_complete=procedures)
@click.option("--from", "old", type=_VERSION, help="A version. Default: the one in force.")
@click.option("--to", "new", type=_VERSION, help="A version. Default: what this command's release comes with.")
@tenant_option
@output_option
def diff(name: str, old: int | None, new: int | None, tenant: str | None, form: str) -> None:
    """Compare a runbook in force with the packaged one, or two versions of it.

    Exit code 3 when they differ.
    """
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        before = _one(ops, name, old)
        after = _one(ops, name, new) if new is not None else _packaged(name)
    lines = list(
        difflib.unified_diff(
            str(before["body"]).splitlines(),
            str(after["body"]).splitlines(),
            f"{name} version {before['version']}",
            f"{name} {PACKAGED if new is None else f'version {new}'}",
            lineterm="",
        )
    )
    if form == "table":
        for line in lines:
            click.echo(visible(line))
    else:
        emit({"name": name, "from": before["version"], "to": after["version"], "same": not lines, "diff": lines}, form)
    if lines:
        raise click.exceptions.Exit(DIVERGENT)
    say("no difference", "green")


def _one(ops: "Ops", name: str, version: int | None) -> dict[str, Any]:
    wanted = f"?version={version}" if version is not None else ""
    told: dict[str, Any] = ops.get(f"/api/v1/procedures/{quote(name, safe='')}{wanted}")
    return told


def _packaged(name: str) -> dict[str, Any]:
    from cutover.stores.procedures import packaged

    if (own := packaged().get(name)) is None:
        why = f"this release of cutover comes with {', '.join(packaged())}"
        raise CommandFailed(f"there is no packaged procedure {name}", why, "cutover procedure list")
    return {"version": PACKAGED, "body": own.body}
