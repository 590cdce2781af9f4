"""`cutover retire`: the move is over; what it needed is removed, the archive is kept."""

import asyncio
from typing import TYPE_CHECKING

import click

from cutover.cli.failure import DIVERGENT, CommandFailed
from cutover.cli.output import confirm, emit, output_option, say, tenant_option, yes_option
from cutover.cli.verb import Verb

if TYPE_CHECKING:
    from cutover.stores.retire import Survey

BEFORE = (
    "before: point MEMORY_PLUGIN_URL of workspace-server at the plugin again, restart it, and stop the daemon;"
    " what it keeps in schema cutover is not needed by anybody then"
)


@click.command(
    cls=Verb,
    examples=(
        "cutover retire --dry-run       # what would go, and what is in the way",
        "cutover retire --yes",
    ),
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed and what is in the way; change nothing.")
@click.option("--gone", multiple=True, metavar="PATH", help="An archive that nobody has any more.")
@tenant_option
@yes_option
@output_option
def retire(dry_run: bool, gone: tuple[str, ...], tenant: str | None, yes: bool, form: str) -> None:
    """Remove our triggers and schema cutover from a tenant whose agent_memories has been dropped. Archives are kept.

    Which memories were deleted is written beside every archive first, so that a restore leaves them out; archives must
    be where they were made, unless --gone says that nobody has one any more.

    Works on the database itself: the daemon must have been stopped, so that nobody depends on it any more. Exit code
    3 when something is in the way.
    """
    from cutover.cli.tenants import chosen

    found = chosen(tenant)
    if len(found) != 1:
        raise click.UsageError("There are several tenants: say which with --tenant.")
    seen = asyncio.run(_on(found[0].database_url, frozenset(gone), remove=False))
    if dry_run or seen.open:
        emit(seen.as_json(), form)
    if seen.open:
        what = "the tenant cannot be retired now"
        raise CommandFailed(what, "; ".join(seen.open), BEFORE.removeprefix("before: "), DIVERGENT)
    if dry_run:
        say(BEFORE, "yellow")
        return
    say(BEFORE, "yellow")
    say("to be removed: " + ", ".join(f"trigger {each}" for each in seen.triggers))
    say(f"and schema cutover with {len(seen.tables)} tables: " + ", ".join(seen.tables))
    say("kept: " + (", ".join(seen.archives) or "no archive was made"))
    confirm(yes, f"This ends the move of {found[0].name} for good: phases, journal and record go with schema cutover.")
    seen = asyncio.run(_on(found[0].database_url, frozenset(gone), remove=True))
    emit(seen.as_json(), form)
    say("retired", "green")


async def _on(url: str, gone: frozenset[str], *, remove: bool) -> "Survey":
    from cutover.stores import retire as store
    from cutover.stores.database import Database

    database = await Database.connect(url, application_name="cutover-cli", max_size=1)
    try:
        return await (store.retire(database, gone) if remove else store.survey(database, gone))
    finally:
        await database.close()
