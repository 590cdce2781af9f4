"""`cutover backfill`: copy what was there before A1, and watch it go."""

import getpass
import time
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.failure import DIVERGENT, ERROR
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.progress import ProgressLine, interruptible
from cutover.cli.verb import Verb

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

POLL_SECONDS = 0.5
RUNNING = ("running", "paused")
WAITS_FOR = {
    "operator": "somebody paused it; cutover backfill --resume lets it go on",
    "pause_file": "the file of --pause-file, or of CUTOVER_BACKFILL_PAUSE_FILE, is there",
    "plugin": "the plugin is not healthy",
    "breaker": "the plugin's breaker is not closed",
    "latency": "the plugin is slow, or callers wait for their turn",
    "backlog": "live changes wait for delivery",
    "queue": "as many marks wait for delivery as CUTOVER_BACKFILL_QUEUE allows",
    "rate": "--rate, or CUTOVER_BACKFILL_RATE",
    "row_locks": "somebody's transaction holds the next row",
    "database": "PostgreSQL did not answer in time; tried again with fewer rows",
    "delivering": "all is reached, the last marks are being delivered",
}
_LASTING = ("operator", "pause_file", "plugin", "breaker", "backlog", "row_locks", "database")
CONTROLS = ("pause", "resume", "abort")
_GOES_ON = (
    "the backfill goes on in the daemon; `cutover status --watch` shows how far it is, `cutover backfill --pause` holds"
    " it, `cutover backfill --abort` ends it"
)


@click.command(
    cls=Verb,
    examples=(
        "cutover backfill --dry-run            # how many, and what cannot be placed",
        "cutover backfill --apply --rate 500",
        "cutover backfill --pause              # at once; nobody is asked",
        "cutover backfill --verify -o json",
    ),
    asks=lambda given: given["apply"],
)
@click.option("--dry-run", is_flag=True, help="Count what would be copied and what cannot be placed.")
@click.option("--apply", is_flag=True, help="Copy. Run it again after any interruption: it goes on.")
@click.option("--verify", is_flag=True, help="Compare both stores exactly, memory by memory; copies nothing.")
@click.option("--pause", is_flag=True, help="Hold the one that runs.")
@click.option("--resume", is_flag=True, help="Let it go on.")
@click.option("--abort", is_flag=True, help="End it where it is; --apply goes on from there.")
@click.option(
    "--source",
    type=click.Choice(["memories", "kv"]),
    default="memories",
    help="What: memories, or the rows of workspace_memory (CUTOVER_KV=on). --verify looks at both.",
)
@click.option("--workspace", type=click.UUID, help="Only this workspace.")
@click.option(
    "--verify-sample",
    type=click.IntRange(min=1),
    help="With --verify, where the plugin's database cannot be reached: memories to look up per namespace above 100.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows.")
@click.option(
    "--via",
    type=click.Choice(["auto", "contract", "database"]),
    help="How: by SQL (database), over HTTP (contract), or by SQL where that is possible (auto).",
)
@click.option("--rate", type=click.FloatRange(min=0), help="At most so many rows per second; 0 for no bound.")
@click.option(
    "--pause-file", type=click.Path(path_type=str), help="Rest while this file is there, on the daemon's machine."
)
@click.option("--no-wait", is_flag=True, help="Start it and end; `cutover status` shows how it goes.")
@tenant_option
@yes_option
@output_option
def backfill(
    source: str,
    workspace: object,
    verify_sample: int | None,
    limit: int | None,
    via: str | None,
    rate: float | None,
    pause_file: str | None,
    no_wait: bool,
    tenant: str | None,
    yes: bool,
    form: str,
    **modes: bool,
) -> None:
    """Copy the memories that were there before A1: a live edit or delete always wins.

    Exit code 3 while anything of the tenant is in quarantine and not acknowledged, 1 when it failed.
    """
    from cutover.cli.ops_client import Ops
    from cutover.cli.verify import verify

    mode = _one_mode(modes)
    options = {"limit": limit, "via": via, "rate": rate, "pause_file": pause_file}
    _only_with_apply(mode, options)
    with Ops(tenant=tenant, timeout=120.0) as ops:
        if mode in CONTROLS:
            emit(ops.post(f"/api/v1/backfill/{mode}", {"actor": getpass.getuser()}), form)
            return
        if mode == "verify":
            verify(ops, workspace, verify_sample, form)
            return
        if mode == "apply":
            every = "every K/V row" if source == "kv" else "every memory"
            confirm(yes, f"This copies {'one workspace' if workspace else every} to the plugin.")
        body = {
            "mode": mode,
            "actor": getpass.getuser(),
            **({"source": source} if source != "memories" else {}),
            **({"workspace": str(workspace)} if workspace else {}),
            **{name: value for name, value in options.items() if value is not None},
        }
        if mode == "dry-run" or no_wait:
            emit(ops.post("/api/v1/backfill", body), form)
            return
        with interruptible(_GOES_ON):
            told = ops.post("/api/v1/backfill", body)
            say(f"via {told.get('via')}: {told.get('via_why')}")
            told = _follow(ops, told)
        quarantined = _quarantined(ops)
    emit({**told, "quarantine_blocking": quarantined}, form)
    if told.get("state") != "finished":
        say(f"the backfill {told.get('state')}: {told.get('why') or 'run it again, it goes on'}", "red")
        raise click.exceptions.Exit(ERROR)
    if quarantined:
        say(
            f"{quarantined} memories of the tenant cannot be placed and are not acknowledged: cutover quarantine list",
            "yellow",
        )
        raise click.exceptions.Exit(DIVERGENT)


def _one_mode(modes: dict[str, bool]) -> str:
    """The mode that was given; none and several are usage errors: the last of two must not win over a dry run."""
    given = [name.replace("_", "-") for name, on in modes.items() if on]
    if not given:
        raise click.UsageError("Give --dry-run, --apply or --verify (or --pause, --resume).")
    if len(given) > 1:
        raise click.UsageError(f"Give one of {' and '.join(f'--{name}' for name in given)}, not both.")
    return given[0]


def _only_with_apply(mode: str, options: dict[str, Any]) -> None:
    """An option that would be ignored is a mistake worth telling."""
    for name, value in options.items():
        if value is not None and mode != "apply":
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --apply.")


def _quarantined(ops: "Ops") -> int:
    """How many memories of the whole tenant are in quarantine, from whichever cause, and not acknowledged."""
    return int(ops.get("/api/v1/status").get("quarantine_blocking") or 0)


def _follow(ops: "Ops", told: dict[str, Any]) -> dict[str, Any]:
    """Poll until it has ended; on a terminal one line that moves, else a line for whatever is news."""
    line, last = ProgressLine(), (-1, "")
    while told.get("state") in RUNNING:
        last = news(told, last)
        line.show(progress_line(told), last)
        time.sleep(POLL_SECONDS)
        told = ops.get("/api/v1/backfill")
    line.end(progress_line(told))
    return told


def news(told: dict[str, Any], last: tuple[int, str]) -> tuple[int, str]:
    """Tenths done and what holds it back: where this differs from `last`, a line is due.

    Queue and rate come and go within a second, so that their end alone is no news; the end of a longer wait is.
    """
    tenth, reason = int(_share(told) * 10), str(told.get("throttled") or "")
    if not reason and tenth == last[0] and last[1] not in _LASTING:
        reason = last[1]
    return tenth, reason


def _share(told: dict[str, Any]) -> float:
    total = told.get("total") or 0
    return 1.0 if not total else min(1.0, max(0.0, 1.0 - (told.get("remaining") or 0) / total))


def progress_line(told: dict[str, Any]) -> str:
    """How far, how fast, how long still, and what holds it back."""
    share = _share(told)
    bar = "#" * round(share * 20)
    line = f"backfill [{bar:<20}] {share:6.1%}  {told.get('remaining', 0)} left"
    if rate := told.get("rate_rows_per_second"):
        line += f"  {rate:.0f} rows/s"
    if (eta := told.get("eta_seconds")) is not None and told.get("remaining"):
        line += f"  {eta:.0f} s to go"
    if throttled := told.get("throttled"):
        line += f"  held back by {throttled}"
        if why := WAITS_FOR.get(throttled):
            line += f" ({why})"
    return line
