"""`cutover status`: every tenant at a glance."""

import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from cutover.cli.failure import UNREACHABLE, CommandFailed
from cutover.cli.moments import age
from cutover.cli.output import emit, flatten, output_option, say, tenant_option
from cutover.cli.verb import Verb
from cutover.domain.duration import spoken

if TYPE_CHECKING:
    from cutover.cli.ops_client import Ops

COLUMNS = (
    *("tenant", "phase", "epoch", "traffic", "plugin", "marks", "oldest", "unexplained", "digest", "divergent"),
    *("quarantined", "backfill", "override", "drop", "others"),
)


@click.command(
    cls=Verb,
    examples=(
        "cutover status",
        "cutover status --watch      # again and again until Ctrl-C",
        "cutover status --tenant acme -o json",
    ),
)
@click.option("--watch", is_flag=True, help="Show it again and again until interrupted.")
@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds, with --watch."
)
@tenant_option
@output_option
def status(watch: bool, interval: float, tenant: str | None, form: str) -> None:
    """Show every tenant at a glance. `-o json` has everything the daemon tells."""
    from cutover.cli.ops_client import Ops

    seen = False
    with Ops(tenant=tenant) as ops:
        while True:
            try:
                told = [ops.get("/api/v1/status")] if tenant else _everyone(ops)
                _ = [one["tenant"] for one in told]  # else it is somebody else who answers
            except CommandFailed as error:
                if not seen or error.exit_code != UNREACHABLE:
                    raise
                # It is being restarted, say; whoever watches wants to see it come back.
                say(f"{time.strftime('%H:%M:%S')} {error.message}: {error.why}; trying again", "yellow")
                time.sleep(interval)
                continue
            seen = True
            if watch and sys.stdout.isatty():
                click.clear()
            _show(told, form)
            if not watch:
                return
            say(time.strftime("%H:%M:%S"))
            time.sleep(interval)


def _everyone(ops: "Ops") -> list[dict[str, Any]]:
    from cutover.cli.ops_client import Unreadable

    try:
        names = [one["name"] for one in ops.get("/api/v1/tenants")["tenants"]]
    except TypeError:
        raise Unreadable("its list of tenants is none: is this cutover's ops face?") from None
    return [ops.get(f"/api/v1/tenants/{quote(name, safe='')}/status") for name in names]


def _show(tenants: list[dict[str, Any]], form: str) -> None:
    if form in ("json", "yaml"):
        emit(tenants, form)
    else:
        emit([summary(one) for one in tenants], form, COLUMNS)


def summary(one: dict[str, Any]) -> dict[str, Any]:
    """One line of the table from what the daemon tells about a tenant; what is missing stays a dash."""
    flat = flatten(one)
    plugin = flat.get("plugin.up")
    why = flat.get("plugin.why") or ""
    backfill = flat.get("backfill.state") or flat.get("backfill")
    if (remaining := flat.get("backfill.remaining")) and backfill:
        backfill = f"{backfill}, {remaining} left"
    return {
        "tenant": one.get("tenant") or one.get("name"),
        "phase": one.get("phase"),
        "epoch": one.get("epoch"),
        "traffic": f"refused: {flat['refusing.reason']}" if "refusing.reason" in flat else "served" if one else None,
        "plugin": None if plugin is None else "up" if plugin else f"down: {why}" if why else "down",
        "marks": flat.get("marks.total"),
        "oldest": None if flat.get("marks.oldest_seconds") is None else f"{flat['marks.oldest_seconds']:.0f} s",
        "unexplained": flat.get("drift.unexplained"),
        "digest": _digest(one.get("digest")),
        "divergent": _divergent(one.get("divergences")),
        "quarantined": flat.get("quarantined"),
        "backfill": backfill,
        "override": (one.get("override") or {}).get("why"),
        "drop": _drop(one.get("drop")),
        "others": _others(one.get("access")),
    }


def _drop(told: dict[str, Any] | None) -> str | None:
    """In A4: how long agent_memories is held, or what became of it; `cutover drop show` says more."""
    if not told or told["state"] == "none":
        return None
    left = told.get("remaining_seconds")
    return f"{told['state']}, {spoken(left)} left" if left else str(told["state"])


def _digest(last: dict[str, Any] | None) -> str | None:
    """The last digest sweep's verdict and its age."""
    if not last:
        return None
    word = "untrusted" if last.get("trusted") is False else last.get("outcome")
    return f"{word}, {age(last.get('age_seconds'))}"


def _others(access: dict[str, Any] | None) -> str | None:
    """How many others write and read agent_memories; `cutover access` names them."""
    if access is None:
        return None
    found = [f"{len(access[what])} {what}" for what in ("writers", "readers") if access.get(what)]
    return ", ".join(found) or "none"


def _divergent(found: dict[str, Any] | None) -> str | None:
    """Confirmed differences, and how old the oldest is."""
    if found is None:
        return None
    rows = sum((found.get("confirmed") or {}).values())
    return f"{rows}, {age(found.get('oldest_seconds'))}" if rows else "0"
