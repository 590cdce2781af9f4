"""`cutover phase thaw`: let others write agent_memories again after the way back, without a clean sweep."""

import getpass

import click

from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.verb import Verb

_STEPS = ("record who lets go and why", "let everybody write agent_memories again", "remove the triggers of the freeze")


@click.command(
    cls=Verb,
    examples=("cutover phase thaw --reason 'the sweep cannot run, ticket 4711'",),
)
@click.option("--reason", required=True, help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Print the ordered steps and change nothing.")
@tenant_option
@yes_option
@output_option
def thaw(reason: str, dry_run: bool, tenant: str | None, yes: bool, form: str) -> None:
    """Let others write agent_memories again after the way back, though no sweep has found it clean.

    A last resort: the daemon does this by itself as soon as a full digest sweep is clean.
    """
    if dry_run:
        emit([{"step": number, "what": what} for number, what in enumerate(_STEPS, 1)], form, ("step", "what"))
        return
    from cutover.cli.ops_client import Ops

    with Ops(tenant=tenant) as ops:
        confirm(yes, "Others write agent_memories again, though no sweep has found it clean since the way back.")
        told = ops.post("/api/v1/phase/thaw", {"reason": reason, "actor": getpass.getuser()})
    emit(told, form)
    if told.get("was_in_the_way"):
        say(told["was_in_the_way"], "yellow")
