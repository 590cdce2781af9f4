"""`cutover doctor`: everything that can be checked from here, each with its remedy (decision 0031).

One module per subject; each gives findings, `run` bounds them in time, and the verb prints them, the worst first.
"""

import asyncio
import os
import shutil
import sys
import textwrap
from dataclasses import asdict

import click

from cutover.cli.doctor.finding import EVERYBODY, SIGNS, Finding, by_severity
from cutover.cli.failure import ERROR
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Verb
from cutover.cli.visible import visible

COLUMNS = ("status", "tenant", "check", "found", "remedy")
_INDENT = " " * 6


@click.command(
    cls=Verb,
    examples=(
        "cutover doctor",
        "cutover doctor --tenant acme -o json",
    ),
)
@tenant_option
@output_option
def doctor(tenant: str | None, form: str) -> None:
    """Check settings, databases, plugins, clocks, disks and daemons; print what to type where something is not well.

    Exit code 1 when something fails, 0 with warnings only. It changes nothing, and it takes 15 s at most, whatever
    does not answer.
    """
    from cutover.cli.doctor.run import examine
    from cutover.cli.ops_url import environment

    with asyncio.Runner() as runner:
        found = by_severity(runner.run(examine(environment(), tenant)))
        # Printed before the runner closes: it waits for a name server that some look is still asking.
        _show(found, form)
    if any(one.status == "fail" for one in found):
        raise click.exceptions.Exit(ERROR)


def _show(found: list[Finding], form: str) -> None:
    unwell = [one for one in found if one.status != "pass"]
    if form != "table" or not unwell:
        emit([asdict(one) for one in found], form, COLUMNS if form != "table" else COLUMNS[:-1])
    else:
        _tell(unwell, [one for one in found if one.status == "pass"])
    number = {status: sum(one.status == status for one in found) for status in SIGNS}
    worst = next(status for status in SIGNS if number[status] or status == "pass")
    words = f"{len(found)} checks: {number['fail']} failing, {number['warn']} to look at"
    say(words + (f", {number['skip']} not knowable from here" if number["skip"] else ""), SIGNS[worst])


def _tell(unwell: list[Finding], well: list[Finding]) -> None:
    """What is not well, one below the other: a command is a line of its own, never broken, so that it can be copied."""
    width = min(shutil.get_terminal_size().columns, 120) if sys.stdout.isatty() else 120
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for one in unwell:
        sign = click.style(one.status, fg=SIGNS[one.status], bold=True) if coloured else one.status
        about = "" if one.tenant == EVERYBODY else f"  (tenant {one.tenant})"
        click.echo(f"{sign}  {one.check}{about}")
        click.echo(textwrap.fill(visible(one.found), width, initial_indent=_INDENT, subsequent_indent=_INDENT))
        if one.remedy:
            click.echo(f"{_INDENT}next: {visible(one.remedy)}")
    elsewhere = {one.check for one in unwell}  # of another tenant, say
    names = ", ".join(dict.fromkeys(one.check for one in well if one.check not in elsewhere)) or "nothing"
    click.echo(textwrap.fill(f"pass  {names}", width, subsequent_indent=_INDENT, break_on_hyphens=False))
