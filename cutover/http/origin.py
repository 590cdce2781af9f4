"""Whose browser may talk to the ops face: a page of somebody else's may not, not even through a name of its own.

There are no cookies, and a token is sent in a header by the page that was given it, so a forged request changes nothing
anyway. This refuses it a step earlier, and keeps a page that points its own name at our address (DNS rebinding) from
reading: on every listener that is not a unix socket, for every route, a request must name an address, `localhost`, a
name without a dot, or one of `CUTOVER_OPS_HOSTS`. `curl`, the CLI, probes and scrapers send such a name, and neither of
the other headers that are looked at.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import web

from cutover.domain.errors import Forbidden
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call, Handler, Route

Changed = Callable[[OpsTenant | None], None]
_READING = ("GET", "HEAD")


def guarded(route: Route[OpsTenant], changed: Changed, hosts: Collection[str] = ()) -> Route[OpsTenant]:
    """The same route behind the door. `changed` is told of every call that may have changed something; `hosts`: the
    names of ours (see `is_ours`)."""
    return replace(route, handler=_behind(route.handler, changed, hosts))


def _behind(
    handler: Handler[OpsTenant], changed: Changed, hosts: Collection[str]
) -> Callable[[Call[OpsTenant]], Awaitable[web.StreamResponse]]:
    async def entry(call: Call[OpsTenant]) -> web.StreamResponse:
        request = call.request
        refuse_foreign(
            request.method,
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
            site=request.headers.get("Sec-Fetch-Site"),
            hosts=None if _on_a_unix_socket(request) else hosts,
        )
        if request.method in _READING:
            return await handler(call)
        try:
            return await handler(call)
        finally:
            changed(call.named_tenant)

    return entry


def refuse_foreign(
    method: str, *, host: str, origin: str | None, site: str | None, hosts: Collection[str] | None
) -> None:
    """Raises `Forbidden` for a request that a foreign page made. `hosts`: the names of ours; None: whatever the request
    names (a unix socket, which no browser reaches). `site`: what the browser itself says of where it comes from."""
    if hosts is not None and not is_ours(host, hosts):
        raise Forbidden(
            "the request names a host that is not known to be this daemon's",
            next_step="open it by its address, or add the name to CUTOVER_OPS_HOSTS",
        )
    if method in _READING:
        return
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and origin.lower().partition("://")[2] != host.lower()
    if foreign:
        raise Forbidden(
            "a page of another origin may not change anything here",
            next_step="use the console at / of this daemon, or the command line",
        )


def _on_a_unix_socket(request: web.Request) -> bool:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return not isinstance(name, tuple)


def is_ours(host: str, hosts: Collection[str]) -> bool:
    """Whether a `Host` header can be no stranger's: none, an address, `localhost`, a name without a dot (the DNS of the
    world has none), or one of `hosts`, where `.example.com` stands for every name below it."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:  # `[`
        return False
    if name is None:
        return not host
    name = name.rstrip(".")
    if "." not in name or name.endswith(".localhost"):
        return True
    known = (each.lower() for each in hosts)
    if any(name.endswith(each) if each.startswith(".") else name == each for each in known):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
