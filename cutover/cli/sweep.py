"""`cutover sweep run|list|show`: compare the stores, and look at what earlier sweeps came to."""

import getpass
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click

from cutover.cli.failure import DIVERGENT, ERROR, CommandFailed
from cutover.cli.moments import moment, short
from cutover.cli.output import emit, narrow, output_option, say, tenant_option
from cutover.cli.progress import ProgressLine, interruptible
from cutover.cli.verb import Group

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

KINDS = ("count", "digest", "recall")
POLL_SECONDS = 0.5
LIST_COLUMNS = ("run", "kind", "outcome", "full", "started", "seconds", "rows", "found")
NARROW_COLUMNS = ("run", "kind", "outcome", "started", "found")
FOUND_COLUMNS = ("class", "state", "rows", "new")
_LONG = 600.0


@click.group(cls=Group)
def sweep() -> None:
    """Compare the two stores."""


@sweep.command(
    examples=(
        "cutover sweep run --kind count",
        "cutover sweep run --kind digest --full",
    ),
)
@click.option("--kind", type=click.Choice(KINDS), default="count", show_default=True, help="What is compared.")
@click.option("--full", is_flag=True, help="Digests: every row, not only what changed since the last sweep.")
@click.option("--no-wait", is_flag=True, help="Digests: start it and end; `cutover sweep show` says how it goes.")
@tenant_option
@output_option
def run(kind: str, full: bool, no_wait: bool, tenant: str | None, form: str) -> None:
    """Run a sweep and show what it came to.

    count: rows per side, and a cause for every difference. digest: every memory's content, place and provenance.
    recall: what both stores answer to recent reads. Exit code 3 when the stores differ, or when a digest sweep missed
    a planted fault and so cannot be trusted.
    """
    from cutover.cli.ops_client import Ops

    if kind != "digest" and (full or no_wait):
        raise click.UsageError("--full and --no-wait are for --kind digest.")
    with Ops(tenant=tenant, timeout=_LONG) as ops:
        body = {"kind": kind, "actor": getpass.getuser(), **({"full": True} if full else {})}
        with interruptible("the sweep goes on in the daemon; `cutover sweep list` shows what it comes to"):
            result = _asked(ops, body)
        if kind == "digest":
            if no_wait:
                emit(result, form)
                return
            result = _follow(ops, str(result["run"]))
    emit(result if form in ("json", "yaml") else shown_outcome(kind, result), form)
    _judge(kind, result)


def _asked(ops: "Ops", body: dict[str, Any]) -> dict[str, Any]:
    """The daemon's answer. That it cannot sweep now is an error, and no verdict on the stores."""
    try:
        told: dict[str, Any] = ops.post("/api/v1/sweeps", body)
    except CommandFailed as failed:
        failed.exit_code = ERROR if failed.exit_code == DIVERGENT else failed.exit_code
        raise
    return told


@sweep.command(
    "list",
    examples=(
        "cutover sweep list",
        "cutover sweep list --kind digest --limit 5",
    ),
)
@click.option("--kind", type=click.Choice(KINDS), help="Only this kind. Default: all, but of the counts the newest.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@tenant_option
@output_option
def list_(kind: str | None, limit: int, tenant: str | None, form: str) -> None:
    """List sweeps, newest first."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        wanted = [(kind, limit)] if kind else [("digest", limit), ("recall", limit), ("count", 1)]
        found = [one for each, most in wanted for one in _page(ops, each, most)]
    found.sort(key=lambda one: str(one["started_at"]), reverse=True)
    if form in ("json", "yaml"):
        emit(found[:limit], form)
        return
    emit([summary(one) for one in found[:limit]], form, NARROW_COLUMNS if narrow() else LIST_COLUMNS)
    if not found:
        say("no sweep has run yet: cutover sweep run --kind digest")


@sweep.command(
    examples=(
        "cutover sweep show             # the newest digest sweep",
        "cutover sweep show 6f1c1c1e-3c55-4c6e-9a0e-2f0f9b7f5b11",
    ),
)
@click.argument("run", type=click.UUID, required=False)
@tenant_option
@output_option
def show(run: object, tenant: str | None, form: str) -> None:
    """Show one sweep: outcome, coverage, where its time went, planted faults, findings by class.

    Without RUN, the newest digest sweep.
    """
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        if run is None:
            newest = _page(ops, "digest", 1)
            if not newest:
                raise CommandFailed("there is no digest sweep", "none has run yet", "cutover sweep run --kind digest")
            run = newest[0]["run"]
        told = ops.get(f"/api/v1/sweeps/{run}")
    if form in ("json", "yaml"):
        emit(told, form)
        return
    found = told.pop("found", [])
    told.pop("checkpoint", None)
    told.pop("parameters", None)
    outcome = shown_outcome(told["kind"], told.pop("outcome", None) or {})
    told["started_at"], told["finished_at"] = moment(told["started_at"]), moment(told["finished_at"])
    if buckets := told.pop("buckets", None):
        outcome["buckets"] = f"{buckets['differing_buckets']} of {buckets['buckets']} differed"
    emit({**{key: value for key, value in told.items() if value not in (None, {})}, **outcome}, form)
    if found:
        say("\nfound by it, and what became of that:")
        emit(found, form, FOUND_COLUMNS)
        say("cutover divergence list --groups shows the causes")


def _page(ops: "Ops", kind: str, limit: int) -> list[dict[str, Any]]:
    told = ops.get(f"/api/v1/sweeps?{urlencode({'kind': kind, 'limit': limit})}")
    return list(told["sweeps"])


def summary(one: dict[str, Any]) -> dict[str, Any]:
    """One line of the list."""
    outcome = one.get("outcome") or {}
    word = outcome.get("outcome") or one.get("state")
    if outcome.get("trusted") is False and word != "failed":
        word = f"{word}, untrusted"
    found = outcome.get("unexplained")
    if isinstance(seen := outcome.get("confirmed"), dict):
        found = sum(seen.values())
    elif isinstance(seen := outcome.get("visibility"), dict):
        found = sum(rows for direction, rows in seen.items() if direction != "expected")
    return {
        "run": one.get("run"),
        "kind": one.get("kind"),
        "outcome": word,
        "full": outcome.get("full"),
        "started": short(one.get("started_at")),
        "seconds": outcome.get("seconds"),
        "rows": outcome.get("expected_rows", outcome.get("legacy")),
        "found": found,
    }


def shown_outcome(kind: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome as a table shows it: lists of records are left to the other forms, a digest's figures put in words."""
    plain = {key: value for key, value in outcome.items() if value != "" and not (isinstance(value, list) and value)}
    if kind != "digest" or "canary" not in outcome:
        return plain
    shown = {key: plain[key] for key in _DIGEST_FIELDS if plain.get(key) is not None}
    shown["confirmed"], shown["accepted"] = counted(plain.get("confirmed")), counted(plain.get("accepted"))
    caught, planted = (sum(plain["canary"].get(each, {}).values()) for each in ("caught", "planted"))
    shown["planted faults"] = f"{caught} of {planted} caught, {plain['canary'].get('false_alarms', 0)} false alarms"
    shown["seconds"] = ", ".join(
        [f"{plain.get('seconds', 0):.2f}", *(f"{plain.get(key, 0):.2f} {words}" for key, words in _TIME_SPLIT.items())]
    )
    return shown


_DIGEST_FIELDS = (
    *("run", "outcome", "trusted", "why", "full", "phase", "coverage", "expected_rows", "plugin_rows", "compared"),
    *("confirmed", "accepted", "suspects", "in_flight", "mended"),
    *("via", "listed", "sampled_namespaces", "sampled", "not_findable", "bound_95"),
)
_TIME_SPLIT = {
    "seconds_database": "in the databases",
    "seconds_transfer": "on the way",
    "seconds_own": "here",
    "throttled_seconds": "at rest",
}


def counted(by_class: dict[str, int] | None) -> str:
    """`3 content, 1 namespace`, or `0`."""
    return ", ".join(f"{rows} {cls}" for cls, rows in sorted((by_class or {}).items())) or "0"


def _follow(ops: "Ops", run: str) -> dict[str, Any]:
    """Wait until the sweep has ended; on a terminal one line that moves, else a line for whatever is news."""
    line, began = ProgressLine(), time.monotonic()
    first: float | None = None
    with interruptible(f"the sweep goes on in the daemon; `cutover sweep show {run}` shows what it comes to"):
        while (told := ops.get(f"/api/v1/sweeps/{run}"))["state"] == "running":
            progress = told.get("progress") or {}
            first = progress.get("share") if first is None else first
            line.show(progress_line(progress, first or 0.0, time.monotonic() - began), news(progress))
            time.sleep(POLL_SECONDS)
    line.end()
    outcome: dict[str, Any] = told.get("outcome") or {}
    return {"run": run, **(outcome or {"outcome": told["state"]})}


def news(progress: dict[str, Any]) -> str:
    """What is worth a line where lines do not move: another tenth done, another reason to rest."""
    return f"{int(float(progress.get('share') or 0.0) * 10)} {progress.get('throttled') or ''} {bool(progress)}"


def progress_line(progress: dict[str, Any], first_share: float, seconds: float) -> str:
    """How far, how fast, how long still, and what holds it back. `first_share` was done `seconds` ago."""
    if not progress:
        return "digest: waiting for its turn"
    share = float(progress.get("share") or 0.0)
    line = f"digest {progress.get('compared', 0)} rows"
    if progress.get("full"):
        line = f"digest [{'#' * round(share * 20):<20}] {share:6.1%}  {progress.get('compared', 0)} rows"
        if first_share < share < 1:
            line += f"  {seconds * (1 - share) / (share - first_share):.0f} s to go"
    if rate := progress.get("rate_rows_per_second"):
        line += f"  {rate:.0f} rows/s"
    if suspects := progress.get("suspects"):
        line += f"  {suspects} suspect"
    if throttled := progress.get("throttled"):
        line += f"  resting: {throttled}"
    return line


def _judge(kind: str, result: dict[str, Any]) -> None:
    """The verdict in words, and the exit code that goes with it."""
    outcome, why = result.get("outcome"), result.get("why") or ""
    if kind == "digest" and result.get("trusted") is False and outcome != "failed":
        say(f"not trusted: {why or 'a planted fault was missed'}", "red")
        raise click.exceptions.Exit(DIVERGENT)
    if outcome == "clean" and kind == "digest" and result.get("full") is False:
        compared = result.get("compared", 0)
        say(f"clean: {compared} memories that were delivered since the last sweep hold the same; --full looks at all")
    elif outcome == "clean":
        accepted = sum((result.get("accepted") or {}).values())
        say(_CLEAN[kind] + (f"; {accepted} accepted differences aside" if accepted else ""), "green")
    elif outcome in ("partial", "not_applicable"):
        say(f"{outcome}: {why or 'not everything could be looked at, so this proves nothing about the rest'}", "yellow")
        if outcome == "partial" and kind != "recall" and result.get("via") != "contract":
            raise click.exceptions.Exit(DIVERGENT)  # whoever goes on with && must not take it for a proof
    elif outcome in ("drift", "divergent"):
        say(_DIFFERENT[kind].format(why=why), "red")
        raise click.exceptions.Exit(DIVERGENT)
    else:
        say(f"the sweep did not finish: {why or outcome}", "red")
        raise click.exceptions.Exit(ERROR)


_CLEAN = {
    "count": "clean: every difference has a cause",
    "digest": "clean: both stores hold the same, and every planted fault was seen",
    "recall": "clean: both stores answer alike",
}
_DIFFERENT = {
    "count": "drift: rows differ that no cause accounts for; cutover sweep run --kind digest names them",
    "digest": "divergent: the stores differ; cutover divergence list --groups shows the causes",
    "recall": "divergent: {why}",
}
