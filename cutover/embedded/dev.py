"""`make dev`: the embedded stack and the daemon, kept up until Ctrl-C, with what to try.

The tenant is the demo's; it is made afresh at every start and gone at the end. `CUTOVER_…` variables of the shell
reach the daemon, except where it listens.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
from pathlib import Path

from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres, EmbeddedPostgresError
from cutover.embedded.processes import ChildError, clean_environment
from cutover.embedded.sample import Sample, sample_database
from cutover.embedded.stack import Stack, running_stack

_LOGS = Path(".dev")


def instructions(stack: Stack, sample: Sample) -> str:
    """Addresses and commands to paste."""
    seat = next(each for each in sample.seats if each.is_root)
    at, token = stack.daemon.at, stack.daemon.admin_token
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
            f"export CUTOVER_OPS_URL={at.ops} CUTOVER_ADMIN_TOKEN={token}   # then: cutover status",
            f"kill {stack.plugin.pid}   # the plugin: see what the faces say in A1",
        ],
    }
    return "\n".join(f"\n{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


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
            while not stop.is_set() and stack.daemon.child.pid is not None:
                try:
                    await asyncio.wait_for(stop.wait(), 0.5)
                except TimeoutError:
                    continue
            if stop.is_set():
                return 0
            sys.stderr.write(f"the daemon ended with {stack.daemon.child.exit_code}:\n")
            sys.stderr.write(stack.daemon.child.last_words())
            return 1


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
