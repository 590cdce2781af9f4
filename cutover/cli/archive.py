"""`cutover archive create|verify|restore|list`: what is needed to have v1 back, in files that anybody can check."""

import asyncio
import getpass
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.progress import ProgressLine, interruptible
from cutover.cli.verb import Group

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

_POLL_SECONDS = 0.5
_GOES_ON = "the archive goes on in the daemon; `cutover archive list` shows what it comes to"
_COLUMNS = ("run", "state", "at", "path", "rows", "bytes", "restore_tested", "why")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_PATH = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@click.group(cls=Group)
def archive() -> None:
    """Archive agent_memories and what belongs to it; check an archive, bring it back."""


@archive.command(
    examples=(
        "cutover archive create",
        "cutover archive create --to /srv/archives/acme --yes",
    ),
)
@click.option("--to", type=click.Path(path_type=Path), help="Directory. Default: one in CUTOVER_ARCHIVE_DIRECTORY.")
@click.option("--no-wait", is_flag=True, help="Begin it and end; `cutover archive list` says how it goes.")
@tenant_option
@yes_option
@output_option
def create(to: Path | None, no_wait: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Make an archive in the daemon, and restore it into a scratch schema to prove it.

    One that was interrupted is gone on with: parts that are whole and still say what the database says are kept.
    """
    from cutover.cli.ops_client import Ops

    confirm(yes, "Files are written where the daemon runs, and restored on trial in a scratch schema of the database.")
    body: dict[str, Any] = {"actor": getpass.getuser()}
    if to is not None:
        body["to"] = str(to.absolute())
    with Ops(tenant=tenant) as ops:
        with interruptible(_GOES_ON):
            told = ops.post("/api/v1/archive", body)
            if not no_wait:
                told = _follow(ops, str(told["run"]))
    emit(told, form)
    if no_wait:
        return
    if told["state"] != "finished":
        why = str(told.get("why") or told["state"])
        raise CommandFailed("the archive was not made", why, "cutover archive create goes on where it stopped")
    rows = told["tables"].get("memories", {}).get("rows", 0)
    say(f"{rows} rows of agent_memories archived in {told['path']}, restored on trial with equal digests", "green")


@archive.command(
    "list",
    examples=("cutover archive list",),
)
@tenant_option
@output_option
def list_(tenant: str | None, form: str) -> None:
    """List the archives that this tenant's daemons made, newest first."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        found = ops.get("/api/v1/archive")["archives"]
    shown = [{**each, "rows": each.get("tables", {}).get("memories", {}).get("rows")} for each in found]
    emit(found if form in ("json", "yaml") else [{name: each.get(name) for name in _COLUMNS} for each in shown], form)


@archive.command(
    examples=("cutover archive verify /var/lib/cutover/archives/sample-20260501",),
)
@click.argument("path", type=_PATH)
@output_option
def verify(path: Path, form: str) -> None:
    """Read every file of an archive and compare it with the manifest. Exit code 3 when anything differs."""
    from cutover.stores import archive_files

    manifest, problems = archive_files.verify(path)
    if problems:
        emit([{"file": problem.file, "problem": problem.what} for problem in problems], form)
        raise CommandFailed(
            f"the archive is damaged: {len(problems)} of its files are not what they were",
            "; ".join(map(str, problems[:3])),
            "use another copy of it, or take another archive while the table is there",
            DIVERGENT,
        )
    assert manifest is not None  # noqa: S101 - one without a manifest has a problem
    tables = {
        table.name: {"rows": manifest.rows(table.name), "digest": manifest.digest(table.name)}
        for table in manifest.tables
    }
    said = {"tenant": manifest.tenant, "phase": manifest.phase, "epoch": manifest.epoch, "at": manifest.snapshot_at}
    emit({**said, "tables": tables}, form)
    say(f"{len(manifest.parts)} parts, every one as it was written", "green")


@archive.command(
    examples=(
        "cutover archive restore /var/lib/cutover/archives/sample-20260501 --dry-run",
        "cutover archive restore /var/lib/cutover/archives/sample-20260501 --schema back --yes",
    ),
)
@click.argument("path", type=_PATH)
@click.option("--schema", default="public", show_default=True, help="Where agent_memories is to be.")
@click.option("--leave-out", multiple=True, metavar="COLUMN", help="Do without a column that the target lacks.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@tenant_option
@yes_option
@output_option
def restore(
    path: Path, schema: str, leave_out: tuple[str, ...], dry_run: bool, tenant: str | None, yes: bool, form: str
) -> None:
    """Bring agent_memories as it was frozen back into DATABASE_URL, without a daemon.

    What was written after the freeze stays in the archive's journal, and is counted. Everything is loaded into a schema
    of its own and compared with the manifest first. What was deleted since is left out, and counted. One that was
    interrupted is gone on with.
    """
    from cutover.stores.archive_files import read_manifest
    from cutover.stores.database import Database
    from cutover.stores.restore import STAGE
    from cutover.stores.restore import restore as bring_back

    if not _SCHEMA.fullmatch(schema):
        raise click.UsageError(f"{schema!r} is not a schema's name: lower-case letters, digits and underscores.")
    manifest, _ = read_manifest(path)
    target = _target(tenant)
    steps = [
        f"verify {len(manifest.parts)} parts in {path}",
        f"load them into schema {STAGE} and compare every digest with the manifest",
        f"see that {schema}.agent_memories is empty, or make it",
        f"bring {manifest.rows('memories')} rows in, but for those that were deleted",
        f"drop schema {STAGE}",
    ]
    if dry_run:
        emit([{"step": number, "what": what} for number, what in enumerate(steps, 1)], form, ("step", "what"))
        return
    confirm(yes, f"This brings {manifest.rows('memories')} rows into {schema}.agent_memories of {target.name}.")

    async def run() -> Any:
        database = await Database.connect(target.database_url, application_name="cutover-cli", max_size=2)
        try:
            return await bring_back(database, path, schema, without=frozenset(leave_out), say=say)
        finally:
            await database.close()

    with interruptible("nothing of it is seen yet; the same command goes on where it stopped"):
        done = asyncio.run(run())
    emit(done.as_json(), form)
    for note in done.notes:
        say(note, "yellow")
    say(f"{done.rows} rows are back with equal digests; {done.left_out} were deleted and stay so", "green")


def _target(tenant: str | None) -> Any:
    from cutover.cli.tenants import chosen

    found = chosen(tenant)
    if len(found) != 1:
        raise click.UsageError("There are several tenants: say which with --tenant.")
    return found[0]


def _follow(ops: "Ops", run: str) -> dict[str, Any]:
    moving, began = ProgressLine(), time.monotonic()
    while True:
        told: dict[str, Any] = ops.get(f"/api/v1/archive/{run}")
        if told["state"] != "running":
            moving.end()
            return told
        progress = told.get("progress") or {}
        step, rows, parts = progress.get("step", "waiting"), progress.get("rows", 0), progress.get("parts", 0)
        line = f"archive: {step}, {rows} rows in {parts} parts"
        if moving.moving and rows:
            line += f", {rows / (time.monotonic() - began):.0f} rows/s"
        moving.show(line)
        time.sleep(_POLL_SECONDS)
