"""Whose token is it? `/api/v1/whoami`: the name under which the daemon would put an action down."""

from collections.abc import Iterator

from aiohttp import web

from cutover.http.admins import Admins
from cutover.http.ops_control import NO_STORE, Served
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class OpsWhoami:
    """The route of `whoami`."""

    def __init__(self, admins: Admins) -> None:
        self._admins = admins

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "whoami", self.whoami

    async def whoami(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET whoami`: the name of the token that is sent; 401 and 403 as any change would be answered."""
        name = self._admins.who(call.request.headers.get("Authorization"))
        return json_response(200, {"name": name}, NO_STORE)
