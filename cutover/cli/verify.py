"""`cutover backfill --verify`: is everything copied, exactly? A line per workspace, and every mismatching id."""

import getpass
import time
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.failure import DIVERGENT, ERROR
from cutover.cli.output import emit, say
from cutover.cli.progress import ProgressLine, interruptible

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

_POLL_SECONDS = 0.5
_PAGE = 1000
_MISMATCH = ("id", "class", "namespace", "expected_length", "plugin_length")
_COLUMNS = ("workspace", "memories", "mismatches", "quarantined")


def verify(ops: "Ops", workspace: object, sample: int | None, form: str) -> None:
    """Have it verified, follow it, print what it came to; exits 3 on a mismatch, 1 when nothing could be proven."""
    asked: dict[str, Any] = {"actor": getpass.getuser()}
    if workspace:
        asked["workspace"] = str(workspace)
    if sample is not None:
        asked["sample"] = sample
    with interruptible("the verification goes on in the daemon and changes nothing; the same command begins another"):
        started = ops.post("/api/v1/verify", asked)
        told = _follow(ops, started["run"])
    if told.get("outcome") == "failed" or told.get("state") != "finished":
        say(f"the verification failed: {told.get('why') or told.get('state')}", "red")
        raise click.exceptions.Exit(ERROR)
    _show(ops, started["run"], told, form)
    if not told.get("trusted"):
        say(f"no evidence: {told.get('why')}", "red")
        raise click.exceptions.Exit(ERROR)
    if told.get("via") == "contract" and not told["mismatches"] and not told["suspects"]:
        say(f"no mismatch, but no proof either: {_extent(told)}", "yellow")
        return
    if told.get("outcome") != "clean":
        say(str(told.get("why") or f"{told['mismatches']} mismatches; {_remedy(ops)}"), "red")
        raise click.exceptions.Exit(DIVERGENT)
    quarantined = sum(each["quarantined"] for each in told.get("workspaces", ()))
    say(
        f"exact: {told['expected_rows']} memories expected, every one held as it should be, nothing else held"
        + (f"; {quarantined} more are in quarantine (cutover quarantine list)" if quarantined else ""),
        "green",
    )


def _extent(told: dict[str, Any]) -> str:
    """How much was seen through the contract, and what a sample leaves open."""
    words = f"{told['coverage']:.2%} of {told['expected_rows']} memories were looked at through the contract"
    if (bound := told.get("bound_95")) is not None:
        words += f"; with 95 % confidence at most {bound:.2%} of those in sampled namespaces differ"
    if lost := told.get("not_findable"):
        words += f"; {lost} could not be looked up"
    return words


def _remedy(ops: "Ops") -> str:
    if not ops.get("/api/v1/backfill").get("complete"):
        return "the backfill is not complete: cutover backfill --apply"
    return "cutover sweep run --kind digest --full puts them on record, cutover divergence repair delivers them again"


def _show(ops: "Ops", run: str, told: dict[str, Any], form: str) -> None:
    """Per workspace, then every mismatch. JSON and YAML get one document, so that it can be read by a program."""
    workspaces = [{name: each[name] for name in _COLUMNS} for each in told.get("workspaces", [])]
    found = list(_mismatches(ops, run)) if told.get("mismatches") else []
    if form in ("json", "yaml"):
        emit({**told, "mismatching": found}, form)
        return
    # A table of thousands of clean workspaces hides the one that is not.
    if workspaces:
        emit([each for each in workspaces if each["mismatches"]] or workspaces[:20], form)
    if len(workspaces) > 20 and not found:
        say(f"and {len(workspaces) - 20} more workspaces without a mismatch (-o json lists them all)")
    if found:
        emit([{name: each[name] for name in _MISMATCH} for each in found], form)


def _mismatches(ops: "Ops", run: str) -> Any:
    after = ""
    while True:
        page = ops.get(f"/api/v1/verify/{run}/mismatches?limit={_PAGE}{after}")
        yield from page["mismatches"]
        if page["next"] is None:
            return
        after = f"&after={page['next']}"


def _follow(ops: "Ops", run: str) -> dict[str, Any]:
    line = ProgressLine()
    while True:
        told: dict[str, Any] = ops.get(f"/api/v1/verify/{run}")
        if told.get("state") != "running":
            line.end()
            return told
        line.show(progress_line(told, rate=line.moving))
        time.sleep(_POLL_SECONDS)


def progress_line(told: dict[str, Any], *, rate: bool = True) -> str:
    """How far it is and what it waits for. Without `rate`, a line that changes only when something happened."""
    if waiting := told.get("waiting_for"):
        return f"verify: waiting, {waiting}"
    progress = told.get("progress") or {}
    line = f"verify: {progress.get('compared', 0)} compared"
    why = progress.get("throttled")
    if rate and not why and (pace := progress.get("rate_rows_per_second")):
        line += f", {pace:.0f} rows/s"
    if suspects := progress.get("suspects"):
        line += f", {suspects} differ at first look"
    if why:
        line += f" (waiting: {why})"
    return line
