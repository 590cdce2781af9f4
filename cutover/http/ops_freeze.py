"""The freeze on the ops face: `/api/v1/freeze`, `phase/scream-test`, `phase/refreeze` (architecture §6)."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field

from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_control import NO_STORE, ControlBody, Query, Served, authorised, parse_query
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response

LONGEST_SCREAM = 900
"""Seconds. A longer test is a freeze, and that is what A3 is for."""


class ScreamBody(ControlBody):
    """`POST phase/scream-test`."""

    seconds: int = Field(default=60, ge=1, le=LONGEST_SCREAM)
    reason: str = Field(default="scream test", min_length=1, max_length=1000)


class RefreezeBody(ControlBody):
    """`POST phase/refreeze`."""

    reason: str = Field(min_length=1, max_length=1000)


class FreezeQuery(Query):
    """`GET freeze`. `number`: of an earlier freeze; without it the last one."""

    number: int | None = Field(default=None, ge=1, le=2**62)


class OpsFreeze:
    """The routes."""

    def __init__(self, admins: Admins, cache: HealthCache) -> None:
        self._admins = admins
        self._cache = cache

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "freeze", self.show
        yield "POST", "phase/scream-test", self.scream
        yield "POST", "phase/scream-test/stop", self.stop
        yield "POST", "phase/refreeze", self.refreeze

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET freeze?number=`: what is frozen or was, whether it is intact, and whom it refused."""
        asked = parse_query(FreezeQuery, call)
        return json_response(200, await call.tenant.freeze.told(asked.number), NO_STORE)

    async def scream(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/scream-test` `{seconds?, reason?}`: freeze for everybody but the daemon (202); it ends by itself,
        and `GET freeze?number=` says who was refused."""
        who, body = await authorised(self._admins, call, ScreamBody)
        told = await call.tenant.freeze.scream(body.seconds, who, body.reason)
        return json_response(202, told, NO_STORE)

    async def stop(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/scream-test/stop`: end it before its time."""
        who, _ = await authorised(self._admins, call, ControlBody)
        return json_response(200, await call.tenant.freeze.stop_scream(who), NO_STORE)

    async def refreeze(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/refreeze` `{reason}`: make a freeze that was tampered with whole again."""
        who, body = await authorised(self._admins, call, RefreezeBody)
        told = await call.tenant.freeze.refreeze(who, body.reason)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)
