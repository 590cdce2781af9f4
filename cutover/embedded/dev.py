"""What `cutover dev` needs beside the stack itself: the tenant's name, and an eye on the children."""

import asyncio
import contextlib
from collections.abc import Callable

from cutover.embedded.stack import Stack

_LOOK_SECONDS = 0.5


def tenant_name(stack: Stack) -> str:
    """What the daemon calls its tenant: verbs that read the settings themselves must call it the same."""
    return stack.daemon.child.environment["CUTOVER_TENANT"]


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
