"""The memories face put together: v1's routes, the MCP bridge, and behind them the pass-through to workspace-server."""

from aiohttp import web

from cutover.domain.errors import NotFound
from cutover.domain.events import Observer
from cutover.http.auth import WorkspaceAuth
from cutover.http.errors import v1_shape
from cutover.http.limits import Limits
from cutover.http.mcp import McpBridge
from cutover.http.memories_face import MemoriesFace, ServedTenant
from cutover.http.server import Call, Directory, Face, Route
from cutover.http.upstream import Upstream
from cutover.http.upstream_path import upstream_path


def build(
    tenants: Directory[ServedTenant],
    auth: WorkspaceAuth,
    observer: Observer,
    *,
    upstream: Upstream | None = None,
    limits: Limits | None = None,
) -> Face[ServedTenant]:
    """The face, not yet listening. Stopping it ends its streams; the `upstream` stays the caller's to close."""
    bridge = McpBridge(auth, tenants, upstream)
    routes = [*MemoriesFace(auth).routes(), *bridge.routes()]
    if upstream is not None:
        routes.append(Route("*", "/{path:.*}", "pass_through", _PassThrough(tenants, upstream).answer, scope="daemon"))
    face = Face("memories", tenants, routes, v1_shape, observer, limits)
    face.closing.append(bridge.end_streams)
    if upstream is not None:
        face.closing.append(upstream.end_streams)
    return face


class _PassThrough:
    """Everything that is no memory route, whatever its method and path."""

    def __init__(self, tenants: Directory[ServedTenant], upstream: Upstream) -> None:
        self._tenants = tenants
        self._upstream = upstream

    async def answer(self, call: Call[ServedTenant]) -> web.StreamResponse:
        path = upstream_path(call.request, self._tenants)
        if path is None:
            raise NotFound("no such route")
        return await self._upstream.forward(call.request, path=path)
