"""Who else is at `agent_memories`, on the ops face: `/api/v1/access` (architecture §6)."""

from collections.abc import Iterator

from aiohttp import web

from cutover.http.ops_control import NO_STORE, Served
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class OpsAccess:
    """The route of `access`."""

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "access", self.access

    async def access(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET access`: other writers and readers of the table, since when, and what to do about each."""
        return json_response(200, await call.tenant.access(), NO_STORE)
