"""`cutover sweep run`: compare the stores now."""

import click

from cutover.cli.failure import DIVERGENT, ERROR
from cutover.cli.output import emit, output_option, say, tenant_option


@click.group()
def sweep() -> None:
    """Compare the two stores."""


@sweep.command()
@click.option("--kind", type=click.Choice(["count"]), default="count", show_default=True, help="What is compared.")
@tenant_option
@output_option
def run(kind: str, tenant: str | None, form: str) -> None:
    """Run a sweep and show the drift ledger. Exit code 3 when rows differ that no cause accounts for."""
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant, timeout=600.0) as ops:
        result = ops.post("/api/v1/sweeps", {"kind": kind})
    emit(result, form)
    outcome = result.get("outcome")
    if outcome == "clean":
        say("clean: every difference has a cause", "green")
    elif outcome == "partial":
        say("partial: the plugin's database cannot be looked at, so this proves nothing about rows", "yellow")
    elif outcome == "drift":
        say("drift: rows differ that no cause accounts for", "red")
        raise click.exceptions.Exit(DIVERGENT)
    else:
        say(f"the sweep did not finish: {outcome}", "red")
        raise click.exceptions.Exit(ERROR)
