"""`cutover access`: who else reads and writes agent_memories."""

import click

from cutover.cli.moments import age
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Verb

COLUMNS = ("what", "name", "operation", "count", "first_seen", "last_seen", "next")


@click.command(
    cls=Verb,
    examples=(
        "cutover access",
        "cutover access -o json",
    ),
)
@tenant_option
@output_option
def access(tenant: str | None, form: str) -> None:
    """Show who writes agent_memories past the daemon (from A1 on), and who else reads it (A3 and A4)."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        told = ops.get("/api/v1/access")
    if form in ("json", "yaml"):
        emit(told, form)
        return
    emit([{"what": what, **each} for what in ("writes", "reads") for each in told[what]["by"]], form, COLUMNS)
    for what in ("writes", "reads"):
        one = told[what]
        if one["watched_seconds"]:
            say(f"{what}: watched for {age(one['watched_seconds'])}, none for {age(one['clean_seconds'])}")
        else:
            say(f"{what}: not watched in this phase")
