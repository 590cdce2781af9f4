"""The hold before the drop on the ops face: `/api/v1/drop` (architecture §7)."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field

from cutover.http.admins import Admins
from cutover.http.ops_control import NO_STORE, ControlBody, Served, authorised
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class DropBody(ControlBody):
    """`POST drop/start` and `drop/cancel`."""

    reason: str = Field(min_length=1, max_length=1000)


class OpsDrop:
    """The routes of `drop`."""

    def __init__(self, admins: Admins) -> None:
        self._admins = admins

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "drop", self.show
        yield "POST", "drop/start", self.start
        yield "POST", "drop/cancel", self.cancel

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET drop`: where it stands, what depends on the table, every step so far."""
        return json_response(200, await call.tenant.drops.show(), NO_STORE)

    async def start(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST drop/start` `{reason}`: begin the hold again after it was called off."""
        who, body = await authorised(self._admins, call, DropBody)
        return json_response(200, await call.tenant.drops.start(who, body.reason), NO_STORE)

    async def cancel(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST drop/cancel` `{reason}`: the table gets its name back, still frozen."""
        who, body = await authorised(self._admins, call, DropBody)
        return json_response(200, await call.tenant.drops.cancel(who, body.reason), NO_STORE)
