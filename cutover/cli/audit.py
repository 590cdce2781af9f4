"""`cutover audit verify`: is the record of phase changes whole?"""

import click

from cutover.cli.failure import DIVERGENT
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Group


@click.group(cls=Group)
def audit() -> None:
    """Check the record of phase changes."""


@audit.command(
    examples=(
        "cutover audit verify",
        "cutover audit verify --head 55974722ae06c46bb8f13e2917ea0388afb980cc6154490197f202d2ca0a0287",
    ),
)
@click.option("--head", metavar="HASH", help="The hash of an event, noted earlier: it must still be in the record.")
@tenant_option
@output_option
def verify(head: str | None, tenant: str | None, form: str) -> None:
    """Compute the hash chain of all phase events again, and compare the newest with the phase row.

    Exit code 3 when it is broken; the first bad event is named, and whether it was changed, inserted, reordered, or one
    before it is missing. Note the head elsewhere: with --head a record that was written anew as a whole is found, too.
    """
    from cutover.cli.ops_client import Ops

    if head is not None and (len(head) != 64 or not set(head) <= set("0123456789abcdef")):
        raise click.UsageError("--head is 64 hexadecimal digits, as this command prints them.")
    with Ops(tenant=tenant) as ops:
        told = ops.get("/api/v1/audit" + (f"?head={head}" if head else ""))
    emit({key: value for key, value in told.items() if value not in (None, "") or form in ("json", "yaml")}, form)
    if not told["ok"]:
        where = f"event {told['event']}: " if told["event"] is not None else ""
        say(f"the record is broken: {where}{told['problem']}: {told['why']}", "red")
        raise click.exceptions.Exit(DIVERGENT)
    say(f"whole: {told['events']} events, and the phase row agrees", "green")
