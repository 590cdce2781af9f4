"""The console at `/`: where a tenant stands, what is in the way, and what to do about it.

The daemon writes the whole page, so it says the same with and without a script, and there is one place that escapes.
The script puts newer versions of `<main>` in place, which come as server-sent events, and makes the buttons work: they
send what the command line would send, with a token that lives in the page's memory only (decision 0029).
"""

import asyncio
from collections.abc import Iterable
from importlib import resources
from typing import Final
from urllib.parse import quote

from aiohttp import web

from cutover.domain.check import Status
from cutover.http.console_facts import Facts, Gathering
from cutover.http.console_headline import headline
from cutover.http.console_view import document, everybody, whole
from cutover.http.event_streams import EventStreams
from cutover.http.health_cache import HealthCache
from cutover.http.markup import Html
from cutover.http.ops_tenant import OpsTenant, OpsTenants
from cutover.http.server import Call, Handler, Route

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASSETS: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "actions.js": "text/javascript; charset=utf-8",
    "dialog.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "morph.js": "text/javascript; charset=utf-8",
    "session.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Everything the page asks for, by name: nothing else of the package can be had."""


class ConsolePage:
    """`/`, its streams, and what they need."""

    def __init__(self, tenants: OpsTenants, cache: HealthCache, streams: EventStreams) -> None:
        self._tenants = tenants
        self._gathering = Gathering(cache)
        self._streams = streams
        folder = resources.files("cutover.http").joinpath("console")
        self._assets = {name: folder.joinpath(name).read_bytes() for name in ASSETS}

    def routes(self) -> Iterable[Route[OpsTenant]]:
        """The default tenant's page, each tenant's, the list of all, the streams, and the assets."""
        yield Route("GET", "/", "console", self.page, scope="daemon", quiet=True)
        yield Route("GET", "/tenants/", "console", self.overview, scope="daemon", quiet=True)
        yield Route("GET", "/tenants/{tenant}/", "console", self.page, quiet=True)
        yield Route("GET", "/api/events", "events", self.events, scope="daemon", quiet=True)
        yield Route("GET", "/tenants/{tenant}/api/events", "events", self.events, quiet=True)
        for name in ASSETS:
            yield Route("GET", f"/console/{name}", "console", self._asset(name), scope="daemon", quiet=True)

    def changed(self, tenant: OpsTenant | None) -> None:
        """Somebody may have changed something: look again at once."""
        if tenant is not None:
            self._gathering.forget(tenant.name)

    async def page(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """The tenant's page; without a tenant, the list of them."""
        tenant = call.named_tenant
        if tenant is None:
            return await self.overview(call)
        prefix = f"/tenants/{quote(tenant.name, safe='')}"
        names = [each.name for each in self._tenants]
        return _html(
            document(tenant.name, await self._main(tenant), base=prefix, events=f"{prefix}/api/events", names=names)
        )

    async def overview(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """All tenants, a card each."""
        events = "/api/events" if self._tenants.default is None else ""
        names = [each.name for each in self._tenants]
        return _html(document("", await self._all(), base="", events=events, names=names))

    async def events(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET /api/events`: `<main>` whenever it changed."""
        tenant = call.named_tenant

        async def look() -> str:
            return await (self._all() if tenant is None else self._main(tenant))

        return await self._streams.serve(call, look)

    async def _main(self, tenant: OpsTenant) -> Html:
        return whole(await self._gathering.facts(tenant, several=self._several))

    async def _all(self) -> Html:
        several = self._several
        # All at once: ten tenants whose databases hang take no longer than one.
        facts = await asyncio.gather(*(self._gathering.facts(tenant, several=several) for tenant in self._tenants))
        return everybody(sorted(facts, key=_worst_first))

    @property
    def _several(self) -> bool:
        return len(list(self._tenants)) > 1

    def _asset(self, name: str) -> Handler[OpsTenant]:
        headers = {**SECURITY_HEADERS, "Content-Type": ASSETS[name]}

        async def asset(call: Call[OpsTenant]) -> web.StreamResponse:
            return web.Response(body=self._assets[name], headers=headers)

        return asset


def _worst_first(facts: Facts) -> tuple[int, str]:
    told = headline(facts)
    order = {Status.FAIL: 0, Status.WARN: 1, Status.PASS: 2}
    return min(order[told.healthy.status], order[told.lost.status]), facts.tenant


def _html(page: Html) -> web.Response:
    return web.Response(
        body=page.encode("utf-8", "replace"), headers={**SECURITY_HEADERS, "Content-Type": "text/html; charset=utf-8"}
    )
