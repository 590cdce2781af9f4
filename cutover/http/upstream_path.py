"""Which path workspace-server is asked for. It belongs to the default tenant, and knows no tenant prefixes."""

from typing import Any

from aiohttp import web

from cutover.domain.errors import NotFound
from cutover.http.server import TENANT_PREFIX, Directory
from cutover.http.upstream import path_of

_PREFIX = TENANT_PREFIX.partition("{")[0]


def upstream_path(request: web.Request, tenants: Directory[Any]) -> str | None:
    """The path and query for the upstream, or None where the path names a tenant that has no upstream.

    Without one of our tenants' names in front it is the path as it came, byte for byte.
    """
    raw = path_of(request)
    if not raw.startswith(_PREFIX):
        return raw
    name, slash, rest = raw.removeprefix(_PREFIX).partition("/")
    try:
        tenant = tenants.get(name)
    except NotFound:
        return raw  # a route of the upstream's own
    default = tenants.default
    return slash + rest if default is not None and tenant.name == default.name else None
