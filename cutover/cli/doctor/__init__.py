"""`cutover doctor`: everything that can be checked from here, each with its remedy (decision 0031).

One module per subject; each gives findings, `run` bounds them in time, and the verb prints them, the worst first.
"""

import asyncio
from dataclasses import asdict

import click

from cutover.cli.doctor.finding import SIGNS, Finding, by_severity
from cutover.cli.failure import ERROR
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Verb

COLUMNS = ("status", "tenant", "check", "found", "remedy")
QUIET_COLUMNS = ("status", "tenant", "check", "found")


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
    if form == "table":
        well = [one for one in found if one.status == "pass"]
        unwell = [one for one in found if one.status != "pass"]
        if unwell:
            emit([asdict(one) for one in unwell], form, COLUMNS)
        if well:
            emit([asdict(one) for one in well], form, QUIET_COLUMNS)
    else:
        emit([asdict(one) for one in found], form, COLUMNS)
    number = {status: sum(one.status == status for one in found) for status in SIGNS}
    worst = next(status for status in SIGNS if number[status] or status == "pass")
    words = f"{len(found)} checks: {number['fail']} failing, {number['warn']} to look at"
    say(words + (f", {number['skip']} not knowable from here" if number["skip"] else ""), SIGNS[worst])
