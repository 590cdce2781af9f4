"""`make dev`: the embedded stack and the daemon, kept up until Ctrl-C, with what to try.

The tenant is the demo's; it is made afresh at every start and gone at the end. `CUTOVER_…` variables of the shell
reach the daemon, except where it listens.
"""

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres, EmbeddedPostgresError
from cutover.embedded.processes import ChildError, clean_environment
from cutover.embedded.sample import Sample, sample_database
from cutover.embedded.stack import Stack, running_stack

_LOGS = Path(".dev")
_LOOK_SECONDS = 0.5


def instructions(stack: Stack, sample: Sample) -> str:
    """Addresses and commands to paste."""
    seat = next(each for each in sample.seats if each.is_root)
    at, token, tenant = stack.daemon.at, stack.daemon.admin_token, tenant_name(stack)
    bearer = f"-H 'Authorization: Bearer {seat.token}'"
    body = '{"content":"the customer prefers mail","scope":"LOCAL"}'
    commit = '{"content":"from workspace-server","kind":"fact","source":"agent"}'
    name = seat.namespace("LOCAL")
    search = f'{{"namespaces":["{name}"],"query":"customer"}}'
    promote = '{"reason":"trying it out"}'
    memories = f"{at.memories}/workspaces/{seat.workspace_id}/memories"
    sections = {
        "addresses": [
            f"memories face  {at.memories}      plugin face  {at.plugin}",
            f"ops face       {at.ops}      (console: open it in a browser)",
            f"plugin itself  {stack.plugin_url}      logs: {_LOGS}/",
            f"database       {shlex.quote(stack.database_url)}",
        ],
        "callers": [
            f"curl -s {bearer} '{memories}?limit=3'",
            f"curl -si {bearer} -d '{body}' {memories}",
            f"curl -si -d '{commit}' {at.plugin}/v1/namespaces/{name}/memories",
            f"curl -s -d '{search}' {at.plugin}/v1/search",
        ],
        "operators": [
            f"curl -s {at.ops}/api/v1/status",
            f"curl -s {at.ops}/readyz/A1",
            f"curl -s -H 'Authorization: Bearer {token}' -d '{promote}' {at.ops}/api/v1/phase/promote",
            f"export CUTOVER_OPS_URL={at.ops} CUTOVER_ADMIN_TOKEN={token} CUTOVER_TENANT={tenant}   # cutover status",
            f"kill {stack.plugin.pid}   # the plugin: see what the faces say in A1",
        ],
    }
    return "\n".join(f"\n{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def tenant_name(stack: Stack) -> str:
    """What the daemon calls its tenant: verbs that read the settings themselves must call it the same."""
    return stack.daemon.child.environment["CUTOVER_TENANT"]


def _settings() -> dict[str, str]:
    ours = set(os.environ) - set(clean_environment())
    return {
        name: os.environ[name]
        for name in ours
        if name.startswith("CUTOVER_") and not name.endswith(("_LISTEN", "_TOKEN", "_FILE", "_CONFIG", "_OPS_URL"))
    }


async def serve(memories: int) -> int:
    """Start, print, wait for SIGINT or SIGTERM or the daemon's own end, stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        sample = await sample_database(postgres, "dev", memories=memories)
        async with running_stack(postgres, sample.url, settings=_settings(), logs=_LOGS) as stack:
            sys.stdout.write(f"{instructions(stack, sample)}\n\nCtrl-C stops everything.\n")
            sys.stdout.flush()
            return 0 if await watch(stack, stop, lambda words: sys.stderr.write(f"{words}\n")) else 1


async def watch(stack: Stack, stop: asyncio.Event, tell: Callable[[str], object]) -> bool:
    """Wait for `stop`, or for the daemon's own end, which gives False. Every child that dies is told, once a life."""
    told: set[str] = set()
    while not stop.is_set():
        for name, child in (("plugin", stack.plugin), ("daemon", stack.daemon.child)):
            if child.pid is not None:
                told.discard(name)
            elif name not in told:
                told.add(name)
                tell(f"the {name} ended with {child.exit_code}:\n{child.last_words()}".rstrip())
        if "daemon" in told:
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
    return True


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit code 0 after Ctrl-C, 1 when something did not start or ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m cutover.embedded.dev", description="The stack, kept up.")
    parser.add_argument("--memories", type=int, default=5_000, help="rows of the sample tenant")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(serve(options.memories))
    except (ChildError, EmbeddedPostgresError) as error:
        sys.stderr.write(f"the stack did not start: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
