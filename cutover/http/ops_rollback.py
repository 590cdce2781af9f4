"""The way back on the ops face: `/api/v1/phase/rehearsal` and `phase/thaw` (architecture §6)."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field

from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_control import NO_STORE, ControlBody, Served, authorised
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class ThawBody(ControlBody):
    """`POST phase/thaw`."""

    reason: str = Field(min_length=1, max_length=1000)


class OpsRollback:
    """The routes of the rehearsal and of the thaw."""

    def __init__(self, admins: Admins, cache: HealthCache) -> None:
        self._admins = admins
        self._cache = cache

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "POST", "phase/rehearsal", self.start
        yield "GET", "phase/rehearsal", self.show
        yield "POST", "phase/thaw", self.thaw

    async def start(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/rehearsal` `{}`: 202 with the run, which `GET phase/rehearsal` then follows."""
        who, _ = await authorised(self._admins, call, ControlBody)
        run = await call.tenant.rehearsals.request(who)
        return json_response(202, {"run": str(run)}, NO_STORE)

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase/rehearsal`: what is under way (`doing`), and the last that ended (`last`)."""
        told = await call.tenant.rehearsals.status()
        if not told["doing"]:
            self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)

    async def thaw(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/thaw` `{reason}`: let others write agent_memories again, without a clean sweep."""
        who, body = await authorised(self._admins, call, ThawBody)
        told = await call.tenant.thaw.by_hand(who, body.reason)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)
