"""`cutover dev`: an embedded PostgreSQL with a sample tenant, the plugin and the daemon, to try things on."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cutover.cli.failure import ERROR
from cutover.cli.output import say
from cutover.cli.verb import Verb

if TYPE_CHECKING:
    from cutover.embedded.sample import Sample
    from cutover.embedded.stack import Stack


@click.command(
    cls=Verb,
    examples=(
        "cutover dev",
        "cutover dev --memories 5000 --logs logs",
    ),
)
@click.option("--memories", type=click.IntRange(min=100), default=1000, show_default=True, help="Rows to start with.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Keep the children's logs here.")
def dev(memories: int, logs: Path | None) -> None:
    """Keep the embedded stack up until Ctrl-C, and print where it listens and what to try.

    Needs the extra `embedded`. Nothing is kept: the database goes when this ends.
    """
    from cutover.cli.failure import CommandFailed
    from cutover.embedded.postgres import EmbeddedPostgresError
    from cutover.embedded.processes import ChildError

    try:
        stopped = asyncio.run(_keep_up(memories, logs))
    except (EmbeddedPostgresError, ChildError) as error:
        why = " ".join(str(error).split())
        raise CommandFailed("the stack did not come up", why, "run it again with --logs DIR and read them") from None
    say("everything is down again")
    if not stopped:
        raise click.exceptions.Exit(ERROR)


async def _keep_up(memories: int, logs: Path | None) -> bool:
    """Whether it went on until somebody stopped it; False: the daemon ended by itself."""
    from cutover.embedded.dev import watch
    from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
    from cutover.embedded.sample import sample_database
    from cutover.embedded.stack import running_stack

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        sample = await sample_database(postgres, "dev", memories=memories)
        async with running_stack(postgres, sample.url, logs=logs) as stack:
            click.echo(_what_to_try(stack, sample))
            say("up; Ctrl-C ends it")
            return await watch(stack, stop, lambda words: say(words, "red"))


def _what_to_try(stack: "Stack", sample: "Sample") -> str:
    from cutover.embedded.dev import tenant_name

    seat = sample.seats[0]
    at = stack.daemon.at
    auth = f"-H 'Authorization: Bearer {seat.token}'"
    memories = f"{at.memories}/workspaces/{seat.workspace_id}/memories"
    return f"""
database       {sample.url}
plugin         {stack.plugin_url}
plugin face    {at.plugin}      set workspace-server's MEMORY_PLUGIN_URL to it
memories face  {at.memories}
ops face       {at.ops}      metrics at /metrics, health at /readyz

in another terminal:
  export CUTOVER_OPS_URL={at.ops} CUTOVER_ADMIN_TOKEN={stack.daemon.admin_token}
  export DATABASE_URL='{sample.url}' MEMORY_PLUGIN_URL={stack.plugin_url} CUTOVER_TENANT={tenant_name(stack)}
  cutover status
  cutover phase promote            # A0 to A1: from now on every write goes to both stores
  curl -s {auth} {memories} -d '{{"content":"hello","scope":"LOCAL"}}'
  curl -s {auth} '{memories}?q=hello'
  cutover phase promote            # A1 to A2
  cutover backfill --apply
  cutover sweep run --kind count
  cutover doctor
"""
