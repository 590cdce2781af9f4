"""Whose browser may talk to the ops face: a page of somebody else's may not, not even through a name of its own.

There are no cookies, and a token is sent in a header by the page that was given it, so a forged request changes nothing
anyway. This refuses it a step earlier, and keeps a page that points its own name at 127.0.0.1 (DNS rebinding) from
reading. `curl` and the CLI send neither header that is looked at, and a name that is an address or `localhost`.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

from aiohttp import web

from cutover.domain.errors import Forbidden
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call, Handler, Route

Changed = Callable[[OpsTenant | None], None]
_READING = ("GET", "HEAD")


def guarded(route: Route[OpsTenant], changed: Changed) -> Route[OpsTenant]:
    """The same route behind the door. `changed` is told of every call that may have changed something."""
    return replace(route, handler=_behind(route.handler, changed))


def _behind(
    handler: Handler[OpsTenant], changed: Changed
) -> Callable[[Call[OpsTenant]], Awaitable[web.StreamResponse]]:
    async def entry(call: Call[OpsTenant]) -> web.StreamResponse:
        request = call.request
        refuse_foreign(
            request.method,
            host=request.headers.get("Host", ""),
            origin=request.headers.get("Origin"),
            site=request.headers.get("Sec-Fetch-Site"),
            here=_address(request),
        )
        if request.method in _READING:
            return await handler(call)
        try:
            return await handler(call)
        finally:
            changed(call.named_tenant)

    return entry


def refuse_foreign(method: str, *, host: str, origin: str | None, site: str | None, here: str | None) -> None:
    """Raises `Forbidden` for a request that a foreign page made. `here`: our own address on this connection; None on a
    unix socket. `site`: what the browser itself says of where the request comes from."""
    if here is not None and _is_loopback(here) and not _is_ours(host):
        raise Forbidden(
            "this listener is on a loopback address, and the request names another host",
            next_step="open it as http://127.0.0.1:PORT/; a proxy on this machine must send that as Host",
        )
    if method in _READING:
        return
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if foreign:
        raise Forbidden(
            "a page of another origin may not change anything here",
            next_step="use the console at / of this daemon, or the command line",
        )


def _address(request: web.Request) -> str | None:
    """Our own address on this connection."""
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return str(name[0]) if isinstance(name, tuple) else None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_ours(host: str) -> bool:
    """No name, an address, `localhost`, or a name without a dot: none of these can be a stranger's in the DNS."""
    name = urlsplit(f"//{host}").hostname if host else None
    if name is None or "." not in name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
