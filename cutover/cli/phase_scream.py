"""`cutover phase scream-test` and `cutover phase refreeze`: find out who would break, and mend a freeze."""

import getpass
import time
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.failure import DIVERGENT
from cutover.cli.moments import moment
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.progress import interruptible
from cutover.cli.verb import Verb

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

_POLL_SECONDS = 1.0
_GOES_ON = (
    "agent_memories stays frozen until the time is over; `cutover phase scream-test --stop` ends it now and lists"
    " who was refused"
)
_COLUMNS = ("writer", "attempts", "first_seen", "last_seen")


@click.command(
    "scream-test",
    cls=Verb,
    examples=(
        "cutover phase scream-test --seconds 60 --reason 'who still writes?'",
        "cutover phase scream-test --stop       # at once; nobody is asked",
    ),
    asks=lambda given: not (given["dry_run"] or given["stop"]),
)
@click.option("--seconds", type=click.IntRange(1, 900), default=60, show_default=True, help="How long.")
@click.option("--reason", default="scream test", show_default=True, help="Why, for the record.")
@click.option("--stop", is_flag=True, help="End the test that is under way.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing.")
@tenant_option
@yes_option
@output_option
def scream_test(seconds: int, reason: str, stop: bool, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Freeze agent_memories for everybody but the daemon for a while, in A1 or A2, and list who broke.

    The freeze carries its own end, by the database's clock: it is over in time even if the daemon dies. Ends with 3
    when somebody's statement was refused.
    """
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        if dry_run:
            emit(_steps(seconds), form, ("step", "what"))
            return
        if stop:
            _report(ops.post("/api/v1/phase/scream-test/stop", {"actor": getpass.getuser()}), form)
            return
        confirm(
            yes,
            f"For {seconds} s every INSERT, UPDATE and TRUNCATE of agent_memories that is not the daemon's fails, with"
            " an error for its caller.",
        )
        body = {"seconds": seconds, "reason": reason, "actor": getpass.getuser()}
        with interruptible(_GOES_ON):
            told = ops.post("/api/v1/phase/scream-test", body)
            until = moment(told["freeze"]["until"])
            say(f"frozen until {until}Z; to end it earlier: cutover phase scream-test --stop", "yellow")
            told = _follow(ops, told)
        _report(told, form)


@click.command(
    cls=Verb,
    examples=(
        "cutover phase refreeze --reason 'an import had disabled it' --dry-run",
        "cutover phase refreeze --reason 'an import had disabled it'",
    ),
)
@click.option("--reason", required=True, help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Print what is wrong and change nothing.")
@tenant_option
@yes_option
@output_option
def refreeze(reason: str, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Make the freeze of agent_memories whole again after somebody changed it (A3).

    What was written meanwhile is not undone: look for it with a full digest sweep.
    """
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        wrong = ops.get("/api/v1/freeze")["faults"]
        if dry_run:
            emit([{"fault": each} for each in wrong], form, ("fault",))
            return
        confirm(yes, f"The freeze is made anew. Wrong with it: {'; '.join(wrong) or 'nothing'}.")
        told = ops.post("/api/v1/phase/refreeze", {"reason": reason, "actor": getpass.getuser()})
    emit({"intact": told["intact"], "number": told["freeze"]["number"], "mended": "; ".join(told["mended"])}, form)
    say("look for what was written meanwhile: cutover sweep run --kind digest --full", "yellow")


def _steps(seconds: int) -> list[dict[str, Any]]:
    steps = (
        "wait for the writers under way and freeze agent_memories: for others, INSERT, UPDATE and TRUNCATE fail",
        f"count and name the refused statements for {seconds} s; the freeze then ends by itself",
        "remove the triggers and list who was refused",
    )
    return [{"step": number, "what": what} for number, what in enumerate(steps, 1)]


def _follow(ops: "Ops", told: dict[str, Any]) -> dict[str, Any]:
    number, seen = told["freeze"]["number"], 0
    while not told["freeze"]["over"]:
        time.sleep(_POLL_SECONDS)
        told = ops.get(f"/api/v1/freeze?number={number}")
        for row in told["refused"][seen:]:
            say(f"refused: {row['writer']}")
        seen = max(seen, len(told["refused"]))
    return told


def _report(told: dict[str, Any], form: str) -> None:
    refused = told["refused"]
    if form in ("json", "yaml"):
        emit({"freeze": told["freeze"], "refused": refused}, form)
    elif refused:
        emit([{name: row[name] for name in _COLUMNS} for row in refused], form, _COLUMNS)
    if refused:
        total = sum(row["attempts"] for row in refused)
        say(f"{total} statements of {len(refused)} writers were refused: these must write through cutover first", "red")
        raise click.exceptions.Exit(DIVERGENT)
    say("nobody was refused", "green")
