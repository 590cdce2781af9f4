"""Values that the shell completes: what is in the daemon that runs, as far as it answers at once."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

_AT_ONCE = 1.0
"""Seconds. Nobody waits for a completion."""
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def tenants(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the daemon's tenants."""
    ctx.params.pop("tenant", None)
    return _asked(ctx, incomplete, lambda ops: [(one["name"], "") for one in ops.get("/api/v1/tenants")["tenants"]])


def certificates(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Beginnings of the newest certificates' hashes, each with what it is for."""
    return _asked(
        ctx,
        incomplete,
        lambda ops: [
            (made["hash"][:12], f"{made['phase']} to {made['target']}, {'void' if made['void'] else 'valid'}")
            for made in ops.get("/api/v1/phase/certificates")["certificates"]
        ],
    )


def procedures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the runbooks."""
    return _asked(
        ctx,
        incomplete,
        lambda ops: [(one["name"], one["title"]) for one in ops.get("/api/v1/procedures")["procedures"]],
    )


def _asked(ctx: click.Context, incomplete: str, ask: Callable[["Ops"], list[tuple[str, str]]]) -> list[CompletionItem]:
    from cutover.cli.ops_client import Ops

    found: list[tuple[str, str]] = []
    # Whatever goes wrong: words in the middle of a command line that somebody types are worse than no help.
    with suppress(Exception), Ops(tenant=_tenant(ctx), timeout=_AT_ONCE) as ops:
        found = ask(ops)
    return [CompletionItem(value, help=words or None) for value, words in found if value.startswith(incomplete)]


def _tenant(ctx: click.Context) -> Any:
    """The tenant that was named on the line already."""
    return ctx.params.get("tenant")
