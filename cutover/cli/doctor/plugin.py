"""The plugin, over its contract: is it there, can it do what is needed, is its clock right?"""

import time
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime

from cutover.cli.doctor.finding import Finding, finding

SECONDS = 3.0
_LARGEST_DIFFERENCE = 3.0
"""Seconds: two that matter, and one that a header `Date` leaves open."""


async def look(tenant: str, url: str, now: Callable[[], float] = time.time) -> AsyncIterator[Finding]:
    """Findings about the plugin at `url`; never raises."""
    from cutover.domain.checks.plugin import CONTRACT_MAJOR, REQUIRED_CAPABILITIES
    from cutover.domain.errors import CutoverError
    from cutover.stores.plugin import PluginClient
    from cutover.tenant_settings import masked_url

    shown = masked_url(url)
    async with PluginClient(url) as client:
        before = now()
        try:
            health = await client.health(timeout=SECONDS)
        except CutoverError as error:
            remedy = f"start the plugin at {shown}, or point MEMORY_PLUGIN_URL at it: curl -m 3 {shown}/v1/health"
            yield Finding(tenant, "plugin", "fail", error.message, remedy)
            return
        after = now()
        date = client.date
    lacking = sorted(REQUIRED_CAPABILITIES - set(health.capabilities))
    yield finding(tenant, "plugin", health.status == "ok", f"reachable, status {health.status}", "see the plugin's log")
    yield finding(
        tenant,
        "plugin version",
        health.version.partition(".")[0] == CONTRACT_MAJOR,
        f"contract {health.version[:32]}",
        f"deploy a plugin that speaks contract version {CONTRACT_MAJOR}.x",
    )
    yield finding(
        tenant,
        "plugin capabilities",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else ", ".join(sorted(health.capabilities)) or "none needed",
        f"deploy a plugin with {', '.join(lacking)}: without it searches find nothing from A3 on",
    )
    yield _clock(tenant, date, (before + after) / 2)


def _clock(tenant: str, date: str | None, here: float) -> Finding:
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return Finding(tenant, "plugin clock", "skip", "not told: the plugin's answer has no header Date")
    # A header Date is cut to the second: on average half of one is missing.
    difference = there + 0.5 - here
    well = abs(difference) <= _LARGEST_DIFFERENCE
    words = (
        f"as ours, within {_LARGEST_DIFFERENCE:g} s" if well else f"the plugin's clock differs by {difference:+.0f} s"
    )
    return finding(tenant, "plugin clock", well, words, "on both machines: timedatectl set-ntp true", otherwise="warn")
