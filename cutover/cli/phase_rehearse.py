"""`cutover phase rehearse-rollback`: would A3 go back to A2 without loss, and how long would it take?"""

import getpass
import time
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.progress import ProgressLine, interruptible
from cutover.cli.verb import Verb

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

_POLL_SECONDS = 0.3
_IDLE = 5
"""Polls without anything under way: then nothing will come."""
_GOES_ON = (
    "the rehearsal goes on in the daemon, on a copy; `cutover phase rehearse-rollback --show` shows what it comes to"
)
_STEPS = (
    "copy rows of agent_memories and the journal into the schema cutover_rehearsal",
    "invent writes over some of them, and write down what must come of each",
    "replay them there with the functions that the way back will run",
    "compare every column of every row, record the result, drop the schema",
)


@click.command(
    "rehearse-rollback",
    cls=Verb,
    examples=(
        "cutover phase rehearse-rollback --yes",
        "cutover phase rehearse-rollback --show   # how the last one went",
    ),
    asks=lambda given: not (given["dry_run"] or given["show"]),
)
@click.option("--show", is_flag=True, help="Only show how the last one went.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@tenant_option
@yes_option
@output_option
def rehearse_rollback(show: bool, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Rehearse the way back from A3 to A2 on a copy, and record how long it took. A3 asks for one of the last days.

    Ends with 3 when a row was not what it should be. Nothing of the tenant's is changed.
    """
    if dry_run:
        emit([{"step": number, "what": what} for number, what in enumerate(_STEPS, 1)], form, ("step", "what"))
        return
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        if not show:
            confirm(yes, "A part of agent_memories is copied into a scratch schema of the tenant's database.")
            with interruptible(_GOES_ON):
                run = ops.post("/api/v1/phase/rehearsal", {"actor": getpass.getuser()})["run"]
                _follow(ops, run)
        last: dict[str, Any] | None = ops.get("/api/v1/phase/rehearsal")["last"]
    if last is None:
        say("the way back has not been rehearsed yet: cutover phase rehearse-rollback", "yellow")
        raise click.exceptions.Exit(DIVERGENT)
    emit(last, form)
    if not last["ok"]:
        say(f"the rehearsal failed: {last['why']}", "red")
        raise click.exceptions.Exit(DIVERGENT)
    part = "every row" if last["whole"] else f"{last['rows']} rows, a part of all"
    say(
        f"lossless: {last['words'] + last['invented']} words were replayed over {part} in {last['seconds']:.1f} s,"
        f" {last['held_seconds']:.2f} s of it as writes would be held",
        "green",
    )


def _follow(ops: "Ops", run: str) -> None:
    """Until this run has ended."""
    line, idle = ProgressLine(), 0
    while idle < _IDLE:
        told = ops.get("/api/v1/phase/rehearsal")
        if (told["last"] or {}).get("run") == run:
            line.end()
            return
        doing = told["doing"]
        idle = 0 if doing else idle + 1
        if doing:
            line.show(f"rehearsal: {doing}")
        time.sleep(_POLL_SECONDS)
    raise CommandFailed(
        "the rehearsal ended without a result",
        "the daemon was restarted, or another daemon of this tenant rehearses",
        "cutover phase rehearse-rollback",
    )
